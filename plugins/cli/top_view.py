"""How `aosk top` looks: kernels and counts, models with their slots, then the processes."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .listing import program, span, standing, waiting

if TYPE_CHECKING:
    from .top import Picture, Row

COLORS = {
    "running": "green",
    "parked": "cyan",
    "stopped": "yellow",
    "stranded": "red",
    "failed": "red",
    "killed": "red",
    "exited": "dim",
}
LANES = ("interactive", "normal", "batch")
BAR = 12
"""Slots that are drawn one by one; of more, a part."""
COLUMNS = (
    *("pid", "program", "state", "for", "doing", "step", "class", "tenant"),
    *("tokens in", "out", "cost", "kernel"),
)
RIGHT = {"pid", "step", "tokens in", "out", "cost", "kernel"}


def render(shown: "Picture", height: int | None) -> RenderableType:
    """The picture, as many processes as fit."""
    above = [_head(shown), _kernels(shown), Text("")]
    rows = len(shown.kernels) + 6
    for table in (_models(shown), _guards(shown)):
        if table.row_count:
            above += [table, Text("")]
            rows += table.row_count + 2
    most = len(shown.rows) if height is None else max(height - rows, 1)
    parts: list[RenderableType] = [*above, _processes(shown, most)]
    if len(shown.rows) > most:
        parts.append(Text(f"{len(shown.rows) - most} more", style="dim"))
    return Group(*parts)


def _head(shown: "Picture") -> RenderableType:
    at = datetime.fromtimestamp(shown.at).strftime("%H:%M:%S")
    line = Text.assemble(("aosk top", "bold"), f"  {at}  {shown.survey.where}")
    line.append(f"  namespace {shown.survey.namespace}", "dim")
    counts = Text("processes  ")
    for state, number in shown.survey.states.items():
        counts.append(f"{number} {state}  ", COLORS.get(state, ""))
    if not shown.survey.states:
        counts.append("none", "dim")
    return Group(line, counts)


def _kernels(shown: "Picture") -> RenderableType:
    if not shown.kernels:
        return Text("kernels    none runs; `aosk up` starts one", style="yellow")
    told = {console["os_pid"]: console for console in shown.consoles}
    lines = []
    for number, seen in enumerate(shown.kernels):
        console = told.get(seen.os_pid)
        host = f" on {console['host']}" if console else ""
        line = Text("kernels    " if number == 0 else " " * 11)
        line.append(str(seen.number), "bold")
        line.append(f"  process {seen.os_pid}{host}, has {seen.processes} processes")
        if console is None:
            line.append("; it has no console, so what it does is not shown", "dim")
        elif console["dropped"]:
            line.append(f"; {console['dropped']} events dropped", "yellow")
        lines.append(line)
    return Group(*lines)


def _models(shown: "Picture") -> Table:
    columns = ("model", "slots", "busy", "waiting", "calls", "failed", "tokens in", "out", "cost")
    table = _table((*columns, "process"), {"busy", *columns[4:], "process"})
    for console, model in shown.models:
        used = model["used"]
        table.add_row(
            Text.assemble((model["address"], "bold"), f"  {model['model'] or ''}"),
            _bar(model["busy"], model["slots"]),
            "" if model["slots"] is None else f"{model['busy']}/{model['slots']}",
            _queue(model["waiting"]),
            _number(used["calls"]),
            Text(_number(used["failed"]), "red" if used["failed"] else ""),
            _number(used["prompt"]),
            _number(used["completion"]),
            _money(used),
            str(console["os_pid"]),
        )
    return table


def _bar(busy: int | None, slots: int | None) -> Text:
    if busy is None or not slots:
        return Text("")
    width = min(slots, BAR)
    full = -(-busy * width // slots)
    color = "red" if busy == slots else "green"
    return Text.assemble(("■" * full, color), ("□" * (width - full), "dim"))


def _queue(waiting: dict[str, int]) -> Text:
    told = [f"{waiting[lane]} {lane}" for lane in LANES if waiting.get(lane)]
    return Text(", ".join(told) or "-", "yellow" if told else "dim")


def _guards(shown: "Picture") -> Table:
    table = _table(("guard", "address", "last said", "ago"), {"ago"})
    for guard in shown.guards:
        ago = span(shown.at - guard["at"])
        table.add_row(guard["guard"], guard["address"], Text(guard["told"], "yellow"), ago)
    return table


def _processes(shown: "Picture", most: int) -> RenderableType:
    table = _table(COLUMNS, RIGHT)
    for row in shown.rows[:most]:
        table.add_row(*_cells(row, shown.at))
    return table if shown.rows else Text("No processes.", style="dim")


def _cells(row: "Row", now: float) -> Iterable[Text]:
    status, tenure, record = row.listed.status, row.listed.tenure, row.listed.status.record
    state, used = standing(status), row.used
    doing = row.doing or waiting(record) or (record.error_kind or "")
    return (
        Text(str(record.pid)),
        Text(program(record), "bold"),
        Text(state, COLORS.get(state, "")),
        Text(span(now - tenure.since)),
        Text(doing),
        Text(str(record.step)),
        Text(f"{record.process_class} {record.priority}"),
        Text(record.tenant),
        Text("" if used is None else _number(used["prompt"])),
        Text("" if used is None else _number(used["completion"])),
        Text("" if used is None else _money(used)),
        Text(str(tenure.kernel or "")),
    )


def _table(columns: Sequence[str], right: set[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold dim", expand=False)
    for column in columns:
        side = "right" if column in right else "left"
        table.add_column(column, justify=side, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    return table


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _money(used: dict[str, Any]) -> str:
    """By currency; a question mark where a price is not known."""
    if not used["calls"]:
        return ""
    if used["money"] is None:
        return "?"
    return " ".join(f"{amount:.4f} {currency}" for currency, amount in used["money"].items()) or "0"
