"""`aosk models`: what is configured, what is known by name, and bringing it here."""

from pathlib import Path
from typing import Any

from ...kernel.config import Config
from ...subsystems.llm.driver import Fetchable, Price, Vendor, VendorModel, Weights
from . import loop, output, vendors
from .choice import addresses, fetchables, find
from .exits import ExitCode, Stop


def show(config_file: Path | None, *, as_json: bool) -> None:
    """Three tables: services that answer, files that could, vendors."""
    config = Config.load(find(config_file))
    configured = [_configured(config, address) for address in addresses(config)]
    known = [
        {"driver": name, **weights.model_dump(mode="json"), "here": weights.path is not None}
        for name, driver in fetchables()
        for weights in driver.weights()
    ]
    rows_known = vendors.known().values()
    if as_json:
        offered = [_vendor(row) for row in rows_known]
        output.document({"ok": True, "configured": configured, "known": known, "vendors": offered})
        return
    rows = [(c["address"], c["driver"], c["model"] or "(the driver's default)") for c in configured]
    output.table(("configured", "driver", "model"), rows)
    print()
    output.table(
        ("known by name", "driver", "size", "licence", "where", "what it is"),
        [(k["name"], k["driver"], _size(k["size"]), k["licence"], _where(k), k["note"])
         for k in known],
    )  # fmt: skip
    print()
    output.table(
        ("vendor", "key", "models: aosk models list --vendor NAME"),
        [(row.name, _key(row), _some(row)) for row in rows_known],
    )


def show_vendor(name: str, *, as_json: bool) -> None:
    """One vendor: where it is, whether its key is here, and its models."""
    row = vendors.vendor(name)
    if as_json:
        output.document({"ok": True, "vendor": _vendor(row)})
        return
    print(f"{row.title} ({row.name}), as of {row.checked}\n")
    output.facts(_about(row))
    print()
    if not row.models:
        print("Any model that the server has.")
        return
    output.table(
        ("model", "window", "output", "price per million", "can"),
        [(m.name, _tokens(m.context_window), _tokens(m.max_output), _prices(m), _can(m))
         for m in row.models],
    )  # fmt: skip
    print("\nPrices: prompt/cached prompt/reply; ? where none was found.")
    if notes := [(model.name, model.note) for model in row.models if model.note]:
        print()
        output.facts(notes)


def fetch(name: str | None, source: str | None, *, as_json: bool) -> None:
    """Bring a model file here, with its licence shown and a bar while it comes."""
    driver, weights = _pick(name)
    fetched = weights.path is None or source is not None
    origin = f"from {source or weights.source}" if fetched else f"already at {weights.path}"
    output.tell(f"{weights.name}, {_size(weights.size)}, licence {weights.licence}, {origin}")
    path = loop.run(_fetch, driver, weights, source)
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
        "driver": table.get("driver", "alias" if "models" in table else ""),
        "model": ", ".join(table.get("models", ())) or table.get("model"),
        "default": route is not None and route.default == address,
    }


def _vendor(row: Vendor) -> dict[str, Any]:
    return {**row.model_dump(mode="json"), "drivers": vendors.spoken(row), "key_set": _is_here(row)}


def _is_here(row: Vendor) -> bool | None:
    """Whether the key is set; None where there is none to set."""
    return vendors.is_set(row) if row.key else None


def _key(row: Vendor) -> str:
    if not row.key:
        return "none needed"
    return f"{row.key} ({'set' if vendors.is_set(row) else 'not set'})"


def _some(row: Vendor) -> str:
    """The first current models, and how many more."""
    current = [model.name for model in row.models if not model.retired]
    more = f", {len(current) - 3} more" if len(current) > 3 else ""
    return ", ".join(current[:3]) + more or "any that the server has"


def _about(row: Vendor) -> list[tuple[str, str]]:
    told = [("key", _key(row))]
    for wire, at in row.endpoints.items():
        places = [(f", {region}", url) for region, url in at.regions.items()]
        if len(set(at.regions.values())) < 2:
            places = [("", at.base_url)]
        told += [(f"{wire} wire{region}", url) for region, url in places]
    told += [("source", url) for url in row.source]
    return told + [("note", row.note)] * bool(row.note)


def _tokens(number: int | None) -> str:
    if number is None:
        return "?"
    return f"{number / 1e6:.3g}M" if number >= 1e6 else f"{number / 1e3:.0f}k"


def _prices(model: VendorModel) -> str:
    told = [model.price, *model.regional.values()]
    return "\n".join(_price(price) for price in told if price) or "?"


def _price(price: Price) -> str:
    rates = (price.prompt, price.cached, price.completion)
    return f"{'/'.join('-' if r is None else f'{r:g}' for r in rates)} {price.currency}"


def _can(model: VendorModel) -> str:
    if model.retired:
        return f"retired {model.retired}"
    able = {
        "tools": model.can.tools,
        "json": model.can.json_schema,
        "thinks": model.can.reasoning,
        "cache": model.can.prefix_cache,
    }
    return " ".join(word for word, can in able.items() if can)


def _where(known: dict[str, Any]) -> str:
    return str(known["path"]) if known["here"] else f"not here: aosk models fetch {known['name']}"


def _size(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
