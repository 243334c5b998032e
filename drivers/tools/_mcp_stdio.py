"""An MCP server as a process of ours: lines of JSON over its pipes, bounded, and no zombie."""

import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import mcp_types as types
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage

Message = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Message], MemoryObjectSendStream[SessionMessage]]

GRACE_S = 2.0
"""To end by itself when its input closes, and again after SIGTERM."""
GARBAGE = 100
"""Lines that are no JSON, in a row; who says nothing else is no server."""
TOLD = 5
"""Of its last lines on stderr, and of garbage, that an error tells."""


class StdioServer:
    """A command; each time it is entered it runs anew, in a process group of its own.

    It inherits PATH, HOME and the like, and else `env` only. A line longer than `most` bytes
    ends the connection, since nothing after it can be trusted to be a message.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, most: int
    ) -> None:
        self._command, self._cwd, self._most = list(command), cwd, most
        self._env = {**get_default_environment(), **env}
        self._said: deque[str] = deque(maxlen=TOLD)
        self.trouble = ""
        self.pid: int | None = None

    def last_words(self) -> str:
        """What it wrote at last that was no message."""
        return " / ".join(filter(None, [self.trouble, *self._said]))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Streams]:
        self.trouble = ""
        self._said.clear()
        process = await anyio.open_process(
            self._command, env=self._env, cwd=self._cwd, start_new_session=True
        )
        self.pid = process.pid
        heard, inbox = anyio.create_memory_object_stream[Message](0)
        outbox, told = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as tasks, inbox, outbox:
            tasks.start_soon(self._read, process, heard)
            tasks.start_soon(_write, process, told, heard)
            tasks.start_soon(self._overhear, process)
            try:
                yield inbox, outbox
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
                tasks.cancel_scope.cancel()

    async def _read(self, process: Process, heard: MemoryObjectSendStream[Message]) -> None:
        assert process.stdout is not None
        lines, garbage = BufferedByteReceiveStream(process.stdout), 0
        async with heard:
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                while garbage < GARBAGE and (line := await self._line(lines)) is not None:
                    message = self._message(line)
                    garbage = 0 if message else garbage + 1
                    if message:
                        await heard.send(message)
        if garbage == GARBAGE:
            self.trouble = f"{GARBAGE} lines in a row were no JSON"
        await _drain(process.stdout)

    async def _line(self, lines: BufferedByteReceiveStream) -> bytes | None:
        try:
            return await lines.receive_until(b"\n", self._most)
        except (anyio.EndOfStream, anyio.IncompleteRead):
            return None
        except anyio.DelimiterNotFound:
            self.trouble = f"it sent a line of more than {self._most:,} bytes (max_bytes)"
            return None

    def _message(self, line: bytes) -> SessionMessage | None:
        try:
            return SessionMessage(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError:
            self._say(line)
            return None

    async def _overhear(self, process: Process) -> None:
        assert process.stderr is not None
        with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            while True:
                for line in (await process.stderr.receive()).splitlines():
                    self._say(line)

    def _say(self, line: bytes) -> None:
        if text := line[:200].decode(errors="replace").strip():
            self._said.append("".join(c for c in text if c.isprintable()))


async def _drain(stream: ByteReceiveStream) -> None:
    """Who cannot write its last does not end."""
    with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
        while True:
            await stream.receive()


async def _write(
    process: Process,
    told: MemoryObjectReceiveStream[SessionMessage],
    heard: MemoryObjectSendStream[Message],
) -> None:
    assert process.stdin is not None
    async with told:
        try:
            async for item in told:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                await process.stdin.send(text.encode() + b"\n")
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            await heard.aclose()  # it does not listen any more, so no answer is to come


async def _end(process: Process) -> None:
    """Close its input, then TERM, then KILL the group; and reap it."""
    assert process.stdin is not None
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    with anyio.move_on_after(GRACE_S):
        await process.wait()
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)  # what it has started, too
        with anyio.move_on_after(GRACE_S):
            await process.wait()
            break
    await process.aclose()
