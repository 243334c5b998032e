"""A call's way along the models of an alias."""

from typing import Generic

from ...kernel.call import Call
from ...kernel.errors import KernelError
from ...kernel.message import R
from ...kernel.service import Proceed


class Way(Generic[R]):
    """Where a call stands (`turn.address`), what went wrong there, and who may answer later."""

    def __init__(self, call: Call[R], proceed: Proceed[R], *, patient: bool) -> None:
        self.alias, self.turn, self._proceed = call.address, call.twin(), proceed
        self.turn.patient = patient
        self.failure: KernelError | None = None
        self._later: list[tuple[float, str]] = []

    async def go(self, model: str) -> R:
        """Ask this model."""
        self.turn.address = model
        return await self._proceed(self.turn)

    def fail(self, error: KernelError, free_at: float) -> None:
        """It did not answer; what is retryable may come out well from `free_at` on."""
        self.failure = error
        if error.retryable:
            self._later.append((free_at, self.turn.address))

    def resting(self) -> list[str]:
        """Those that may answer later, the one that is free first before the others."""
        return [model for _, model in sorted(self._later, key=lambda one: one[0])]
