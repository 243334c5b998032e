"""`aosk audit`: show a chain, verify all of them, export a seal, erase bodies."""

import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from ...kernel.config import Config
from ...subsystems.storage.driver import Audited, Item, Link, Seal, Verifier
from ...subsystems.storage.messages import EraseBodies, Pid
from . import loop, output
from .desk import NOTHING_OUTLIVES, STORAGE, configured, opened, process, storage
from .exits import ExitCode, Stop
from .exported import Exported, read, written

COLUMNS = ("number", "epoch", "kind", "key", "outcome", "hash")
TOLD_S = 2.0
"""So often verifying says how far it is."""
SHOWN = 20


@asynccontextmanager
async def _trail(config: Config, pid: int | None) -> AsyncIterator[AsyncIterator[Item]]:
    """What the log is checked by. Raises Stop where there is no audit."""
    held = storage(config)
    if not isinstance(held, Audited):
        name = config.services[STORAGE].get("driver")
        raise Stop(NOTHING_OUTLIVES.format(driver=name), ExitCode.CONFIG, "nothing_outlives")
    try:
        async with aclosing(held.trail(None if pid is None else Pid(pid))) as items:
            yield items
    finally:
        await held.stop()


# Show


def show(config_file: Path | None, pid: int, *, as_json: bool) -> None:
    """A line for each link. Raises Stop where there is none."""
    links = loop.run(_links, configured(config_file), pid)
    if not links:
        raise Stop(
            f"of process {pid} there is nothing in the log; `aosk ps --all` lists processes",
            ExitCode.FAILED,
            "nothing_logged",
        )
    if as_json:
        output.document({"ok": True, "links": [_told(link) for link in links]})
    else:
        output.table(COLUMNS, map(_row, links))


async def _links(config: Config, pid: int) -> list[Link]:
    async with _trail(config, pid) as items:
        return [item async for item in items if isinstance(item, Link)]


def _told(link: Link) -> dict[str, Any]:
    return {
        "pid": link.pid,
        "seq": link.seq,
        "epoch": link.epoch,
        "kind": link.kind,
        "key": link.key or None,
        "failed": link.failed,
        "took_s": link.took_s,
        "erased": link.body is None,
        "hash": None if link.hash is None else link.hash.hex(),
    }


def _row(link: Link) -> tuple[str, ...]:
    outcome = "erased" if link.body is None else "failed" if link.failed else ""
    made = "not chained" if link.hash is None else link.hash.hex()[:16]
    return str(link.seq), str(link.epoch), link.kind, link.key, outcome, made


# Verify


def verify(
    config_file: Path | None,
    pid: int | None,
    against: Sequence[Path],
    public_key: Path | None,
    *,
    as_json: bool,
) -> None:
    """Ends with 1 where something is not what was written."""
    if public_key is not None and not against:
        raise Stop("--public-key is for what --against names", ExitCode.USAGE)
    exported = [read(file, public_key) for file in against]
    found = loop.run(_verified, configured(config_file), pid, exported)
    if as_json:
        output.document(_document(found))
    else:
        _tell(found, exported)
    if found.faults:
        raise typer.Exit(ExitCode.FAILED)


async def _verified(config: Config, pid: int | None, exported: Iterable[Exported]) -> Verifier:
    against = {one.seal: bytes.fromhex(one.hash) for one in exported}
    verifier = Verifier(against, only=None if pid is None else Pid(pid))
    told = time.monotonic()
    async with _trail(config, pid) as items:
        async for item in items:
            verifier.take(item)
            if time.monotonic() - told > TOLD_S:
                told = time.monotonic()
                output.tell(f"{verifier.links:,} links of the log, {verifier.seals:,} seals ...")
    verifier.end()
    return verifier


def _document(found: Verifier) -> dict[str, Any]:
    names = ("links", "unchained", "erased", "seals", "retired")
    counts = {name: getattr(found, name) for name in names}
    faults = [asdict(fault) for fault in found.faults]
    return {"ok": not faults, **counts, "faults": faults}


def _tell(found: Verifier, exported: Sequence[Exported]) -> None:
    counts = f"{found.links:,} links and {found.seals:,} seals"
    print(f"{counts} looked at; {'not ' if found.faults else ''}all as they were written")
    for fault in found.faults[:SHOWN]:
        whose = f"process {fault.pid}, number {fault.seq}: " if fault.pid else ""
        output.tell(f"aosk: {whose}{fault.place} {fault.why}")
    if len(found.faults) > SHOWN:
        output.tell(f"aosk: and {len(found.faults) - SHOWN} more")
    if found.retired:
        print(f"{found.retired:,} processes were retired by retention")
    if found.erased:
        print(f"{found.erased:,} bodies were erased")
    if found.unchained:
        print(
            f"{found.unchained:,} were written while nothing was chained; nothing vouches for them"
        )
    if not exported:
        print("Whether all of it was made anew only an exported seal can tell (--against).")


# Export and erase


def export(config_file: Path | None, key: Path | None) -> None:
    """On stdout."""
    seal = loop.run(_last_seal, configured(config_file))
    if seal is None:
        raise Stop("there is no seal yet; a kernel makes one", ExitCode.FAILED, "no_seal")
    print(json.dumps(written(seal, key), indent=2))


async def _last_seal(config: Config) -> Seal | None:
    last = None
    async with _trail(config, 0) as items:
        async for item in items:
            if not isinstance(item, Seal):
                break
            last = item
    return last


def erase(
    config_file: Path | None, pid: int, key: str | None, *, done: bool, as_json: bool
) -> None:
    """All that the process has said, or one outcome."""
    what = f"all that process {pid} has said" if key is None else f"the outcome at {key} of {pid}"
    if not done:
        raise Stop(f"{what} would be erased, for good; --yes does it", ExitCode.USAGE, "not_told")
    bodies = loop.run(_erased, configured(config_file), pid, key)
    if as_json:
        output.document({"ok": True, "pid": pid, "key": key, "bodies": bodies})
    else:
        print(f"{what} is erased: {bodies} bodies")


async def _erased(config: Config, pid: int, key: str | None) -> int:
    async with opened(config) as kernel:
        await process(kernel, pid)
        return await kernel.request(EraseBodies(pid=Pid(pid), key=key))
