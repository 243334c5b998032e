"""`aosk run`: a kernel, one agent in it, and what it says while it works."""

import re
from collections.abc import AsyncIterable, Iterator
from os.path import relpath
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from ...kernel import Event, Kernel
from ...kernel.config import Config
from ...subsystems.llm.messages import Delta, Describe, ModelCard
from ...subsystems.processes.assistant import assistant
from ...subsystems.processes.messages import ProcessExited, ProcessFailed
from ...subsystems.processes.program import ProcessRef, spawn
from . import choice, keys, output
from .exits import ExitCode, Stop, as_stop
from .programs import read_and_think
from .progress import Progress
from .view import View, view

CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

KILL_S = 5
"""How long an interrupted agent may take to be gone."""


class Order(NamedTuple):
    """What was typed."""

    task: str
    files: tuple[str, ...]
    model: str | None
    config: Path | None


def run(order: Order, *, as_json: bool) -> None:
    """Run it and tell the result. Raises Stop, or what the kernel raises."""
    result = anyio.run(_Session(order, view(as_json=as_json)).run)
    if as_json:
        output.document({"ok": True, **result})


class _Session:
    """One kernel, for one order."""

    def __init__(self, order: Order, view: View) -> None:
        self._order, self._view = order, view
        self._progress = Progress()
        self._all_said = anyio.Event()
        self._config = choice.with_model(Config.load(choice.find(order.config)), order.model)

    async def run(self) -> dict[str, Any]:
        config = self._config
        async with Kernel(*config.build(), config=config.kernel, routes=config.routes) as kernel:
            began = anyio.current_time()
            card = await kernel.request(Describe(), to=self._address)
            self._advise(card)
            pid, answer = await self._watch(kernel)
            seconds = anyio.current_time() - began
        self._view.done(answer)
        if self._progress.finish == "length":
            output.tell("The answer was cut: the model wrote as many tokens as it may.")
        return {
            "answer": answer,
            "pid": pid,
            "model": card.model,
            "finish": self._progress.finish,
            "usage": self._progress.usage.model_dump(),
            "seconds": round(seconds, 3),
        }

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

    async def _watch(self, kernel: Kernel) -> tuple[int, str]:
        """Spawn it and follow it to its end."""
        with self._view.shown():
            async with kernel.listen("*") as events, anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow, events)
                agent = await self._spawn(kernel)
                try:
                    async for delta in agent.stream():
                        self._view.said(delta)
                except BaseException:
                    # Ctrl-C, or a closed pipe: nobody waits for the answer any more.
                    with anyio.move_on_after(KILL_S, shield=True):
                        await agent.kill("KILL")
                    raise
                self._all_said.set()
        try:
            return agent.pid, await agent
        except ProcessFailed as failed:
            raise self._explained(failed) from failed

    async def _spawn(self, kernel: Kernel) -> ProcessRef[str]:
        order = self._order
        if not order.files:
            return await spawn(kernel, assistant(task=order.task), process_class="interactive")
        root = choice.workspace(self._config)
        files = tuple(relpath(file, root) for file in order.files)
        program = read_and_think(task=order.task, files=files)
        return await spawn(kernel, program, process_class="interactive")

    async def _follow(self, events: AsyncIterable[Event]) -> None:
        """Take note of events until the process has ended, which is told last."""
        async for event in events:
            if isinstance(event, ProcessExited):
                await self._all_said.wait()
            if not isinstance(event, Delta):  # those come by the stream, where none is dropped
                self._progress.take(event)
                self._view.heard(event, self._progress)
            if isinstance(event, ProcessExited):
                return

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
