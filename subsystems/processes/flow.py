"""Side by side: parallel, race and timeout over syscalls, each arm on a branch of its own."""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio

from ..storage.messages import Key
from .syscall import Suspended, fingerprint, on_branch

if TYPE_CHECKING:
    from .transcript import Transcript

T = TypeVar("T")
Work = Coroutine[Any, Any, T]


class Ended(NamedTuple):
    """How an arm has ended: with a result or an error."""

    number: int
    result: Any
    error: Exception | Suspended | None


def _failed(arm: Ended) -> bool:
    return arm.error is not None


def _any(arm: Ended) -> bool:
    return True


async def _run(
    said: "Transcript", key: Key, work: Sequence[Work[Any]], decides: Callable[[Ended], bool]
) -> list[Ended]:
    """Run the arms until all have ended, or one that `decides`; how, in their order.

    One that ends because the process is in doubt leaves the others alone: see `doubt`.
    """
    ended: list[Ended] = []

    async def run(number: int, arm: Work[Any]) -> None:
        started()
        with on_branch(f"{key}.{number}."):
            try:
                one = Ended(number, await arm, None)
            except (Exception, Suspended) as error:  # noqa: BLE001 - raised by who waits
                one = Ended(number, None, error)
        ended.append(one)
        if decides(one) and not (isinstance(one.error, Suspended) and said.in_doubt):
            being_cut.enter_context(said.arms(1))  # the others: they do not wait any more
            arms.cancel_scope.cancel()
        said.rest()

    with ExitStack() as being_cut, said.arms(len(work)) as started:
        async with anyio.create_task_group() as arms:
            for number, arm in enumerate(work):
                arms.start_soon(run, number, arm, name=f"arm {key}.{number}")
    return ended


async def parallel(said: "Transcript", key: Key, work: Sequence[Work[T]]) -> list[T]:
    """All of them; the first error cancels the rest and is raised as it is.

    Whose that was is in the log: what it cut is of no interest any more.
    """
    if len(work) == 1:
        with on_branch(f"{key}.0."):
            return [await work[0]]
    mark = fingerprint("parallel", len(work))
    entry = said.known(key, "parallel", mark)
    if entry is not None:
        raise await _failing_again(said, key, int(entry.body), work)
    ended = await _run(said, key, work, _failed)
    for arm in ended:
        if isinstance(arm.error, Suspended):
            raise arm.error
    for arm in ended:
        if arm.error is not None:
            await said.settle(said.origin(key, "parallel", mark), str(arm.number))
            raise arm.error
    return [arm.result for arm in sorted(ended)]


async def _failing_again(
    said: "Transcript", key: Key, number: int, work: Sequence[Work[Any]]
) -> Suspended:
    """Raises the arm's error, or says that there is none any more."""
    with on_branch(f"{key}.{number}."):
        await work[number]
    return said.diverged(f"at {key} arm {number} of 'parallel' failed in the log, and now does not")


async def race(said: "Transcript", key: Key, work: Sequence[Work[T]]) -> T:
    """The first to end, by result or error; who won is in the log."""
    mark = fingerprint("race", len(work))
    entry = said.known(key, "race", mark)
    if entry is not None:
        winner = int(entry.body)
        with on_branch(f"{key}.{winner}."):
            return await work[winner]
    first = (await _run(said, key, work, _any))[0]
    if isinstance(first.error, Suspended):
        raise first.error
    await said.settle(said.origin(key, "race", mark), str(first.number))
    if first.error is not None:
        raise first.error
    won: T = first.result
    return won


async def timeout(said: "Transcript", key: Key, seconds: float, work: Work[T]) -> T:
    """Within the time or not at all; its deadline is in the log, and whether it was in time."""
    mark = fingerprint("timeout", seconds)
    late = f"not done within {seconds:g} s"
    entry = said.known(key, "timeout", mark)
    if entry is not None and entry.body == "true":
        raise TimeoutError(late)
    if entry is not None:
        with on_branch(f"{key}.0."):
            return await work
    origin = said.origin(key, "timeout", mark)
    with said.until(await said.promise(origin, lambda: said.wall() + seconds)) as scope:
        with on_branch(f"{key}.0."):
            result = await work
    await said.settle(origin, "true" if scope.cancelled_caught else "false")
    if scope.cancelled_caught:
        raise TimeoutError(late)
    return result
