"""Programs: what a process runs. This module is the programmer's door.

A program is an async function (one step), or a `Program` class whose fields are its state
and whose `step` gives the next state, or `Exit`.
"""

import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from ...kernel.message import R, Request
from ...kernel.secrets import Sensitive, is_sensitive
from ..llm.messages import Delta
from ..policy.messages import Bounds, Mode, Written
from ..quota.messages import Quota
from ..storage.messages import Pid, ProcessClass, ProcessRecord
from .messages import Inspect, Kill, OpenStream, ProcessFailed, ProcessStatus, Send, Signal, Wait
from .messages import Spawn as SpawnProcess
from .process import Process

__all__ = ["Exit", "Invocation", "Process", "ProcessRef", "Program", "attach", "program", "spawn"]

T = TypeVar("T")
P = ParamSpec("P")


class Exit(Generic[T]):
    """The program is done; `result` is what `await agent` gives."""

    __slots__ = ("result",)

    def __init__(self, result: T) -> None:
        self.result = result


class Definition(Generic[T]):
    """What the kernel knows of a program: its name, its version, and how to take a step."""

    def __init__(
        self,
        name: str,
        version: str,
        state: type[BaseModel],
        result: Any,
        step: Callable[[Process, Any], Awaitable[Any]],
        *,
        single: bool = False,
    ) -> None:
        self.name, self.version, self.state, self.step = name, version, state, step
        _refuse_secrets(name, state)
        self.single = single  # its one step returns the result itself
        self.result: TypeAdapter[T] = TypeAdapter(result)

    def __repr__(self) -> str:
        return f"<program {self.name} version {self.version}>"

    def changed(self, state_json: str, changes: dict[str, Any]) -> str:
        """The state with changes, checked. Raises TypeError."""
        state = self.state.model_validate_json(state_json)
        try:
            return self.state.model_validate({**dict(state), **changes}).model_dump_json()
        except ValidationError as error:
            raise _misfit(self.name, error) from None


def _refuse_secrets(name: str, state: type[BaseModel]) -> None:
    """What a program is given is stored, for a crash to find it again; a secret must not be."""
    for field, info in state.model_fields.items():
        if is_sensitive(info.annotation) or any(part is Sensitive for part in info.metadata):
            raise TypeError(
                f"program {name!r}: {field!r} is a secret, and what a program is given is stored; "
                "give it the secret's name, and read the secret where it is used: in a tool, or "
                "for an argument that is a SecretStr"
            )


class Invocation(Generic[T]):
    """A program with its arguments, checked, ready to be spawned."""

    __slots__ = ("definition", "state")

    def __init__(self, definition: Definition[T], state: BaseModel) -> None:
        self.definition, self.state = definition, state


class Program(BaseModel, Generic[T]):
    """A program of many steps. Its fields are its state; between steps it is only data.

    class Countdown(Program[str], name="countdown", version="1"):
        left: int

        async def step(self, process: Process) -> Self | Exit[str]:
            await process.sleep(1)
            return self.next(left=self.left - 1) if self.left else Exit("lift-off")
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    definition: ClassVar[Definition[Any]]

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str = "", version: str = "1", **_: Any) -> None:
        if cls.__pydantic_generic_metadata__["origin"] is None:
            result = _result_type(cls.__bases__[0])
            cls.definition = Definition(
                name or cls.__name__.lower(), version, cls, result, _step_of_class
            )

    def __init_subclass__(cls, *, name: str = "", version: str = "1", **config: Any) -> None:
        super().__init_subclass__(**config)

    async def step(self, process: Process) -> Self | Exit[T]:
        """Do a step's work; the state it returns is committed before the next begins."""
        raise NotImplementedError

    def next(self, **changes: Any) -> Self:
        """The same state with changes, checked."""
        return type(self).model_validate({**dict(self), **changes})


def _result_type(base: type) -> Any:
    """The T of Program[T]."""
    arguments = getattr(base, "__pydantic_generic_metadata__", {}).get("args")
    return arguments[0] if arguments else Any


async def _step_of_class(process: Process, state: Program[Any]) -> Program[Any] | Exit[Any]:
    return await state.step(process)


class FunctionProgram(Definition[T], Generic[P, T]):
    """An async function as a program of one step; calling it checks the arguments."""

    def __init__(
        self, function: Callable[Concatenate[Process, P], Awaitable[T]], name: str, version: str
    ) -> None:
        parameters = _parameters(function, name)
        as_it_was = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
        arguments = create_model(name, __config__=as_it_was, **parameters)
        self.function = function
        self.signature = inspect.signature(function)
        self.__doc__ = function.__doc__
        result = typing.get_type_hints(function, include_extras=True).get("return", Any)
        super().__init__(name, version, arguments, result, self._run, single=True)

    def _run(self, process: Process, state: BaseModel) -> Awaitable[T]:
        run: Callable[..., Awaitable[T]] = self.function
        return run(process, **dict(state))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Invocation[T]:
        bound = self.signature.bind(None, *args, **kwargs)
        given = dict(list(bound.arguments.items())[1:])
        try:
            return Invocation(self, self.state.model_validate(given))
        except ValidationError as error:
            raise _misfit(self.name, error) from None


def _misfit(program: str, error: ValidationError) -> TypeError:
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    return TypeError(f"{program}: argument {path!r}: {first['msg']}")


def _parameters(function: Callable[..., Any], name: str) -> Any:
    hints = typing.get_type_hints(function, include_extras=True)
    fields = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"program {name!r}: *{parameter.name} cannot be stored; name each")
        if parameter.name not in hints:
            raise TypeError(
                f"program {name!r}: parameter {parameter.name!r} has no type; "
                f"write {parameter.name}: str, or what it is"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return fields


class _Decorator(Protocol):
    def __call__(
        self, function: Callable[Concatenate[Process, P], Awaitable[T]], /
    ) -> FunctionProgram[P, T]: ...


@typing.overload
def program(
    function: Callable[Concatenate[Process, P], Awaitable[T]], /
) -> FunctionProgram[P, T]: ...
@typing.overload
def program(*, name: str | None = None, version: str = "1") -> _Decorator: ...
def program(function: Any = None, /, *, name: str | None = None, version: str = "1") -> Any:
    """Make an async function a program. Change `version` when old processes must not resume.

    @program
    async def brief(self: Process, topic: str) -> str: ...
    """

    def declare(function: Any) -> FunctionProgram[Any, Any]:
        return FunctionProgram(function, name or function.__name__, version)

    return declare if function is None else declare(function)


class Requester(Protocol):
    """Whoever can ask: a Kernel, or a service's `request`."""

    def request(
        self, message: Request[R], /, *, to: str | None = None
    ) -> Coroutine[Any, Any, R]: ...


class ProcessRef(Generic[T]):
    """A process seen from outside. Awaiting it gives its result or raises ProcessFailed."""

    def __init__(self, kernel: Requester, pid: Pid, result: TypeAdapter[T]) -> None:
        self._kernel, self.pid, self._result = kernel, pid, result

    def __await__(self) -> Generator[Any, None, T]:
        return self.wait().__await__()

    async def wait(self) -> T:
        return self.result_of(await self._kernel.request(Wait(pid=self.pid)))

    def result_of(self, record: ProcessRecord) -> T:
        """The result in the process's last record. Raises ProcessFailed when there is none."""
        if record.state != "exited" or record.result is None:
            raise ProcessFailed.of(record)
        return self._result.validate_json(record.result)

    async def status(self) -> ProcessStatus:
        return await self._kernel.request(Inspect(pid=self.pid))

    async def send(self, body: Any, /) -> None:
        """Put a letter into its mailbox; the body must be JSON data."""
        await self._kernel.request(Send(to=self.pid, body=body))

    async def kill(
        self, signal: Signal = "TERM", *, grace_s: float = 5.0, group: bool = False
    ) -> None:
        """Send a signal, to a `group` with all descendants."""
        kill = Kill(pid=self.pid, signal=signal, grace_s=grace_s, group=group)
        await self._kernel.request(kill)

    async def stream(self) -> AsyncIterator[Delta]:
        """Every piece of text its model calls produce from now on, until it ends.

        It holds the process back when you are slow; `break` lets it go. A reply that is cut and
        made again begins anew, at offset 0 of the next `attempt`.
        """
        async for delta in await self._kernel.request(OpenStream(pid=self.pid)):
            yield delta


class Child(ProcessRef[T]):
    """A process seen from its parent: what is asked of it here is the parent's syscall."""

    def __init__(self, parent: Process, pid: Pid, result: TypeAdapter[T]) -> None:
        super().__init__(parent.asking, pid, result)
        self._parent = parent

    async def wait(self) -> T:
        return await self._parent.wait(self)

    async def send(self, body: Any, /) -> None:
        await self._parent.send(self, body)

    async def kill(
        self, signal: Signal = "TERM", *, grace_s: float = 5.0, group: bool = False
    ) -> None:
        await self._parent.kill(self, signal, grace_s=grace_s, group=group)


def spawn_request(
    what: Invocation[Any] | Program[Any],
    *,
    key: str | None = None,
    name: str = "",
    role: str = "",
    tags: Sequence[str] = (),
    process_class: ProcessClass = "normal",
    priority: int = 50,
    tenant: str = "default",
    parent: Pid | None = None,
    bound: bool = False,
    quota: Quota | None = None,
    mode: Mode | None = None,
    capabilities: Sequence[Written] | None = None,
) -> SpawnProcess:
    state = what if isinstance(what, Program) else what.state
    return SpawnProcess(
        program=what.definition,
        state_json=state.model_dump_json(),
        key=key,
        name=name,
        role=role,
        tags=tuple(tags),
        process_class=process_class,
        priority=priority,
        tenant=tenant,
        parent=parent,
        bound=bound,
        quota=quota,
        bounds=Bounds.of(mode, capabilities),
    )


async def spawn(
    kernel: Requester,
    what: Invocation[T] | Program[T],
    /,
    *,
    key: str | None = None,
    name: str = "",
    role: str = "",
    tags: Sequence[str] = (),
    process_class: ProcessClass = "normal",
    priority: int = 50,
    tenant: str = "default",
    quota: Quota | None = None,
    mode: Mode | None = None,
    capabilities: Sequence[Written] | None = None,
) -> ProcessRef[T]:
    """Start a process. With a `key` it is started once: again gives the same process.

        agent = await spawn(kernel, brief(topic="friday"), priority=10)
        print(await agent)

    Class (interactive before normal before batch), then priority (0 first) decide who is
    served first; tenant is who pays. The `quota` is for it and all its descendants, as are the
    `mode` of the policy ("read_only", "standard", "trusted"; the configured one if None) and the
    `capabilities`, rules as the policy's `allow` has them: what none of them allows is refused.
    Raises ValueError for what is no mode or no rule.
    """
    record = await kernel.request(
        spawn_request(
            what,
            key=key,
            name=name,
            role=role,
            tags=tags,
            process_class=process_class,
            priority=priority,
            tenant=tenant,
            quota=quota,
            mode=mode,
            capabilities=capabilities,
        )
    )
    return ProcessRef(kernel, record.pid, what.definition.result)


async def attach(kernel: Requester, pid: Pid | int, /) -> ProcessRef[Any]:
    """A process that already is, by number. Raises NoSuchProcess."""
    status = await kernel.request(Inspect(pid=Pid(pid)))
    return ProcessRef(kernel, status.pid, TypeAdapter(Any))
