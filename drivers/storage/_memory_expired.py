"""Which processes are over, among those that are kept in dictionaries."""

from collections.abc import Iterable, Iterator

from ...subsystems.storage import driver as d

Kept = tuple[d.ProcessRecord, float]
"""A process, and since when it has been in its state."""


def expired(
    kept: Iterable[Kept], expiry: d.Expiry, now: float, limit: int, held: set[str]
) -> list[d.Expired]:
    """Those of them, the longest ended first; not those whose scope is `held`."""
    kept = list(kept)
    needed = _needed([record for record, _ in kept])
    over = [
        (record, since)
        for record, since in kept
        if record.pid not in needed
        and f"process:{record.pid}" not in held
        and _is_over((record, since), expiry, now)
    ]
    over.sort(key=lambda one: one[1])
    return [_told(one, expiry, now) for one in over[:limit]]


def _needed(records: list[d.ProcessRecord]) -> set[d.Pid]:
    """By whoever lives: their children, those they wait for, and all above them."""
    living = {record.pid for record in records if record.state not in d.ENDED}
    parents = {record.pid: record.parent for record in records}
    needed = {record.pid for record in records if record.parent in living}
    for record in records:
        if record.pid in living:
            needed |= {*record.waits_for, *_above(record.pid, parents)}
    return needed


def _above(pid: d.Pid, parents: dict[d.Pid, d.Pid | None]) -> Iterator[d.Pid]:
    parent = parents.get(pid)
    while parent is not None:
        yield parent
        parent = parents.get(parent)


def _is_over(one: Kept, expiry: d.Expiry, now: float) -> bool:
    record, since = one
    return (
        record.state in d.ENDED
        and record.state in expiry.states
        and since < now - expiry.after_s
        and expiry.tenant in (None, record.tenant)
        and record.tenant not in expiry.but_tenants
        and (not record.bare or _is_key_over(since, expiry, now))
    )


def _is_key_over(since: float, expiry: d.Expiry, now: float) -> bool:
    return expiry.keys_after_s is not None and since < now - expiry.keys_after_s


def _told(one: Kept, expiry: d.Expiry, now: float) -> d.Expired:
    record, since = one
    return d.Expired(
        pid=record.pid,
        program=record.program,
        state=record.state,
        tenant=record.tenant,
        key=record.key,
        ended_at=since,
        whole=record.key is None or _is_key_over(since, expiry, now),
    )
