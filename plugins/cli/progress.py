"""How a run is going, from what the bus tells."""

from dataclasses import dataclass

from ...kernel import Event
from ...subsystems.llm.messages import Completed, Usage
from ...subsystems.processes.messages import (
    ProcessExited,
    ProcessParked,
    ProcessSpawned,
    SyscallBegan,
    SyscallDone,
)
from ...subsystems.scheduler.messages import Decided, Waiting


@dataclass
class Progress:
    """One process: its state, what it is doing, what it has used. Times in seconds."""

    state: str = "starting"
    doing: str = ""
    waiting: bool = False
    waited_s: float = 0.0
    usage: Usage = Usage(prompt=0, completion=0)  # noqa: RUF009 - it is frozen
    tokens_a_second: float | None = None
    finish: str = ""

    def take(self, event: Event) -> None:
        """Go by what has happened."""
        match event:
            case ProcessSpawned():
                self.state = "running"
            case ProcessParked() | ProcessExited():
                self.state = event.state if isinstance(event, ProcessExited) else "parked"
            case SyscallBegan():
                self.doing = event.kind
            case SyscallDone():
                self.doing, self.waiting = "", False
            case Waiting():
                self.waiting = True
            case Decided():
                self.waiting = False
                self.waited_s += event.chosen.waited_s
            case Completed():
                self._count(event)

    def _count(self, event: Completed) -> None:
        self.usage = Usage(
            prompt=self.usage.prompt + event.usage.prompt,
            completion=self.usage.completion + event.usage.completion,
            cached=self.usage.cached + event.usage.cached,
        )
        self.finish = event.finish
        writing_s = event.seconds - (event.first_token_s or 0)
        self.tokens_a_second = event.usage.completion / writing_s if writing_s > 0 else None

    def __str__(self) -> str:
        doing = "waiting for a slot" if self.waiting else self.doing
        speed = f"{self.tokens_a_second:.0f} tokens/s" if self.tokens_a_second else ""
        used = f"{self.usage.prompt} + {self.usage.completion} tokens" if self.usage.total else ""
        waited = f"waited {self.waited_s:.1f} s" if self.waited_s else ""
        return " | ".join(filter(None, [self.state, doing, used, speed, waited]))
