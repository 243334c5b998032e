"""The handle through which a program speaks. Each of its calls is a syscall in the log."""

import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pydantic import BaseModel, JsonValue, SecretStr, ValidationError

from ...kernel.errors import KernelError, Refused
from ...kernel.secrets import keep
from ..llm.messages import Complete, Completion, Sampling, ToolCall, ToolSpec
from ..memory.messages import Recall, Remember
from ..pager.messages import Render
from ..policy.messages import Mode, Written
from ..quota.messages import OverBudget, Quota
from ..storage.messages import (
    AddMemory,
    AddPage,
    CloseQuestion,
    Memory,
    Page,
    Pid,
    PostLetter,
    ProcessClass,
    ProcessRecord,
    Write,
)
from ..tools.messages import (
    CallTool,
    FindTools,
    OfferTools,
    OutcomeLost,
    Reconcile,
    Reconciled,
    ToolError,
)
from . import births, flow, waits
from .approval import within_policy
from .budget import within_quota
from .conflicts import Order
from .doubt import Outcome, Recovery, Testimony, Work, lost
from .messages import Kill, Origin, Signal
from .results import Questions, result_page
from .transcript import Transcript

if TYPE_CHECKING:
    from .live import Live
    from .program import Invocation, ProcessRef, Program
    from .service import Processes

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_AS_CONFIGURED = Sampling()


class BadReply(KernelError):
    """The model's reply does not fit the schema. `text` is what it said."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"the model's reply does not fit the schema: {reason}; it said: {text}")
        self.text = text


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
    def asking(self) -> "Processes":
        """Who puts this process's requests."""
        return self._service

    # Thinking

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
        sampling = _AS_CONFIGURED
        if max_tokens is not None or temperature is not None:
            sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
        schema_json = None if schema is None else schema.model_json_schema()
        said: tuple[Any, ...] = (prompt, schema_json, tools and sorted(tools), model)
        said += (max_tokens, temperature, *((list(found),) if found else ()))

        async def work(origin: Origin) -> Outcome:
            offered = await self._offered(tools, found)
            new = () if prompt is None else (Page(role="user", text=prompt),)

            async def complete(to: str | None) -> Completion:
                rendered = await self._service.request(
                    Render(pid=self.pid, model=to, new=new, tools=offered, reserve=max_tokens or 0)
                )
                ask = Complete(
                    messages=rendered.messages,
                    tools=offered,
                    json_schema=schema_json,
                    sampling=sampling,
                )
                sink = self._live.sink()
                return await self._service.request(ask, to=to, sink=sink, origin=origin)

            try:
                completion = await complete(model)
            except OverBudget as crossed:
                if crossed.action != "degrade":
                    raise
                completion = await complete(crossed.instead)
            pages = (*new, Page(role="assistant", entry=origin.key))
            return completion, tuple(AddPage(page=page) for page in pages)

        bounded = self._bounded(work)
        completion: Completion = await self._said.syscall("think", said, bounded, Completion)
        if schema is None:
            return completion
        try:
            return schema.model_validate_json(completion.text)
        except ValidationError as error:
            raise BadReply(completion.text, str(error.errors()[0]["msg"])) from error

    async def _offered(
        self, tools: Sequence[str] | None, found: Sequence[str]
    ) -> tuple[ToolSpec, ...]:
        if tools is None:
            return await self._service.request(OfferTools(found=tuple(found)))
        if not tools:
            return ()
        return tuple(t.spec for t in await self._service.request(FindTools(names=tuple(tools))))

    async def note(
        self, text: str, *, pinned: bool = False, role: Literal["user", "system"] = "user"
    ) -> None:
        """Add a page to the context; a pinned one stays near its front."""

        async def work(origin: Origin) -> Outcome:
            return None, (AddPage(page=Page(role=role, text=text, pinned=pinned)),)

        await self._said.syscall("note", (text, pinned, role), work)

    # Devices

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
        revealed = given if asked else _revealed(arguments)

        def told(value: Any, key: str) -> Outcome:
            page = asked and result_page(value, key, asked.id)
            return value, (AddPage(page=page),) if page else ()

        async def work(origin: Origin) -> Outcome:
            (found,) = await self._service.request(FindTools(names=(name,)))
            call = CallTool(
                name=name,
                arguments=revealed,
                tool_effect=found.effect,
                key=f"{self.pid}/{origin.key}",
            )
            sink = Questions(self._service, self._live, origin)
            try:
                value = await self._service.request(
                    call, to=found.address, origin=origin, sink=sink
                )
            except OutcomeLost as error:
                if found.effect == "once":
                    raise lost(self._live, origin, str(error)) from error
                raise
            return told(value, origin.key)

        async def ask(origin: Origin) -> Testimony:
            (found,) = await self._service.request(FindTools(names=(name,)))
            if not found.reconciles:
                return Testimony()
            reconcile = Reconcile(name=name, key=f"{self.pid}/{origin.key}")
            said = await self._service.request(reconcile, to=found.address)
            return Testimony(said, found.refuses_repeats)

        def tell(error: Exception) -> tuple[Write, ...]:
            if asked is None:
                return ()
            page = Page(role="tool", text=f"error: {error}", tool_call_id=asked.id)
            return (AddPage(page=page),)

        kind, recovery = f"call:{name}", Recovery(ask, told)
        bounded = self._bounded(work)
        return await self._said.syscall(kind, given, bounded, failed=tell, recovery=recovery)

    def _bounded(self, work: Work) -> Work:
        """The same work, which waits for a human where the policy or a quota says so."""
        approved = within_policy(self._service, self._live, work)
        return within_quota(self._service, self._live, approved)

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
        known = {tool.name: tool for tool in await self._service.request(FindTools())}
        order = Order(self._live, tools, known)
        arms = (order.run(n, partial(self.attempt, tool)) for n, tool in enumerate(tools))
        return await self.parallel(*arms)

    # Memory

    async def remember(self, text: str, *, tags: Sequence[str] = ()) -> None:
        """Keep a text for every process of this tenant, to be recalled."""

        async def work(origin: Origin) -> Outcome:
            write: AddMemory = await self._service.request(
                Remember(tenant=self.tenant, pid=self.pid, text=text, tags=tuple(tags))
            )
            return None, (write,)

        await self._said.syscall("remember", (text, tuple(tags)), work)

    async def recall(
        self, query: str = "", *, tags: Sequence[str] = (), limit: int = 10
    ) -> tuple[Memory, ...]:
        """What this tenant's processes remembered, by tags and by the words and the meaning of
        the query; best match first. Raises EmbeddingError.
        """

        async def work(origin: Origin) -> Outcome:
            recall = Recall(tenant=self.tenant, query=query, tags=tuple(tags), limit=limit)
            return await self._service.request(recall), ()

        found: tuple[Memory, ...] = await self._said.syscall(
            "recall", (query, tuple(tags), limit), work, tuple[Memory, ...]
        )
        return found

    # Other processes

    async def spawn(
        self,
        what: "Invocation[T] | Program[T]",
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
    ) -> "ProcessRef[T]":
        """Start a child, of this process's class, priority and tenant unless said otherwise.

        It goes on when this process ends, unless it is `bound`: then it is sent TERM. What its
        `quota` lends it, it uses of this process's. A `mode` and `capabilities` leave it less
        than this process may do, never more.

        Awaiting the child is a syscall: `await self.wait(child)` or `await child`.
        """
        from .program import Child, spawn_request

        request = spawn_request(
            what,
            key=key,
            name=name,
            role=role,
            tags=tags,
            process_class=process_class or self._live.record.process_class,
            priority=self._live.record.priority if priority is None else priority,
            tenant=self.tenant,
            parent=self.pid,
            bound=bound,
            quota=quota,
            mode=mode,
            capabilities=capabilities,
        )

        async def work(origin: Origin) -> Outcome:
            record, birth = await births.prepare(self._service, request)
            return record.pid, birth

        self._service.register(request.program)  # also when the log answers
        said = (what.definition.name, request.state_json, key)
        pid = Pid(await self._said.syscall("spawn", said, work))
        await self._service.resume(pid)
        return Child(self, pid, what.definition.result)

    async def wait(self, child: "ProcessRef[T]", /) -> T:
        """Wait for a process to end. Raises ProcessFailed."""

        async def work(origin: Origin) -> Outcome:
            return await waits.end(self._service, self._live, child.pid), ()

        return child.result_of(await self._said.syscall("wait", child.pid, work, ProcessRecord))

    async def kill(
        self,
        child: "ProcessRef[Any]",
        signal: Signal = "TERM",
        *,
        grace_s: float = 5.0,
        group: bool = False,
    ) -> None:
        """Send a signal to another process, to a `group` with all its descendants."""
        request = Kill(pid=child.pid, signal=signal, grace_s=grace_s, group=group)

        async def work(origin: Origin) -> Outcome:
            await self._service.signals.send(request)
            return None, ()

        await self._said.syscall("kill", (child.pid, signal, grace_s, group), work)

    async def send(self, to: "ProcessRef[Any] | int", body: JsonValue, /) -> None:
        """Put a letter into another process's mailbox, exactly once."""
        pid = Pid(to if isinstance(to, int) else to.pid)

        async def work(origin: Origin) -> Outcome:
            await self._service.mail.check(pid)
            return None, (PostLetter(to=pid, body=body),)

        await self._said.syscall("send", (pid, body), work)
        await self._service.mail.deliver(pid)

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
        return str(await self._said.syscall("ask", said, partial(self._ask, *said)))

    async def _ask(
        self, text: str, choices: tuple[str, ...], seconds: float | None, origin: Origin
    ) -> Outcome:
        deadline = None
        if seconds is not None:
            deadline = await self._said.promise(origin, lambda: self._said.wall() + seconds)
        asking = waits.asking(origin, text, choices, deadline)
        answer = await waits.answer(self._service, self._live, asking)
        return answer, (CloseQuestion(key=origin.key),)

    # Time and chance

    async def sleep(self, seconds: float, /) -> None:
        """Do nothing for so long, wherever it runs then; when that ends is in the log."""
        if seconds > 0:
            until = partial(self._sleep, lambda: self._said.wall() + seconds)
            await self._said.syscall("sleep", seconds, until)

    async def sleep_until(self, moment: float, /) -> None:
        """Do nothing until then, in seconds since 1970."""
        await self._said.syscall("sleep_until", moment, partial(self._sleep, lambda: moment))

    async def cron(self, expression: str, /, *, zone: str = "UTC") -> float:
        """Do nothing until the next time the expression names, "0 9 * * 1-5"; gives that time.

        In seconds since 1970; `zone` is a time zone's name. What was missed while nothing ran
        is made up for once. Raises ValueError for what is no such expression or zone.
        """
        from .schedule import Schedule  # most programs keep no calendar

        occurs = Schedule(expression, zone)

        def make() -> float:
            return occurs.after(max(self._said.wall(), self._live.record.clock))

        said = (expression, zone)
        moment = float(await self._said.syscall("cron", said, partial(self._sleep, make)))
        self._live.record = replace(self._live.record, clock=moment)  # no time comes twice
        return moment

    async def _sleep(self, make: Callable[[], float], origin: Origin) -> Outcome:
        moment = await self._said.promise(origin, make)
        await waits.time(self._service, self._live, moment)
        return moment, ()

    async def now(self) -> float:
        """Seconds since 1970, the same again on resume."""

        async def work(origin: Origin) -> Outcome:
            return self._said.wall(), ()

        return float(await self._said.syscall("now", None, work))

    async def random(self) -> float:
        """A number in [0, 1), the same again on resume."""

        async def work(origin: Origin) -> Outcome:
            return random.random(), ()

        return float(await self._said.syscall("random", None, work))

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

        async def run(origin: Origin) -> Outcome:
            await self._service.intend(origin)
            return await work(), ()

        async def ask(origin: Origin) -> Testimony:
            return Testimony() if reconcile is None else Testimony(await reconcile())

        recovery = Recovery(ask, lambda value, key: (value, ()))
        return await self._said.syscall(f"run_once:{name}", None, run, recovery=recovery)

    # Resting points

    async def checkpoint(self, **changes: Any) -> None:
        """From here on a resume begins the program anew, with these arguments changed.

        Of a `Program`, its step, with these fields changed. Nothing that was said before is
        replayed any more, so what it has led to must be in the changes, the context, the memory.
        When this returns, it is on the disk. Not within `parallel`, `race` or `timeout`.
        """
        if not changes:
            raise TypeError(
                "checkpoint() without changes would do again, after a resume, all that is done: "
                "say what has changed, e.g. checkpoint(done=done)"
            )
        record = self._live.record
        definition = self._service.programs[record.program, record.version]
        await self._said.turn(definition.changed(record.state_json, changes))

    # Side by side

    async def parallel(self, *work: Coroutine[Any, Any, T]) -> list[T]:
        """Run syscalls side by side; the results in order. The first error ends the others."""
        with self._said.place("parallel") as key:
            return await flow.parallel(self._said, key, work)

    async def race(self, *work: Coroutine[Any, Any, T]) -> T:
        """Run syscalls side by side until the first is done; the others are cancelled."""
        with self._said.place("race") as key:
            return await flow.race(self._said, key, work)

    async def timeout(self, seconds: float, work: Coroutine[Any, Any, T], /) -> T:
        """Give a syscall so many seconds. Raises TimeoutError, again on resume."""
        with self._said.place("timeout") as key:
            return await flow.timeout(self._said, key, seconds, work)


def _revealed(value: Any) -> Any:
    """With the secrets in it as plain text, which from now on is never shown."""
    if isinstance(value, SecretStr):
        return keep(value.get_secret_value())
    if isinstance(value, dict):
        return {key: _revealed(inner) for key, inner in value.items()}
    return [_revealed(inner) for inner in value] if isinstance(value, list | tuple) else value
