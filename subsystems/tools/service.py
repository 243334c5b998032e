"""Tools: a set of them around each driver, and the directory that finds them all."""

from pydantic import JsonValue, PositiveInt

from ...kernel.call import here
from ...kernel.errors import BootError
from ...kernel.message import Event
from ...kernel.service import Service, handles, subscribes
from .driver import (
    ChatMessage,
    Offer,
    Previews,
    Prompts,
    Reconciles,
    Remote,
    ToolDriver,
    ToolSpec,
)
from .host import ToolsetHost
from .messages import (
    FINDER,
    TOOL_CHANGES,
    CallTool,
    FindTools,
    GetPrompt,
    InspectTools,
    Known,
    ListPrompts,
    ListTools,
    OfferTools,
    Preview,
    Prompt,
    Reconcile,
    Reconciled,
    Standing,
    Tool,
    ToolCalled,
    ToolFailed,
    UnknownTool,
    unknown,
)

ALL = "all"
"""Under this the directory knows every tool by name."""


class Toolset(Service, name="tools", driver="tools"):
    """One set of tools, around one driver; each has an address of its own ("tools.files")."""

    def __init__(self, driver: ToolDriver) -> None:
        self._driver = driver

    async def start(self) -> None:
        await self._driver.start()
        if isinstance(self._driver, Remote):
            self.start_soon(self._driver.keep, ToolsetHost(self), name=f"{self.address}.driver")
            await self._driver.ready()

    async def stop(self) -> None:
        await self._driver.stop()

    @handles(InspectTools)
    async def inspect(self, request: InspectTools) -> Standing:
        return self._driver.standing() if isinstance(self._driver, Remote) else Standing()

    @handles(ListPrompts)
    async def list_prompts(self, request: ListPrompts) -> tuple[Prompt, ...]:
        return await self._driver.prompts() if isinstance(self._driver, Prompts) else ()

    @handles(GetPrompt)
    async def get_prompt(self, request: GetPrompt) -> tuple[ChatMessage, ...]:
        if not isinstance(self._driver, Prompts):
            raise ToolFailed(f"{self.address} has no prompts")
        return await self._driver.prompt(request.name, request.arguments)

    @handles(ListTools)
    async def list_tools(self, request: ListTools) -> tuple[Tool, ...]:
        offers = await self._driver.offers()
        return tuple(map(self._tool, offers))

    def _tool(self, offer: Offer) -> Tool:
        return Tool(
            spec=offer.spec,
            effect=offer.effect,
            address=self.address,
            reconciles=offer.reconciles,
            refuses_repeats=offer.refuses_repeats,
            touches=offer.touches,
        )

    @handles(CallTool)
    async def call(self, request: CallTool) -> JsonValue:
        if not self.bus.hears(ToolCalled):
            return await self._driver.call(request.name, request.arguments, request.key)
        began, error = self.bus.time(), None
        try:
            return await self._driver.call(request.name, request.arguments, request.key)
        except BaseException as raised:
            error = type(raised).__name__ if isinstance(raised, Exception) else "cancelled"
            raise
        finally:
            await self._tell(request, error, self.bus.time() - began)

    async def _tell(self, request: CallTool, error: str | None, seconds: float) -> None:
        call = here()
        await self.publish(
            ToolCalled(
                caller=str((call and call.origin) or "app"),
                address=self.address,
                name=request.name,
                error=error,
                seconds=seconds,
            )
        )

    @handles(Reconcile)
    async def reconcile(self, request: Reconcile) -> Reconciled:
        if not isinstance(self._driver, Reconciles):
            return unknown
        return await self._driver.reconcile(request.name, request.key)

    @handles(Preview)
    async def preview(self, request: Preview) -> str:
        if not isinstance(self._driver, Previews):
            return ""
        return await self._driver.preview(request.name, request.arguments)


class Toolbox(Service, name="toolbox", needs_at_start=[ListTools]):
    """The directory of all tools. It asks every toolset once, until one of them changes.

    It asks at start too: two tools of one name are an error of the configuration. Specs that
    come to more than `budget_tokens` are not all shown to a model, which finds them instead.
    """

    def __init__(self, budget_tokens: PositiveInt = 4000) -> None:
        self._budget = budget_tokens
        self._known = Known[str, dict[str, Tool]]()

    async def start(self) -> None:
        await self._learn()

    @handles(FindTools)
    async def find(self, query: FindTools) -> tuple[Tool, ...]:
        known = self._known.get(ALL)
        if known is None:
            known = await self._learn()
        if query.names is None:
            return tuple(known.values())
        try:
            return tuple([known[name] for name in sorted(set(query.names))])
        except KeyError as error:
            raise UnknownTool.among(error.args[0], known) from None

    @handles(OfferTools)
    async def offer(self, request: OfferTools) -> tuple[ToolSpec, ...]:
        known = {tool.name: tool.spec for tool in await self.find(FindTools())}
        finder = known.pop(FINDER, None)
        if finder is None or sum(map(_tokens, known.values())) <= self._budget:
            return tuple(known.values())
        told = f"{finder.description} There are {len(known)}: {', '.join(known)}"
        wanted = dict.fromkeys(name for name in request.found if name in known)
        return (finder.model_copy(update={"description": told}), *map(known.__getitem__, wanted))

    async def _learn(self) -> dict[str, Tool]:
        return await self._known.learn(ALL, self._ask())

    async def _ask(self) -> dict[str, Tool]:
        """Every tool by name, sorted."""
        found: dict[str, Tool] = {}
        for address in self.addresses(ListTools):
            for tool in await self.request(ListTools(), to=address):
                if tool.name in found:
                    raise _clash(found[tool.name], tool)
                found[tool.name] = tool
        return dict(sorted(found.items()))

    @subscribes(*TOOL_CHANGES)
    async def on_change(self, event: Event) -> None:
        self._known.forget()


def _tokens(spec: ToolSpec) -> int:
    """What it costs in a prompt, about: four characters a token."""
    return len(spec.model_dump_json()) // 4


def _clash(one: Tool, other: Tool) -> BootError:
    return BootError(
        f"{one.address!r} and {other.address!r} both have a tool named {one.name!r}; "
        "models know a tool by its name only: rename one, or leave one toolset out"
    )
