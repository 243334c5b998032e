"""A program of one step is an async function: its parameters are its state."""

import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from .definition import Definition, Invocation, misfit
from .process import Process

T = TypeVar("T")
P = ParamSpec("P")


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
            raise misfit(self.name, error) from None


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
