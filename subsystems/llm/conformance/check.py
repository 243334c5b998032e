"""A check: one claim about a driver, what it costs to find out, and how it came out."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import anyio

from ....kernel.message import Value
from .subject import Nonconforming, NotApplicable, Subject

Run = Callable[[Subject], Awaitable[None]]


@dataclass(frozen=True)
class Check:
    """Await it with a Subject. `calls` and `tokens` are the most that it asks of the model.

    Raises Nonconforming; NotApplicable; and what the driver raises where it must not.
    """

    run: Run
    calls: int
    tokens: int

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def says(self) -> str:
        """The claim, as a sentence."""
        return (inspect.getdoc(self.run) or "").partition("\n")[0]

    def __str__(self) -> str:
        return self.name

    async def __call__(self, subject: Subject) -> None:
        if reason := subject.exempt.get(self.name):
            raise NotApplicable(reason)
        with anyio.move_on_after(subject.patience_s) as patience:
            await self.run(subject)
        if patience.cancelled_caught:
            raise Nonconforming(f"it was not done after {subject.patience_s:g} s")


def check(*, calls: int, tokens: int) -> Callable[[Run], Check]:
    """Make a check of a function whose docstring is the claim."""
    return lambda run: Check(run, calls, tokens)


class Verdict(Value):
    """How a check came out; `reason` says why it failed or why it does not apply."""

    check: str
    says: str
    outcome: Literal["passed", "failed", "not applicable"]
    reason: str = ""
    seconds: float


async def examine(subject: Subject, checks: Iterable[Check]) -> AsyncGenerator[Verdict, None]:
    """Run the checks one after another, and tell how each came out."""
    for each in checks:
        began = anyio.current_time()
        outcome, reason = await _outcome(each, subject)
        yield Verdict(
            check=each.name,
            says=each.says,
            outcome=outcome,
            reason=reason,
            seconds=round(anyio.current_time() - began, 3),
        )


async def _outcome(
    each: Check, subject: Subject
) -> tuple[Literal["passed", "failed", "not applicable"], str]:
    try:
        await each(subject)
    except NotApplicable as error:
        return "not applicable", str(error)
    except Nonconforming as error:
        return "failed", str(error)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is a finding
        return "failed", f"{type(error).__name__}: {error}"
    return "passed", ""
