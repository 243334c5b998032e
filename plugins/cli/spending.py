"""`aosk cost` and `aosk quota`: what was used, by whom, and what may be."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from ...kernel.config import Config
from ...subsystems.processes.messages import ListProcesses
from ...subsystems.quota.messages import (
    COUNTED,
    ENDS_AT,
    NAMESPACE,
    NANO,
    PROCESS,
    Quota,
    amount,
    of_process,
    of_tenant,
)
from ...subsystems.storage.messages import (
    Account,
    Commit,
    Pid,
    ProcessRecord,
    PutAccount,
    ReadAccounts,
    ReadSpent,
    Spent,
    SpentBy,
)
from . import loop, output
from .desk import configured, opened, process
from .exits import ExitCode, Stop
from .listing import MOST, clock

COST = ("money", "prompt", "cached", "completion", "reasoning", "calls", "tool calls")
ACCOUNTS = ("quota", "what", "used", "reserved", "ceiling", "left", "when it is met")
Records = dict[str, ProcessRecord]
"""Processes, by their numbers as text."""


# Cost


def cost(config_file: Path | None, by: SpentBy, since: str | None, *, as_json: bool) -> None:
    """A table with a line for each, and each currency. Raises Stop."""
    config = configured(config_file)
    spent, records = loop.run(_spent, config, by, _day(since))
    if as_json:
        rows = [_cost(by, whose, one, records) for whose, one in spent]
        output.document({"ok": True, "by": by, "spent": rows})
    elif not spent:
        output.tell("Nothing was used.")
    else:
        named = [(_agent(w, records) if by == "agent" else w, one) for w, one in spent]
        output.table((by, *COST), (_cells(name, one) for name, one in named))


def _day(since: str | None) -> str | None:
    try:
        return since and date.fromisoformat(since).isoformat()
    except ValueError:
        raise Stop(f"{since!r} is no day; write it as 2026-11-27", ExitCode.USAGE) from None


async def _spent(
    config: Config, by: SpentBy, since: str | None
) -> tuple[tuple[tuple[str, Spent], ...], Records]:
    async with opened(config) as kernel:
        spent = await kernel.request(ReadSpent(by=by, since=since))
        found = await kernel.request(ListProcesses(ended=True, limit=MOST)) if spent else ()
        return spent, {str(one.pid): one.record for one in found}


def _cost(by: SpentBy, whose: str, spent: Spent, records: Records) -> dict[str, Any]:
    """As JSON; the money is None where nobody knows it."""
    record = records.get(whose) if by == "agent" else None
    return {
        by: whose,
        **({"program": record and record.program} if by == "agent" else {}),
        "currency": spent.currency or None,
        "money": spent.money / NANO if spent.currency else None,
        "prompt": spent.prompt,
        "cached": spent.cached,
        "completion": spent.completion,
        "reasoning": spent.reasoning,
        "calls": spent.calls,
        "tool_calls": spent.tool_calls,
    }


def _cells(name: str, spent: Spent) -> tuple[str, ...]:
    money = amount(spent.currency, spent.money) if spent.currency else "unknown"
    tokens = (spent.prompt, spent.cached, spent.completion, spent.reasoning)
    numbers = (*tokens, spent.calls, spent.tool_calls)
    return name or "(tools)", money if spent.calls else "", *(f"{n:,}" for n in numbers)


def _agent(number: str, records: Records) -> str:
    if number == "0":
        return "(applications)"
    record = records.get(number)
    return number if record is None else f"{record.program}[{number}]"


# Quotas


def quotas(config_file: Path | None, *, ended: bool, as_json: bool) -> None:
    """All accounts: the namespace's, those of tenants, and the tree of processes."""
    found, records = loop.run(_accounts, configured(config_file), ended)
    if as_json:
        output.document({"ok": True, "quotas": [_told(account) for account in found]})
    elif not found:
        output.tell("No quotas; `aosk quota set --help` tells how to set one.")
    else:
        ordered = sorted(found, key=lambda account: (_path(account.scope, records), account.what))
        output.table(ACCOUNTS, (_row(account, records) for account in ordered))


async def _accounts(config: Config, ended: bool) -> tuple[tuple[Account, ...], Records]:
    async with opened(config) as kernel:
        found = await kernel.request(ReadAccounts(ended=ended))
        listed = await kernel.request(ListProcesses(ended=ended, limit=MOST)) if found else ()
        return found, {str(one.pid): one.record for one in listed}


def _told(account: Account) -> dict[str, Any]:
    """As JSON: tokens, calls, seconds since 1970, or money of the currency that `what` is."""
    unit = 1 if account.what in (*COUNTED, ENDS_AT) else NANO
    ceiling = account.ceiling
    return {
        "scope": account.scope,
        "what": account.what,
        "ceiling": None if ceiling is None else ceiling / unit if unit > 1 else ceiling,
        **{
            name: getattr(account, name) / unit if unit > 1 else getattr(account, name)
            for name in ("used", "reserved", "lost", "overdrawn")
        },
        "action": account.action,
        "instead": account.instead or None,
    }


def _path(scope: str, records: Records) -> tuple[int, tuple[int, ...], str]:
    """Where it stands in the tree."""
    if scope.startswith(PROCESS):
        return 2, _line(scope.removeprefix(PROCESS), records), scope
    return int(scope != NAMESPACE), (), scope.rpartition("tenant:")[2] + " " + scope


def _line(number: str, records: Records) -> tuple[int, ...]:
    """The process's ancestors, the first first, and itself."""
    line: list[int] = []
    above: int | None = int(number)
    while above is not None and above not in line:
        line.insert(0, above)
        record = records.get(str(above))
        above = None if record is None else record.parent
    return tuple(line)


def _row(account: Account, records: Records) -> tuple[str, ...]:
    what, ceiling = account.what, account.ceiling
    action = f"{account.action} {account.instead}".rstrip()
    name = _name(account.scope, records)
    if what == ENDS_AT:
        return name, "wall time", "", "", "" if ceiling is None else clock(ceiling), "", action
    used, reserved = amount(what, account.used), amount(what, account.reserved)
    shown = "none" if ceiling is None else amount(what, ceiling)
    left = "" if not ceiling else f"{max(0, 1 - account.used / ceiling):.0%}"
    if account.lost:
        used += f", {amount(what, account.lost)} of it lost"
    if account.overdrawn:
        left = f"overdrawn by {amount(what, account.overdrawn)}"
    return name, what, used, reserved, shown, left, action


def _name(scope: str, records: Records) -> str:
    if not scope.startswith(PROCESS):
        return scope if scope == NAMESPACE else f"  {scope}"
    number = scope.removeprefix(PROCESS)
    return "  " * len(_line(number, records)) + _agent(number, records)


class Setting(NamedTuple):
    """What a quota is to be: whose, of which model, how much, and what has no ceiling any more."""

    whose: str
    model: str | None
    given: dict[str, Any]
    lifted: tuple[str, ...]


def put(config_file: Path | None, setting: Setting, *, as_json: bool) -> None:
    """Set ceilings; what was used stays. Raises Stop."""
    scope, quota = _scope(setting), _quota(setting)
    record = loop.run(_put, configured(config_file), scope, quota, setting.lifted)
    if as_json:
        output.document({"ok": True, "scope": scope})
        return
    print(f"the quota of {scope} is set")
    if record is not None and record.state == "stopped":
        print(f"it is stopped; `aosk cont {record.pid}` lets it go on")


def _scope(setting: Setting) -> str:
    """The whole namespace, a tenant or one of its models, or a process."""
    kind, _, tenant = setting.whose.partition(":")
    if kind == "tenant" and tenant:
        return of_tenant(tenant, setting.model)
    if setting.model is not None:
        raise Stop("--model is for tenants: `aosk quota set tenant:NAME --model M`", ExitCode.USAGE)
    if setting.whose == NAMESPACE:
        return NAMESPACE
    if setting.whose.isdecimal():
        return of_process(Pid(int(setting.whose)))
    raise Stop(
        f"whose quota is {setting.whose!r}? Write {NAMESPACE}, tenant:NAME or a process's number",
        ExitCode.USAGE,
    )


def _quota(setting: Setting) -> Quota:
    given = {name: value for name, value in setting.given.items() if value is not None}
    try:
        quota = Quota(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Stop(": ".join(filter(None, [where, first["msg"]])), ExitCode.USAGE) from None
    if quota.wall_s is not None and not setting.whose.isdecimal():
        raise Stop("--wall-s is for processes", ExitCode.USAGE)
    if not (quota.accounts("", 0) or setting.lifted):
        raise Stop("say how much: --tokens 50000, or --money 2.50 --currency EUR", ExitCode.USAGE)
    return quota


async def _put(
    config: Config, scope: str, quota: Quota, lifted: Iterable[str]
) -> ProcessRecord | None:
    async with opened(config) as kernel:
        record = None
        if scope.startswith(PROCESS):
            record = await process(kernel, int(scope.removeprefix(PROCESS)))
        free = [PutAccount(scope=scope, what=what, ceiling=None) for what in lifted]
        accounts = quota.accounts(scope, kernel.bus.wall())
        await kernel.request(Commit(pid=Pid(0), epoch=0, writes=(*accounts, *free)))
        return record
