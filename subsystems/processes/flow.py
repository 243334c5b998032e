"""Side by side: parallel, race and timeout over syscalls, each arm on a branch of its own."""

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from ..storage.messages import Key
from .syscall import Suspended, fingerprint, on_branch

if TYPE_CHECKING:
    from .transcript import Transcript

T = TypeVar("T")
Work = Coroutine[Any, Any, T]


def _close(work: Sequence[Work[Any]]) -> None:
    for arm in work:
        arm.close()  # never started, or ended already: then this does nothing


async def parallel(key: Key, work: Sequence[Work[T]]) -> list[T]:
    """All of them; the first error cancels the rest and is raised as it is."""
    if len(work) == 1:
        with on_branch(f"{key}.0."):
            return [await work[0]]
    results: dict[int, T] = {}
    errors: list[Exception | Suspended] = []

    async def run(number: int, arm: Work[T]) -> None:
        with on_branch(f"{key}.{number}."):
            try:
                results[number] = await arm
            except (Exception, Suspended) as error:  # noqa: BLE001 - raised below, ungrouped
                errors.append(error)
                arms.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as arms:
            for number, arm in enumerate(work):
                arms.start_soon(run, number, arm, name=f"parallel {key}.{number}")
    finally:
        _close(work)
    if errors:
        raise next((e for e in errors if isinstance(e, Suspended)), errors[0])
    return [results[number] for number in range(len(work))]


async def race(said: "Transcript", key: Key, work: Sequence[Work[T]]) -> T:
    """The first to end, by result or error; who won is in the log."""
    mark = fingerprint("race", len(work))
    try:
        entry = said.known(key, "race", mark)
        if entry is not None:
            winner = int(entry.body)
            with on_branch(f"{key}.{winner}."):
                return await work[winner]
        winner, result, error = await _first(key, work)
        if isinstance(error, Suspended):
            raise error
        await said.settle(said.origin(key, "race", mark), str(winner))
    finally:
        _close(work)
    if error is not None:
        raise error
    return result[0]


async def _first(
    key: Key, work: Sequence[Work[T]]
) -> tuple[int, list[T], Exception | Suspended | None]:
    ended: list[tuple[int, list[T], Exception | Suspended | None]] = []

    async def run(number: int, arm: Work[T]) -> None:
        with on_branch(f"{key}.{number}."):
            try:
                ended.append((number, [await arm], None))
            except (Exception, Suspended) as error:  # noqa: BLE001 - raised if this arm won
                ended.append((number, [], error))
            arms.cancel_scope.cancel()

    async with anyio.create_task_group() as arms:
        for number, arm in enumerate(work):
            arms.start_soon(run, number, arm, name=f"race {key}.{number}")
    return ended[0]


async def timeout(said: "Transcript", key: Key, seconds: float, work: Work[T]) -> T:
    """Within the time or not at all; its deadline is in the log, and whether it was in time."""
    mark = fingerprint("timeout", seconds)
    late = f"not done within {seconds:g} s"
    try:
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
    finally:
        _close([work])
