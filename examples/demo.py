"""Three agents at once on one real model with one slot: who waits, who goes first, what they find.

Runs offline and without a key, on the embedded model: `make demo`. The agents are spawned
batch first, and when it has the slot normal and then interactive. Each reads a file of this
repository through the file tool and answers a question about it with a quote.
"""

import asyncio
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anyio
from pydantic import BaseModel, Field, create_model
from rich.console import Console
from rich.live import Live
from rich.table import Table

from aoskernel import Event, Kernel, Process, ProcessFailed, ProcessRef, program, spawn
from aoskernel.subsystems.llm.driver import ModelMissing
from aoskernel.subsystems.llm.messages import Completed, Delta, Describe
from aoskernel.subsystems.processes.messages import ProcessExited, SyscallBegan, SyscallDone
from aoskernel.subsystems.scheduler.messages import Decided, Waiting
from aoskernel.subsystems.storage.messages import ProcessClass

ROOT = Path(__file__).resolve().parent.parent

EXAMPLES = """\
Text: Bread is baked before six. The shop sells it until noon. What is left goes to the hens.
Question: Who gets what is left?
{"quote": "What is left goes to the hens.", "answer": "The hens."}

Text: The red bus goes to the harbour. The blue bus goes to the airport. Tickets are sold by \
the driver.
Question: Where can I buy a ticket?
{"quote": "Tickets are sold by the driver.", "answer": "From the driver."}

Text: The library opens at nine. It is closed on Sundays. Children read for free.
Question: When is the library closed?
{"quote": "It is closed on Sundays.", "answer": "It is closed on Sundays."}
"""


class Finding(BaseModel):
    """An answer, and the sentence of the text that it rests on."""

    quote: str
    answer: str = Field(max_length=140)


@program
async def research(self: Process, path: str, first_line: int, lines: int, question: str) -> Finding:
    """Read, then think: the order is the program's, the words are the model's."""
    read = await self.call("read_file", path=path, start_line=first_line, max_lines=lines)
    text = plain(read)
    prompt = f"{EXAMPLES}\nText: {text}\nQuestion: {question}\n"
    return await self.think(prompt, schema=quoting(text), max_tokens=160)


def quoting(text: str) -> type[Finding]:
    """A finding whose quote is one of the text's sentences; which one, the model chooses."""
    sentences = tuple(s for s in re.split(r"(?<=[.;!?])\s+", text) if len(s.split()) > 2)
    one_of: Any = Literal[sentences or (text,)]
    return create_model("Quoting", __base__=Finding, quote=(one_of, ...))


def plain(text: str) -> str:
    return " ".join(text.split())


class Task(NamedTuple):
    """One agent's work; the classes stand in the order of spawning."""

    process_class: ProcessClass
    path: str
    first_line: int
    lines: int
    question: str


TASKS = (
    Task("batch", "LICENSE", 15, 4, "Is there a warranty?"),
    Task("normal", "hatch_build.py", 3, 3, "What do type checkers get?"),
    Task("interactive", "examples/hello/notes.txt", 1, 9, "What happens on Friday?"),
)


@dataclass(eq=False)
class Row:
    """An agent as the table shows it."""

    task: Task
    ref: ProcessRef[Finding]
    state: str = "running"
    doing: str = ""
    waits_since: float | None = None
    waited_s: float = 0.0
    tokens: int = 0
    tokens_a_second: float | None = None
    passed: str = ""

    def cells(self, now: float) -> tuple[str, ...]:
        waited_s = self.waited_s if self.waits_since is None else now - self.waits_since
        speed = "" if self.tokens_a_second is None else f"{self.tokens_a_second:.0f}"
        place = (self.task.process_class, self.task.path, self.doing_now)
        return (*place, f"{waited_s:.1f} s", str(self.tokens), speed)

    @property
    def doing_now(self) -> str:
        if self.waits_since is not None:
            return "waits for a slot"
        return self.doing or self.state

    def __str__(self) -> str:
        used = f", {self.tokens} tokens" if self.tokens else ""
        waited = f", waited {self.waited_s:.1f} s" if self.waited_s else ""
        return f"{self.task.process_class:11}  {self.doing_now}{waited}{used}"


@dataclass
class Board:
    """What the events say of every agent, and the order in which their turns were served."""

    rows: dict[str, Row] = field(default_factory=dict)
    served: list[Row] = field(default_factory=list)

    def add(self, task: Task, ref: ProcessRef[Finding]) -> None:
        self.rows[f"research[{ref.pid}]"] = Row(task, ref)

    def take(self, event: Event, now: float) -> Row | None:
        """Go by an event; gives the row that does something else now."""
        match event:
            case SyscallBegan():
                row = self._row(event.pid)
                row.doing = event.kind
            case SyscallDone():
                self._row(event.pid).doing = ""
                return None
            case Waiting():
                row = self.rows[event.origin]
                row.waits_since = now
            case Decided():
                row = self.rows[event.chosen.origin]
                row.waits_since, row.waited_s = None, event.chosen.waited_s
                other = event.runner_up and self.rows[event.runner_up.origin]
                row.passed = other.task.process_class if other else ""
            case Delta():  # of this model, a token each
                self._serving().tokens += 1
                return None
            case Completed():
                row = self._serving()
                row.tokens = event.usage.completion
                row.tokens_a_second = row.tokens / (event.seconds - (event.first_token_s or 0))
                self.served.append(row)
                return None
            case ProcessExited():
                row = self._row(event.pid)
                row.state, row.doing = event.state, ""
            case _:
                return None
        return row

    def _row(self, pid: int) -> Row:
        return next(row for row in self.rows.values() if row.ref.pid == pid)

    def _serving(self) -> Row:
        """There is one slot: it has whoever thinks, does not wait and is not served yet."""
        thinking = (r for r in self.rows.values() if r.doing == "think" and r not in self.served)
        return next(row for row in thinking if row.waits_since is None)

    def table(self, now: float) -> Table:
        columns = ("class", "file", "state", "waited", "tokens", "per s")
        return tabulated(columns, [row.cells(now) for row in self.rows.values()])

    def order(self) -> Table:
        columns = ("served", "class", "spawned", "waited", "ahead of")
        spawned = list(self.rows.values())
        cells = [
            (
                str(number),
                row.task.process_class,
                str(spawned.index(row) + 1),
                f"{row.waited_s:.1f} s" if row.waited_s else "the slot was free",
                row.passed,
            )
            for number, row in enumerate(self.served, 1)
        ]
        return tabulated(columns, cells)


def tabulated(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


async def main() -> None:
    console = Console(highlight=False)
    board = Board()
    settings = {"llm.default": {"driver": "llamacpp", "slots": 1}, "tools.files": {"root": ROOT}}
    async with Kernel.from_config(services=settings) as kernel, kernel.listen("*") as events:
        card = await kernel.request(Describe())
        console.print(f"{card.model}, one slot. {card.note}\n", soft_wrap=True)
        clock = asyncio.get_running_loop().time  # for Live's thread too
        began = clock()
        live = Live(get_renderable=lambda: board.table(clock()), console=console)
        with live if console.is_terminal else nullcontext():
            board.add(TASKS[0], await begin(kernel, TASKS[0]))
            async for event in events:
                row = board.take(event, clock())
                if row is not None and not console.is_terminal:
                    print(f"{clock() - began:5.1f} s  {row}", flush=True)
                if isinstance(event, Delta) and len(board.rows) == 1:  # the slot is taken
                    for task in TASKS[1:]:
                        board.add(task, await begin(kernel, task))
                if all(row.state != "running" for row in board.rows.values()):
                    break
        console.print(f"\nThe turns, in the order served ({clock() - began:.0f} s):")
        console.print(board.order())
        console.print(verdict(board), soft_wrap=True)
        await report(console, board)


async def begin(kernel: Kernel, task: Task) -> ProcessRef[Finding]:
    what = research(task.path, task.first_line, task.lines, task.question)
    return await spawn(kernel, what, process_class=task.process_class)


def verdict(board: Board) -> str:
    waited = [row.task.process_class for row in board.served if row.waited_s]
    first = waited[0] if waited else "none"
    return (
        f"Of the {len(waited)} turns that waited, the {first} one was served first; "
        "the interactive one was spawned last.\n"
    )


async def report(console: Console, board: Board) -> None:
    """What they found, and how much of it is really in the files."""
    right = 0
    for row in board.rows.values():
        console.print(f"{row.task.path}: {row.task.question}", style="bold")
        try:
            finding = await row.ref
        except ProcessFailed as failed:
            console.print(f"  failed: {failed.error}\n", markup=False)
            continue
        text = await anyio.Path(ROOT / row.task.path).read_text("utf-8")
        found = plain(finding.quote) in plain(text)
        right += found
        console.print(f"  {finding.answer}", markup=False, soft_wrap=True)
        told = "in the file" if found else "NOT in the file"
        console.print(f'  "{finding.quote}" ({told})\n', markup=False, soft_wrap=True)
    console.print(
        f"{right} of {len(board.rows)} quotes are in the file. (The schema admits only sentences "
        "of the text that was read; which of them, and the answer, is the model's choice.)",
        soft_wrap=True,
    )


if __name__ == "__main__":
    try:
        anyio.run(main)
    except ModelMissing as missing:
        sys.exit(str(missing))
    except KeyboardInterrupt:
        sys.exit(130)
