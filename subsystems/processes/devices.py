"""Devices: what a program does outside of the kernel, with a tool or by code of its own."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from ...kernel.secrets import keep
from ..llm.messages import ToolCall
from ..storage.messages import AddPage, Commit, Intend, Page, Write
from ..tools.messages import CallTool, FindTools, OutcomeLost, Reconcile, Reconciled
from .doubt import Outcome, Recovery, Testimony, lost
from .messages import Origin
from .results import Questions, result_page

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes
    from .transcript import Transcript


class Use:
    """One use of a tool. What the model has `asked` for becomes a page, also when it fails."""

    __slots__ = ("_arguments", "_asked", "_live", "_name", "_service")

    def __init__(
        self,
        service: "Processes",
        live: "Live",
        name: str,
        arguments: dict[str, Any],
        asked: ToolCall | None,
    ) -> None:
        self._service, self._live, self._name, self._asked = service, live, name, asked
        self._arguments = arguments if asked else _revealed(arguments)

    @property
    def recovery(self) -> Recovery:
        """How it finds out what became of it."""
        return Recovery(self.ask, self.told)

    async def work(self, origin: Origin) -> Outcome:
        """Its result."""
        (found,) = await self._service.request(FindTools(names=(self._name,)))
        call = CallTool(
            name=self._name,
            arguments=self._arguments,
            tool_effect=found.effect,
            key=self._key(origin),
        )
        sink = Questions(self._service, self._live, origin)
        try:
            value = await self._service.request(call, to=found.address, origin=origin, sink=sink)
        except OutcomeLost as error:
            if found.effect == "once":
                raise lost(self._live, origin, str(error)) from error
            raise
        return self.told(value, origin.key)

    def told(self, value: Any, key: str) -> Outcome:
        """The result, and its page."""
        page = self._asked and result_page(value, key, self._asked.id)
        return value, (AddPage(page=page),) if page else ()

    def failed(self, error: Exception) -> tuple[Write, ...]:
        """The page of an error."""
        if self._asked is None:
            return ()
        page = Page(role="tool", text=f"error: {error}", tool_call_id=self._asked.id)
        return (AddPage(page=page),)

    async def ask(self, origin: Origin) -> Testimony:
        """What the tool says of a call that was cut."""
        (found,) = await self._service.request(FindTools(names=(self._name,)))
        if not found.reconciles:
            return Testimony()
        reconcile = Reconcile(name=self._name, key=self._key(origin))
        said = await self._service.request(reconcile, to=found.address)
        return Testimony(said, found.refuses_repeats)

    def _key(self, origin: Origin) -> str:
        return f"{self._live.record.pid}/{origin.key}"


def _revealed(value: Any) -> Any:
    """With the secrets in it as plain text, which from now on is never shown."""
    if isinstance(value, SecretStr):
        return keep(value.get_secret_value())
    if isinstance(value, dict):
        return {key: _revealed(inner) for key, inner in value.items()}
    return [_revealed(inner) for inner in value] if isinstance(value, list | tuple) else value


async def run_once(
    service: "Processes",
    said: "Transcript",
    name: str,
    code: Callable[[], Awaitable[Any]],
    reconcile: Callable[[], Awaitable[Reconciled]] | None,
) -> Any:
    """What the program's own code returns; `reconcile` says what became of it, if it was cut."""

    async def work(origin: Origin) -> Outcome:
        await _intend(service, origin)
        return await code(), ()

    async def ask(origin: Origin) -> Testimony:
        return Testimony() if reconcile is None else Testimony(await reconcile())

    recovery = Recovery(ask, lambda value, key: (value, ()))
    return await said.syscall(f"run_once:{name}", None, work, recovery=recovery)


async def _intend(service: "Processes", origin: Origin) -> None:
    """What is done outside of the kernel without a call that the journal would see."""
    assert origin.pid is not None
    intent = Intend(key=origin.key, kind=origin.kind, fingerprint=origin.fingerprint, effect="once")
    await service.request(Commit(pid=origin.pid, epoch=origin.epoch, writes=(intent,)))
