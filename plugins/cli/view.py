"""What people or programs see of a run while it runs.

On a terminal a status line moves; into a file or pipe goes a line for every change; with
--json every event is a line of its own. The text itself goes to stdout as it comes, unless
stdout is the terminal on which the status moves: then the answer follows at the end.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ...kernel import Event
from ...subsystems.llm.messages import Delta
from ...subsystems.processes.messages import Asked, ProcessExited, SyscallBegan
from ...subsystems.scheduler.messages import Waiting
from . import output
from .progress import Progress


class View(Protocol):
    """Shows a run."""

    def shown(self) -> AbstractContextManager[object]:
        """The time in which it shows."""
        ...

    def heard(self, event: Event, progress: Progress) -> None:
        """Something happened; `progress` has taken it already."""

    def said(self, delta: Delta) -> None:
        """The model wrote a piece of text."""

    def done(self, answer: str) -> None:
        """The run came to its end with this answer."""


class JsonLines:
    """Events as JSON lines; the result comes from whoever has it."""

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def heard(self, event: Event, progress: Progress) -> None:
        output.document({"event": event.topic, **event.model_dump(mode="json")})

    def said(self, delta: Delta) -> None:
        output.document({"event": delta.topic, **delta.model_dump(mode="json")})

    def done(self, answer: str) -> None:
        pass


class Streamed:
    """The text on stdout; at its end a newline, and what was not streamed."""

    def __init__(self) -> None:
        self._call, self._attempt, self._said = "", 0, ""

    def said(self, delta: Delta) -> None:
        if self._said and (delta.call != self._call or delta.offset == 0):  # another turn or try
            print(flush=True)
            if delta.call == self._call and delta.attempt > self._attempt:
                output.tell(
                    "The reply was cut and is made again; what stands above is not part of it."
                )
            self._said = ""
        self._call, self._attempt = delta.call, delta.attempt
        self._said += delta.text
        print(delta.text, end="", flush=True)

    def done(self, answer: str) -> None:
        if self._said:
            print(flush=True)
        if self._said != answer:
            print(answer, flush=True)


class Lines(Streamed):
    """A line on stderr whenever the run begins something, waits or ends."""

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def heard(self, event: Event, progress: Progress) -> None:
        if isinstance(event, Asked):
            output.tell(question(event))
        if isinstance(event, SyscallBegan | Waiting | ProcessExited):
            output.tell(str(progress))


class Moving(Streamed):
    """A status line that moves on the terminal that stderr is."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._progress = Progress()
        self._text = ""
        self._streams = not sys.stdout.isatty()

    def shown(self) -> AbstractContextManager[object]:
        return Live(
            get_renderable=self._render,
            console=self._console,
            transient=True,
            redirect_stdout=False,
            refresh_per_second=8,
        )

    def heard(self, event: Event, progress: Progress) -> None:
        self._progress = progress
        if isinstance(event, Asked):
            self._console.print(Text(question(event)))

    def said(self, delta: Delta) -> None:
        if self._streams:
            super().said(delta)
        self._text = self._text[: delta.offset] + delta.text

    def _render(self) -> Group:
        """The end of the text, as much as fits, and the status under it."""
        room = max(self._console.height - 3, 1)
        text = Text("" if self._streams else self._text)
        lines = text.wrap(self._console, self._console.width)
        return Group(*lines[-room:], Text(str(self._progress), style="dim", no_wrap=True))


def question(asked: Asked) -> str:
    """What a human is asked, and how to answer from elsewhere."""
    put = asked.question
    choices = "|".join(put.choices) or "TEXT"
    return f"{put.text}\nAnswer from another terminal: aosk answer {put.number} {choices}"


def view(*, as_json: bool) -> View:
    """The one that fits where this runs."""
    if as_json:
        return JsonLines()
    console = Console(stderr=True, highlight=False)
    return Moving(console) if console.is_terminal else Lines()
