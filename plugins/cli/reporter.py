"""What a daemon's log tells: the facts that people watch for, as they happen."""

import logging
from collections.abc import Mapping
from typing import Any

from ...kernel import Event, Service
from ...kernel.log import log
from ...kernel.service import Heard
from ...subsystems.processes.messages import (
    ProcessExited,
    ProcessParked,
    ProcessResumed,
    ProcessSpawned,
    StepDone,
    SyscallBegan,
    SyscallDone,
    SyscallRepeated,
)

TOLD = (ProcessSpawned, ProcessResumed, ProcessParked, SyscallRepeated, ProcessExited)
OFTEN = (SyscallBegan, SyscallDone, StepDone)
"""Told at level debug only."""


class Reporter(Service, name="reporter"):
    """Writes a line for each fact; with `debug` for each syscall too."""

    def __init__(self, *, debug: bool) -> None:
        topics = ["process.*"] if debug else [kind.topic for kind in TOLD]
        self.__heard__ = (Heard((*topics, "human.*"), "report", 8192, "drop_oldest"),)

    async def report(self, event: Event) -> None:
        """A line."""
        level = logging.DEBUG if isinstance(event, OFTEN) else logging.INFO
        log.log(level, event.topic, **_facts(event))


def _facts(event: Event) -> Mapping[str, Any]:
    """Its fields; of a question, the question's."""
    facts = event.model_dump(mode="json")
    for inner in [value for value in facts.values() if isinstance(value, dict)]:
        facts |= inner
    return {key: value for key, value in facts.items() if value and not isinstance(value, dict)}
