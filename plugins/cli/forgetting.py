"""`aosk db forget`: which ended processes are over, and their deletion."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from ...kernel.config import Config, build
from ...subsystems.storage.messages import Expired, Expiry, FindExpired, ForgetExpired
from . import loop, output
from .desk import configured, opened
from .exits import ExitCode, Stop
from .listing import MOST, clock

RETENTION = "retention"
DAY_S = 86_400.0
BATCH = 100
COLUMNS = ("program", "state", "tenant", "processes", "keep their record", "ended since")


def preview(config_file: Path | None, days: float | None, *, as_json: bool) -> None:
    """Tell what would be deleted; delete nothing."""
    config = configured(config_file)
    found = loop.run(_found, config, _expiries(config, days))
    _tell(found, "would be forgotten; --yes does it", as_json=as_json, done=False)


def forget(config_file: Path | None, days: float | None, *, as_json: bool) -> None:
    """Delete it, in batches, and tell what is gone."""
    config = configured(config_file)
    gone = loop.run(_forgotten, config, _expiries(config, days))
    _tell(gone, "forgotten", as_json=as_json, done=True)


def _expiries(config: Config, days: float | None) -> tuple[Expiry, ...]:
    """By the configured retention, or by this number of days."""
    if days is not None:
        return (Expiry(after_s=days * DAY_S),)
    if RETENTION not in config.services:
        raise Stop(
            "no retention is configured, so everything is kept: say --days N here, or in "
            "aosk.toml write\n\n  [services.retention]\n  ended_after_days = 30",
            ExitCode.USAGE,
            "no_retention",
        )
    expiries: tuple[Expiry, ...] = getattr(
        build(RETENTION, config.services[RETENTION]), "expiries", ()
    )
    return expiries


async def _found(config: Config, expiries: tuple[Expiry, ...]) -> list[Expired]:
    async with opened(config) as kernel:
        asked = [FindExpired(expiry=expiry, limit=MOST) for expiry in expiries]
        return [one for query in asked for one in await kernel.request(query)]


async def _forgotten(config: Config, expiries: tuple[Expiry, ...]) -> list[Expired]:
    gone: list[Expired] = []
    async with opened(config) as kernel:
        for expiry in expiries:
            order = ForgetExpired(expiry=expiry, limit=BATCH)
            while batch := await kernel.request(order):
                gone += batch
    return gone


def _tell(found: list[Expired], what: str, *, as_json: bool, done: bool) -> None:
    if as_json:
        told = [asdict(one) for one in found]
        output.document({"ok": True, "forgotten": done, "processes": told})
        return
    if found:
        output.table(COLUMNS, _rows(found))
    print(f"{len(found)} processes {what}" if found else "No process is over.")
    if len(found) == MOST and not done:
        output.tell(f"The first {MOST}; there are more.")


def _rows(found: Iterable[Expired]) -> Iterator[tuple[str, ...]]:
    """One for each kind, with the end of the first."""
    kinds = dict[tuple[str, str, str], list[Expired]]()
    for one in found:
        kinds.setdefault((one.program, one.state, one.tenant), []).append(one)
    for kind, some in kinds.items():
        keyed = sum(not one.whole for one in some)
        first = min(one.ended_at for one in some)
        yield (*kind, str(len(some)), str(keyed or ""), clock(first))
