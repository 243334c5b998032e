"""`aosk run`: a kernel, one agent in it, and what it says while it works."""

import re
from collections.abc import Iterator
from functools import partial
from os.path import relpath
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from ...kernel import Kernel
from ...kernel.config import Config
from ...subsystems.llm.messages import Describe, ModelCard
from ...subsystems.policy.messages import Mode
from ...subsystems.processes.assistant import assistant
from ...subsystems.processes.messages import ProcessFailed
from ...subsystems.processes.program import ProcessRef, spawn
from . import choice, keys, loop, output
from .exits import ExitCode, Stop, as_stop
from .programs import read_and_think
from .view import View, view
from .watching import Watch, foreground

CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


class Order(NamedTuple):
    """What was typed."""

    task: str
    files: tuple[str, ...]
    model: str | None
    config: Path | None
    mode: Mode | None = None
    user: str = ""


def run(order: Order, *, as_json: bool) -> None:
    """Run it and tell the result. Raises Stop, or what the kernel raises."""
    result = loop.run(_Session(order, view(as_json=as_json)).run)
    if as_json:
        output.document({"ok": True, **result})


class _Session:
    """One kernel, for one order."""

    def __init__(self, order: Order, view: View) -> None:
        self._order, self._watch = order, Watch(view)
        self._config = choice.with_model(Config.load(choice.find(order.config)), order.model)

    async def run(self) -> dict[str, Any]:
        async with foreground(self._config) as kernel:
            began = anyio.current_time()
            card = await kernel.request(Describe(), to=self._address)
            self._advise(card)
            agent = await self._watch.to_the_end(kernel, self._spawn, _kill)
            answer = await self._result(agent)
            seconds = anyio.current_time() - began
        self._watch.done(answer)
        return {
            "answer": answer,
            "pid": agent.pid,
            "model": card.model,
            "finish": self._watch.progress.finish,
            "usage": self._watch.progress.usage.model_dump(),
            "seconds": round(seconds, 3),
        }

    async def _result(self, agent: ProcessRef[str]) -> str:
        try:
            return await agent
        except ProcessFailed as failed:
            raise self._explained(failed) from failed

    def _advise(self, card: ModelCard) -> None:
        """Where the model may be too small for the order, say so, and what else there is."""
        order = self._order
        free, chinese = not order.files, bool(CHINESE.search(order.task))
        if card.note and not card.vendor and (chinese or (free and not card.can.tools)):
            for line in self._advice(card, free=free, chinese=chinese):
                output.tell(line)

    def _advice(self, card: ModelCard, *, free: bool, chinese: bool) -> Iterator[str]:
        asks = ["answer in Chinese"] * chinese + ["choose tools freely"] * free
        yield f"This asks {card.model} to {' and to '.join(asks)}. {card.note}"
        if free:
            yield "With `--file NAME` the file is read first, and the model only has to answer."
        others = [a for a in choice.addresses(self._config) if a != self._address]
        if others:
            yield f"Configured too: {', '.join(f'--model {address}' for address in others)}."
        yield from keys.hints(self._config)

    @property
    def _address(self) -> str:
        route = self._config.routes.get("llm.complete")
        return (route and route.default) or choice.DEFAULT

    async def _spawn(self, kernel: Kernel) -> ProcessRef[str]:
        order = self._order
        begin = partial(
            spawn, kernel, process_class="interactive", user=order.user, mode=order.mode
        )
        if not order.files:
            return await begin(assistant(task=order.task))
        root = choice.workspace(self._config)
        files = tuple(relpath(file, root) for file in order.files)
        return await begin(read_and_think(task=order.task, files=files))

    def _explained(self, failed: ProcessFailed) -> Stop:
        """What can be done about it from the command line."""
        stop = as_stop(failed)
        if stop.kind == "StepLimit":
            return Stop(
                f"{failed.program} did not come to an end; name the files to read with --file, "
                "or a larger model with --model",
                stop.code,
                stop.kind,
            )
        if stop.code != ExitCode.TOOL or not self._order.files:
            return stop
        return Stop(
            f"{stop}. The workspace is {choice.workspace(self._config)}, and only what is in it "
            'can be read: copy the file there, or set root in [services."tools.files"] of the '
            "configuration to a directory that holds it.",
            stop.code,
            stop.kind,
        )


async def _kill(agent: ProcessRef[str]) -> None:
    """It is of this command; whoever ends the command ends it."""
    await agent.kill("KILL")
