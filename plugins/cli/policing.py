"""`aosk policy`: the rules, what they decide and have decided, and what was always allowed."""

import json
import shlex
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import typer

from ...kernel import Kernel, Service
from ...kernel.config import Config, build
from ...subsystems.policy.messages import (
    Bounds,
    Decide,
    Decision,
    Grant,
    Line,
    ListGrants,
    ListRules,
    Mode,
    RevokeGrant,
)
from ...subsystems.storage.messages import Entry, Pid, ReadLog
from . import loop, output
from .desk import Absent, configured, logged, opened
from .exits import ExitCode, Stop

POLICY = "policy"
SAYS = {"allow": "is made", "ask": "waits for a human", "deny": "is refused"}


class Attempt(NamedTuple):
    """What was typed: a call, and as whose it is meant."""

    call: str
    mode: Mode | None
    tenant: str


def show(config_file: Path | None, *, as_json: bool) -> None:
    """Two tables: the rules, and what was always allowed where the database is to be seen."""
    config = configured(config_file)
    lines = loop.run(_lines, config)
    try:
        given, unseen = loop.run(_grants, config), ""
    except Stop as stop:
        given, unseen = (), f"What was always allowed cannot be seen: {stop}"
    if as_json:
        rules, granted = _documents(lines), [_granted(grant) for grant in given]
        output.document({"ok": True, "rules": rules, "always": granted, "unseen": unseen or None})
        return
    _table(lines)
    if given:
        rows = ((str(grant.number), grant.tenant, str(grant.rule)) for grant in given)
        print()
        output.table(("always", "tenant", "rule"), rows)
        print("\naosk policy revoke NUMBER")
    if unseen:
        output.tell(unseen)


def check(file: Path | None, *, as_json: bool) -> None:
    """List the rules; what is odd about them is a failure, for scripts to see."""
    lines = loop.run(_lines, configured(file))
    odd = [line for line in lines if line.warning]
    if as_json:
        output.document({"ok": not odd, "rules": _documents(lines)})
    else:
        _table(lines)
    for line in odd:
        output.tell(f"{line.rule} {line.warning}")
    if odd:
        raise typer.Exit(ExitCode.FAILED)


def _table(lines: Iterable[Line]) -> None:
    output.table(("says", "rule"), ((line.verdict, line.rule) for line in lines))


def _documents(lines: Iterable[Line]) -> list[dict[str, Any]]:
    return [line.model_dump() for line in lines]


def _granted(grant: Grant) -> dict[str, Any]:
    return {"number": grant.number, "tenant": grant.tenant, "rule": str(grant.rule)}


async def _lines(config: Config) -> tuple[Line, ...]:
    async with _beside(_policy(config)) as kernel:
        return await kernel.request(ListRules(), to=POLICY)


async def _grants(config: Config) -> tuple[Grant, ...]:
    async with opened(config, _policy(config)) as kernel:
        return await kernel.request(ListGrants(), to=POLICY)


def _policy(config: Config) -> Service:
    if POLICY not in config.services:
        raise Stop("no [services.policy] is configured", ExitCode.CONFIG)
    return build(POLICY, config.services[POLICY])


@asynccontextmanager
async def _beside(*services: Service) -> AsyncIterator[Kernel]:
    """A kernel of these; whatever else they need refuses."""
    here = {handled.message for service in services for handled in service.__handled__}
    needs = frozenset[Any]().union(*(service.needs for service in services))
    async with Kernel(*services, Absent(needs - here)) as kernel:
        yield kernel


def attempt(config_file: Path | None, attempt: Attempt, *, as_json: bool) -> None:
    """Say what the policy would. Raises Stop where that is no."""
    call, arguments = _read(attempt.call)
    bounds = Bounds.of(attempt.mode, None)
    would = Decide(
        call=call,
        arguments=arguments,
        bounds=() if bounds is None else (bounds.written(),),
        tenant=attempt.tenant,
    )
    decision = loop.run(_decided, configured(config_file), would)
    told = f"{call} {SAYS[decision.verdict]}: {decision.rule}"
    if decision.verdict == "deny":
        raise Stop(told, ExitCode.REFUSED)
    if as_json:
        output.document({"ok": True, "call": call, **decision.model_dump()})
    else:
        print(told)


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """A call as a rule writes it, with values in place of patterns: JSON, or else text."""
    try:
        call, *pairs = shlex.split(text)
        if not (call.partition(":")[1] and all("=" in pair for pair in pairs)):
            raise ValueError
    except ValueError:
        raise Stop(
            f"{text!r} is no call; write for example 'tools.call:write_file path=notes.txt'",
            ExitCode.USAGE,
        ) from None
    return call, {name: _value(value) for name, _, value in (p.partition("=") for p in pairs)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


async def _decided(config: Config, would: Decide) -> Decision:
    """By the policy, beside the toolsets and what humans have always allowed."""
    policy = _policy(config)
    names = [n for n in config.services if n == "toolbox" or n.partition(".")[0] == "tools"]
    tools = [build(name, config.services[name]) for name in names]
    async with opened(config, policy, *tools) as kernel:
        return await kernel.request(would, to=POLICY)


def explain(config_file: Path | None, pid: int, key: str, *, as_json: bool) -> None:
    """Read it in the log."""
    entry = loop.run(_entry, configured(config_file), pid, key)
    verdict, rule = _why(entry)
    if as_json:
        told = {"pid": pid, "key": key, "call": entry.kind, "verdict": verdict, "rule": rule}
        output.document({"ok": True, **told})
        return
    said = {"allow": "was made", "deny": "was refused"}[verdict]
    print(f"{entry.kind} {said}: {rule or NO_RULE}")


NO_RULE = (
    "it changes nothing outside, and of such the log keeps no rule; "
    "`aosk policy try` says what decides it now"
)


async def _entry(config: Config, pid: int, key: str) -> Entry:
    async with opened(config) as kernel:
        record = await logged(kernel, pid)
        for entry in await kernel.request(ReadLog(pid=Pid(record.pid))):
            if entry.key == key:
                return entry
    raise Stop(
        f"process {pid} has said nothing at {key!r}; `aosk trace {pid}` shows its keys",
        ExitCode.FAILED,
        "NoSuchKey",
    )


def _why(entry: Entry) -> tuple[str, str]:
    """What became of it, and the rule where the log has one."""
    if entry.failed:
        told = json.loads(entry.body)
        if told["class"].endswith(":Refused"):
            return "deny", str(told["has"].get("rule", ""))
    return "allow", entry.rule


def revoke(config_file: Path | None, number: int, *, as_json: bool) -> None:
    """Raises NoSuchGrant."""
    loop.run(_revoked, configured(config_file), number)
    if as_json:
        output.document({"ok": True, "number": number})
    else:
        print(f"what was always allowed under number {number} is asked again")


async def _revoked(config: Config, number: int) -> None:
    async with opened(config, _policy(config)) as kernel:
        await kernel.request(RevokeGrant(number=number), to=POLICY)
