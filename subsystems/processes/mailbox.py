"""Mailboxes: letters come in order, are bounded, and each is read by one."""

from typing import TYPE_CHECKING

from pydantic import JsonValue

from ..storage.messages import (
    ENDED,
    Commit,
    Key,
    Letter,
    Pid,
    PostLetter,
    ProcessRecord,
    ReadLetters,
)
from .live import Live
from .messages import MailboxFull, NoSuchProcess

if TYPE_CHECKING:
    from .service import Processes


class Mailboxes:
    """The mailboxes of all processes, `size` letters each."""

    def __init__(self, service: "Processes", size: int) -> None:
        self._service, self._size = service, size

    async def check(self, pid: Pid) -> ProcessRecord:
        """May a letter be put there? Raises NoSuchProcess, MailboxFull."""
        record = await self._service.read(pid)
        if record.state in ENDED:
            raise NoSuchProcess(f"process {pid} has {record.state}; it reads no letters")
        letters = await self._service.request(ReadLetters(pid=pid, limit=self._size))
        if len(letters) >= self._size:
            raise MailboxFull(f"the mailbox of process {pid} holds {len(letters)} letters")
        return record

    async def post(self, pid: Pid, body: JsonValue) -> None:
        """Put a letter there, which is from outside of all processes."""
        record = await self.check(pid)
        letter = PostLetter(to=record.pid, body=body)
        await self._service.request(Commit(writes=(letter,)))
        await self.deliver(record.pid)

    async def deliver(self, pid: Pid) -> None:
        """A letter has been committed: wake the process, from outside of memory if need be."""
        live = self._service.live.get(pid)
        if live is not None:
            live.wake()
        else:
            await self._service.resume(pid)

    async def next(self, live: Live, key: Key) -> Letter | None:
        """The oldest letter that no other branch of the process is taking."""
        held = live.taking or {}
        ask = ReadLetters(pid=live.record.pid, limit=len(held) + 1)
        for letter in await self._service.request(ask):
            if letter.number not in (live.taking or {}).values():
                live.taking = {**(live.taking or {}), key: letter.number}
                return letter
        return None
