"""What the kernel knows of a program, whichever way it is written."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ....kernel.secrets import Sensitive, is_sensitive

if TYPE_CHECKING:
    from .process import Process

T = TypeVar("T")


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
        step: Callable[["Process", Any], Awaitable[Any]],
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
        """The state with changes, of which there are some, checked. Raises TypeError."""
        if not changes:
            raise TypeError(
                "checkpoint() without changes would do again, after a resume, all that is done: "
                "say what has changed, e.g. checkpoint(done=done)"
            )
        state = self.state.model_validate_json(state_json)
        try:
            return self.state.model_validate({**dict(state), **changes}).model_dump_json()
        except ValidationError as error:
            raise misfit(self.name, error) from None


def _refuse_secrets(name: str, state: type[BaseModel]) -> None:
    """What a program is given is stored, for a crash to find it again; a secret must not be."""
    for field, info in state.model_fields.items():
        if is_sensitive(info.annotation) or any(part is Sensitive for part in info.metadata):
            raise TypeError(
                f"program {name!r}: {field!r} is a secret, and what a program is given is stored; "
                "give it the secret's name, and read the secret where it is used: in a tool, or "
                "for an argument that is a SecretStr"
            )


def misfit(program: str, error: ValidationError) -> TypeError:
    """What of the arguments does not fit, in a sentence."""
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    return TypeError(f"{program}: argument {path!r}: {first['msg']}")


class Invocation(Generic[T]):
    """A program with its arguments, checked, ready to be spawned."""

    __slots__ = ("definition", "state")

    def __init__(self, definition: Definition[T], state: BaseModel) -> None:
        self.definition, self.state = definition, state
