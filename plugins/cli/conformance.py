"""`aosk models check`: does a configured model's driver do what every model driver must?"""

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from ...kernel import Service
from ...kernel.config import Config, build, load
from ...subsystems.llm.conformance import CHECKS, Check, Subject, Verdict, examine
from ...subsystems.llm.driver import LLM, ModelCard
from . import loop, output
from .choice import DEFAULT, find, models
from .exits import ExitCode, Stop

SMALL_WINDOW = 512
"""Tokens: of a model in this process, to see what happens to a prompt beyond the window."""
CACHED_HERE, CACHED_THERE = 100, 1100
"""Tokens of a prompt that is read from the prefix cache the second time; providers want more."""


class Held(Service, name="held", driver="llm"):
    """Holds a driver, which is thereby built as a kernel builds it."""

    def __init__(self, driver: LLM) -> None:
        self.held = driver


def check(
    address: str | None, config_file: Path | None, *, allowed: bool, only: str | None, as_json: bool
) -> None:
    """Run the conformance kit on a configured model. Raises Stop; ends with 1 on failures."""
    config = Config.load(find(config_file))
    place = _place(config, address)
    checks = _chosen(only)
    card, verdicts = loop.run(_examined, place, config.services[place], checks, allowed, as_json)
    counted = Counter(verdict.outcome for verdict in verdicts)
    if as_json:
        told = [verdict.model_dump(mode="json") for verdict in verdicts]
        output.document(
            {
                "ok": not counted["failed"],
                "address": place,
                "card": card.model_dump(mode="json"),
                "counts": dict(counted),
                "checks": told,
            }
        )
    else:
        said = ", ".join(f"{number} {outcome}" for outcome, number in counted.items())
        print(f"{card.model} at {place}: {said}")
    if counted["failed"]:
        raise typer.Exit(ExitCode.FAILED)


def _place(config: Config, address: str | None) -> str:
    known = models(config)
    route = config.routes.get("llm.complete")
    wanted = address or (route.default if route else None) or DEFAULT
    for place in (wanted, f"llm.{wanted}"):
        if place in known:
            return place
    names = ", ".join(known) or "none"
    raise Stop(f"no model {wanted!r} is configured; configured: {names}", ExitCode.USAGE)


def _chosen(only: str | None) -> tuple[Check, ...]:
    chosen = tuple(check for check in CHECKS if only is None or only in check.name)
    if not chosen:
        names = ", ".join(check.name for check in CHECKS)
        raise Stop(f"no check has {only!r} in its name; there are: {names}", ExitCode.USAGE)
    return chosen


async def _examined(
    place: str, table: Mapping[str, Any], checks: tuple[Check, ...], allowed: bool, as_json: bool
) -> tuple[ModelCard, list[Verdict]]:
    subject = _subject(place, table)
    verdicts: list[Verdict] = []
    async with subject.model() as model:
        if not allowed:
            _ask_before_spending(model.driver, model.card, table, checks)
        async with aclosing(examine(replace(subject, running=model.driver), checks)) as found:
            async for verdict in found:
                verdicts.append(verdict)
                if not as_json:
                    _show(verdict)
        return model.card, verdicts


def _subject(place: str, table: Mapping[str, Any]) -> Subject:
    """The configured driver; a model in this process can be made with a smaller window."""

    def make(**config: Any) -> LLM:
        held = build(place, {**table, **config, "use": f"{__name__}:{Held.__name__}"})
        assert isinstance(held, Held)
        return held.held

    driver = load("aoskernel.drivers.llm", table["driver"], "driver for llm")
    takes = inspect.signature(driver).parameters
    is_here = "context_window" in takes and not hasattr(driver, "vendors")
    return Subject(
        make=make,
        small_window={"context_window": SMALL_WINDOW} if is_here else None,
        one_slot={"slots": 1} if "slots" in takes else None,
        cache_from=CACHED_HERE if is_here else CACHED_THERE,
    )


def _ask_before_spending(
    driver: LLM, card: ModelCard, table: Mapping[str, Any], checks: Iterable[Check]
) -> None:
    """Raises Stop where the checks may cost money, with how much."""
    if card.price is None and not _is_remote(driver, card, table):
        return
    calls, tokens = sum(one.calls for one in checks), sum(one.tokens for one in checks)
    price, costs = card.price, ""
    if price is not None:
        most = tokens * max(price.prompt, price.completion) / 1e6
        costs = f", {most:.2g} {price.currency} at the most"
    raise Stop(
        f"this makes up to {calls} calls to {card.model}, of about {tokens} tokens in all{costs}. "
        "To go on, add --yes",
        ExitCode.USAGE,
    )


def _is_remote(driver: LLM, card: ModelCard, table: Mapping[str, Any]) -> bool:
    """Whether a provider answers: a server on another machine."""
    rows = driver.vendors() if hasattr(driver, "vendors") else ()
    own = [table["base_url"]] if table.get("base_url") else []
    urls = [
        end.base_url for row in rows if row.name == card.vendor for end in row.endpoints.values()
    ]
    return bool(rows) and not all(_is_here(str(url)) for url in own or urls)


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _show(verdict: Verdict) -> None:
    print(f"{verdict.outcome:14} {verdict.seconds:5.1f} s  {verdict.says}", flush=True)
    if verdict.reason:
        print(f"{'':24}{verdict.reason}", flush=True)
