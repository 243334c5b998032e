"""A program of many steps is a class: its fields are its state, `step` gives the next one."""

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from .definition import Definition, Exit

if TYPE_CHECKING:
    from .process import Process

T = TypeVar("T")


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

    async def step(self, process: "Process") -> Self | Exit[T]:
        """Do a step's work; the state it returns is committed before the next begins."""
        raise NotImplementedError

    def next(self, **changes: Any) -> Self:
        """The same state with changes, checked."""
        return type(self).model_validate({**dict(self), **changes})


def _result_type(base: type) -> Any:
    """The T of Program[T]."""
    arguments = getattr(base, "__pydantic_generic_metadata__", {}).get("args")
    return arguments[0] if arguments else Any


async def _step_of_class(process: "Process", state: Program[Any]) -> Program[Any] | Exit[Any]:
    return await state.step(process)
