"""`aosk models`: what is configured, what is known by name, and bringing it here."""

from pathlib import Path
from typing import Any

import anyio

from ...kernel.config import Config
from ...subsystems.llm.driver import Fetchable, Weights
from . import output
from .choice import addresses, fetchables, find
from .exits import ExitCode, Stop


def show(config_file: Path | None, *, as_json: bool) -> None:
    """Two tables: services that answer, files that could."""
    config = Config.load(find(config_file))
    configured = [_configured(config, address) for address in addresses(config)]
    known = [
        {"driver": name, **weights.model_dump(mode="json"), "here": weights.path is not None}
        for name, driver in fetchables()
        for weights in driver.weights()
    ]
    if as_json:
        output.document({"ok": True, "configured": configured, "known": known})
        return
    rows = [(c["address"], c["driver"], c["model"] or "(the driver's default)") for c in configured]
    output.table(("configured", "driver", "model"), rows)
    print()
    output.table(
        ("known by name", "driver", "size", "licence", "where", "what it is"),
        [(k["name"], k["driver"], _size(k["size"]), k["licence"], _where(k), k["note"])
         for k in known],
    )  # fmt: skip


def fetch(name: str | None, source: str | None, *, as_json: bool) -> None:
    """Bring a model file here, with its licence shown and a bar while it comes."""
    driver, weights = _pick(name)
    fetched = weights.path is None or source is not None
    origin = f"from {source or weights.source}" if fetched else f"already at {weights.path}"
    output.tell(f"{weights.name}, {_size(weights.size)}, licence {weights.licence}, {origin}")
    path = anyio.run(_fetch, driver, weights, source)
    if as_json:
        told = {**weights.model_dump(mode="json"), "path": str(path), "fetched": fetched}
        output.document({"ok": True, **told})
    else:
        print(path)
        if fetched:
            output.tell(f"SHA-256 checked: {weights.sha256}")


def _pick(name: str | None) -> tuple[Fetchable, Weights]:
    known = [(driver, w) for _, driver in fetchables() for w in driver.weights()]
    wanted = [pair for pair in known if name in (None, pair[1].name)]
    if len(wanted) == 1:
        return wanted[0]
    names = ", ".join(sorted(w.name for _, w in known)) or "none"
    missing = "which model?" if name is None else f"no model {name!r} is known by name;"
    raise Stop(f"{missing} known: {names}. For another, give its .gguf file to `aosk run --model`.",
               ExitCode.USAGE)  # fmt: skip


async def _fetch(driver: Fetchable, weights: Weights, source: str | None) -> Path:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = output.console(stderr=True)
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(weights.name, total=None)

        def report(so_far: int, in_all: int) -> None:
            progress.update(task, completed=so_far, total=in_all or None)

        return await driver.fetch(weights.name, source=source, report=report)


def _configured(config: Config, address: str) -> dict[str, Any]:
    table = config.services[address]
    route = config.routes.get("llm.complete")
    return {
        "address": address,
        "driver": table.get("driver", ""),
        "model": table.get("model"),
        "default": route is not None and route.default == address,
    }


def _where(known: dict[str, Any]) -> str:
    return str(known["path"]) if known["here"] else f"not here: aosk models fetch {known['name']}"


def _size(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
