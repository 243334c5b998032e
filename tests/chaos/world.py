"""The outside world: it counts what applications do to it, and outlives their deaths.

It stands in the test's own process, which nobody kills. A call takes effect when it arrives;
the answer may be held back, so that a death lands between the two.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

LINE = 16 << 20
GONE = (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead)
"""The application has died, or does not wait for the answer any more."""


@dataclass(kw_only=True)
class Call:
    """A call as it came: from which application, in which process's syscall.

    `name` is a model's prompt or "tool item"; `key` is the idempotency key of a tool's call,
    "pid/step:path" for both. One that `refuses_repeats` has its effect once for each key,
    however often it comes. `history` is what a model was sent.
    """

    application: int
    kind: str
    name: str
    key: str
    effect: str = ""
    refuses_repeats: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Life:
    """An application from its first words to its end; `result` is what its main printed."""

    over: anyio.Event = field(default_factory=anyio.Event)
    ended: bool = False
    result: Any = None
    facts: dict[str, Any] = field(default_factory=dict)
    crash: str = ""


class World:
    """Everything that is not the application, as a server on a unix socket.

    `hold` is awaited between a call's effect and its answer, while whoever asked is there.
    What is named "held: ..." is never answered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[Call] = []
        self.effects: Counter[str] = Counter()
        self.results: dict[str, str] = {}
        self.truths = 0  # that a human was told
        self.lives: dict[int, Life] = {}
        self.hold: Callable[[Call], Awaitable[None]] = _for_a_moment
        self._watches: list[tuple[Callable[[Call], bool], anyio.Event]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator["World"]:
        async with (
            await anyio.create_unix_listener(self.path) as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, self._meet)
            yield self
            tasks.cancel_scope.cancel()

    def sent(self, key: str) -> list[Call]:
        """The calls of a syscall."""
        return [call for call in self.calls if call.key == key]

    def next(self, told: Callable[[Call], bool]) -> anyio.Event:
        """Is set when such a call comes; those that have come do not count."""
        came = anyio.Event()
        self._watches.append((told, came))
        return came

    async def _meet(self, stream: SocketStream) -> None:
        async with stream:
            with suppress(*GONE):
                lines = BufferedByteReceiveStream(stream)
                said = json.loads(await lines.receive_until(b"\n", LINE))
                if said["kind"] == "life":
                    await self._accompany(said["application"], lines)
                else:
                    reply = await self._reply(said, lines)
                    await stream.send(json.dumps(reply).encode() + b"\n")

    async def _accompany(self, application: int, lines: BufferedByteReceiveStream) -> None:
        """Hear an application out, until it dies or ends."""
        life = self.lives.setdefault(application, Life())
        try:
            while True:
                said = json.loads(await lines.receive_until(b"\n", LINE))
                life.crash = said.pop("crash", "")
                life.ended, life.result = "result" in said, said.pop("result", None)
                life.facts = said
        except GONE:
            life.over.set()

    async def _reply(self, said: dict[str, Any], lines: BufferedByteReceiveStream) -> Any:
        if said["kind"] in ("reconcile", "truth"):
            self.truths += said["kind"] == "truth"
            return self.results.get(said["key"])
        call = Call(**said)
        self.calls.append(call)
        if call.kind == "tool" and not (call.refuses_repeats and self.effects[call.key]):
            self.effects[call.key] += 1
            self.results[call.key] = f"{call.name}: done"
        for told, came in self._watches:
            if told(call):
                came.set()
        await self._hold(call, lines)
        return f"{call.name}: done"

    async def _hold(self, call: Call, lines: BufferedByteReceiveStream) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_until_gone, lines, tasks.cancel_scope)
            await self.hold(call)
            if call.name.startswith("held:"):
                await anyio.sleep_forever()
            tasks.cancel_scope.cancel()


async def _for_a_moment(call: Call) -> None:
    await anyio.sleep(0.001)


async def _until_gone(lines: BufferedByteReceiveStream, scope: anyio.CancelScope) -> None:
    """Whoever asked says nothing more, so all that can come is its end."""
    with suppress(*GONE):
        await lines.receive_exactly(1)
    scope.cancel()
