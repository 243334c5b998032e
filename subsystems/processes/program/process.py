"""The handle through which a program speaks. Each of its calls is a syscall in the log."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pydantic import BaseModel, JsonValue

from ....kernel.errors import Refused
from ...llm.messages import Completion, ToolCall
from ...policy.messages import Bounds, Mode, Written
from ...quota.messages import Quota
from ...storage.messages import Memory, Page, Pid, ProcessClass, ProcessRecord
from ...tools.messages import Reconciled, ToolError
from .. import clock, devices, flow, memory, peers, thinking, waits
from ..bounds import within_bounds
from ..conflicts import in_order
from ..doubt import Outcome
from ..messages import Origin, Signal, Spawn
from ..transcript import Transcript
from .classes import Program
from .definition import Invocation
from .reference import Child, ProcessRef
from .spawning import state_of

if TYPE_CHECKING:
    from ..live import Live
    from ..service import Processes

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Process:
    """A program's view of itself and the world.

    Touch the world only through it: what it returns is what the log will return when the
    program is resumed. Syscalls on one path come one after another; use `parallel` for more.
    """

    __slots__ = ("_live", "_said", "_service")

    def __init__(self, service: "Processes", live: "Live", said: Transcript) -> None:
        self._service, self._live, self._said = service, live, said

    @property
    def pid(self) -> Pid:
        """The process's number."""
        return self._live.record.pid

    @property
    def tenant(self) -> str:
        """Who pays."""
        return self._live.record.tenant

    @property
    def user(self) -> str:
        """For whom it works, of the tenant's users; "" where that is nobody in particular."""
        return self._live.record.user

    @property
    def asking(self) -> "Processes":
        """Who puts this process's requests."""
        return self._service

    @overload
    async def think(
        self,
        prompt: str | None = None,
        *,
        tools: Sequence[str] | None = (),
        found: Sequence[str] = (),
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Completion: ...
    @overload
    async def think(
        self,
        prompt: str | None = None,
        *,
        schema: type[M],
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> M: ...
    async def think(
        self,
        prompt: str | None = None,
        *,
        schema: type[BaseModel] | None = None,
        tools: Sequence[str] | None = (),
        found: Sequence[str] = (),
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Completion | BaseModel:
        """Let the model go on with this process's context.

        `prompt` and reply become pages of the context. `tools` names the tools the model may
        ask for (None: all there are, or where those are too many the tool that finds them, with
        those it has `found`); asking for one is up to you: `await self.call(call)`.
        With a `schema` the reply is that type's object. `model` is an address, "llm.fast".
        Raises ModelError, ContextOverflow, BadReply.
        """
        turn = thinking.Turn(
            self._service, self._live, prompt, schema, tools, found, model, max_tokens, temperature
        )
        work = within_bounds(self._service, self._live, turn.work)
        completion: Completion = await self._said.syscall("think", turn.said, work, Completion)
        return completion if schema is None else thinking.fitting(schema, completion.text)

    async def note(
        self, text: str, *, pinned: bool = False, role: Literal["user", "system"] = "user"
    ) -> None:
        """Add a page to the context; a pinned one stays near its front."""
        page = Page(role=role, text=text, pinned=pinned)
        await self._said.syscall("note", (text, pinned, role), partial(thinking.noted, page))

    @overload
    async def call(self, tool: ToolCall, /) -> JsonValue: ...
    @overload
    async def call(self, tool: str, /, **arguments: Any) -> Any: ...
    async def call(self, tool: str | ToolCall, /, **arguments: Any) -> Any:
        """Run a tool by name, or one that the model asked for.

        The model's becomes a page of the context, also when it fails. Of an argument that is a
        `SecretStr`, only the tool sees what it is: the log's fingerprint is the same whatever
        it says. Raises ToolError.
        """
        asked = tool if isinstance(tool, ToolCall) else None
        name, given = (asked.name, asked.arguments) if asked else (str(tool), arguments)
        use = devices.Use(self._service, self._live, name, given, asked)
        work = within_bounds(self._service, self._live, use.work)
        return await self._said.syscall(
            f"call:{name}", given, work, failed=use.failed, recovery=use.recovery
        )

    async def attempt(self, tool: ToolCall, /) -> JsonValue:
        """Run a tool the model asked for; a failure or a refusal is text for it to read."""
        try:
            return await self.call(tool)
        except (ToolError, Refused) as error:
            return f"error: {error}"

    async def attempt_all(self, tools: Sequence[ToolCall], /) -> list[JsonValue]:
        """Run all that the model asked for in one reply, side by side; the results in order.

        Those that touch the same thing run in the order the model gave, if one changes it.
        """
        return await self.parallel(*await in_order(self._service, self._live, tools, self.attempt))

    async def remember(self, text: str, *, tags: Sequence[str] = ()) -> None:
        """Keep a text for every process of this tenant, to be recalled."""
        await memory.remember(self._service, self._live, self._said, text, tags)

    async def recall(
        self, query: str = "", *, tags: Sequence[str] = (), limit: int = 10
    ) -> tuple[Memory, ...]:
        """What this tenant's processes remembered, by tags and by the words and the meaning of
        the query; best match first. Raises EmbeddingError.
        """
        return await memory.recall(self._service, self._live, self._said, query, tags, limit)

    async def spawn(
        self,
        what: Invocation[T] | Program[T],
        /,
        *,
        key: str | None = None,
        name: str = "",
        role: str = "",
        tags: Sequence[str] = (),
        process_class: ProcessClass | None = None,
        priority: int | None = None,
        bound: bool = False,
        quota: Quota | None = None,
        mode: Mode | None = None,
        capabilities: Sequence[Written] | None = None,
    ) -> ProcessRef[T]:
        """Start a child, of this process's class, priority, tenant and user unless said otherwise.

        It goes on when this process ends, unless it is `bound`: then it is sent TERM. What its
        `quota` lends it, it uses of this process's. A `mode` and `capabilities` leave it less
        than this process may do, never more.

        Awaiting the child is a syscall: `await self.wait(child)` or `await child`.
        """
        own = self._live.record
        request = Spawn(
            program=what.definition,
            state_json=state_of(what),
            key=key,
            name=name,
            role=role,
            tags=tuple(tags),
            process_class=process_class or own.process_class,
            priority=own.priority if priority is None else priority,
            tenant=own.tenant,
            user=own.user,
            parent=own.pid,
            bound=bound,
            quota=quota,
            bounds=Bounds.of(mode, capabilities),
        )
        pid = await peers.spawn(self._service, self._said, request)
        return Child(self, pid, what.definition.result)

    async def wait(self, child: ProcessRef[T], /) -> T:
        """Wait for a process to end. Raises ProcessFailed."""
        work = partial(waits.end, self._service, self._live, child.pid)
        return child.result_of(await self._said.syscall("wait", child.pid, work, ProcessRecord))

    async def kill(
        self,
        child: ProcessRef[Any],
        signal: Signal = "TERM",
        *,
        grace_s: float = 5.0,
        group: bool = False,
    ) -> None:
        """Send a signal to another process, to a `group` with all its descendants."""
        await peers.kill(self._service, self._said, child.pid, signal, grace_s, group)

    async def send(self, to: ProcessRef[Any] | int, body: JsonValue, /) -> None:
        """Put a letter into another process's mailbox, exactly once."""
        pid = Pid(to if isinstance(to, int) else to.pid)
        await peers.send(self._service, self._said, pid, body)

    def receive(self) -> Coroutine[Any, Any, Any]:
        """The next letter of this process's mailbox, in order; waits for one."""
        return self._said.syscall("receive", None, self._receive)

    def _receive(self, origin: Origin) -> Coroutine[Any, Any, Outcome]:
        return waits.letter(self._service, self._live, origin)

    async def ask(
        self, text: str, *, choices: Sequence[str] = (), deadline_s: float | None = None
    ) -> str:
        """Ask a human and wait for the answer, one of `choices` where there are any.

        Raises TimeoutError when there is none after `deadline_s` seconds.
        """
        said = (text, tuple(choices), deadline_s)
        work = partial(waits.human, self._service, self._live, self._said, *said)
        return str(await self._said.syscall("ask", said, work))

    async def sleep(self, seconds: float, /) -> None:
        """Do nothing for so long, wherever it runs then; when that ends is in the log."""
        await clock.sleep(self._service, self._live, self._said, seconds)

    async def sleep_until(self, moment: float, /) -> None:
        """Do nothing until then, in seconds since 1970."""
        await clock.sleep_until(self._service, self._live, self._said, moment)

    async def cron(self, expression: str, /, *, zone: str = "UTC") -> float:
        """Do nothing until the next time the expression names, "0 9 * * 1-5"; gives that time.

        In seconds since 1970; `zone` is a time zone's name. What was missed while nothing ran
        is made up for once. Raises ValueError for what is no such expression or zone.
        """
        return await clock.cron(self._service, self._live, self._said, expression, zone)

    async def now(self) -> float:
        """Seconds since 1970, the same again on resume."""
        return await clock.now(self._said)

    async def random(self) -> float:
        """A number in [0, 1), the same again on resume."""
        return await clock.chance(self._said)

    async def run_once(
        self,
        name: str,
        work: Callable[[], Awaitable[Any]],
        /,
        *,
        reconcile: Callable[[], Awaitable[Reconciled]] | None = None,
    ) -> Any:
        """Run your own code outside the kernel and journal what it returned (JSON data).

        Was it cut by a crash, `reconcile` is asked what became of it: `done(result)`,
        `not_done` or `unknown`. Without one the process stops, for a human to say.
        """
        return await devices.run_once(self._service, self._said, name, work, reconcile)

    async def checkpoint(self, **changes: Any) -> None:
        """From here on a resume begins the program anew, with these arguments changed.

        Of a `Program`, its step, with these fields changed. Nothing that was said before is
        replayed any more, so what it has led to must be in the changes, the context, the memory.
        When this returns, it is on the disk. Not within `parallel`, `race` or `timeout`.
        """
        await self._said.turn(changes)

    async def parallel(self, *work: Coroutine[Any, Any, T]) -> list[T]:
        """Run syscalls side by side; the results in order. The first error ends the others."""
        with self._said.place("parallel", *work) as key:
            return await flow.parallel(self._said, key, work)

    async def race(self, *work: Coroutine[Any, Any, T]) -> T:
        """Run syscalls side by side until the first is done; the others are cancelled."""
        with self._said.place("race", *work) as key:
            return await flow.race(self._said, key, work)

    async def timeout(self, seconds: float, work: Coroutine[Any, Any, T], /) -> T:
        """Give a syscall so many seconds. Raises TimeoutError, again on resume."""
        with self._said.place("timeout", work) as key:
            return await flow.timeout(self._said, key, seconds, work)
