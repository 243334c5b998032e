"""What a process does to others: to its children, and to whoever else it knows by number."""

from typing import TYPE_CHECKING

from pydantic import JsonValue

from ..storage.messages import Pid, PostLetter
from . import births
from .doubt import Outcome
from .messages import Kill, Origin, Signal, Spawn

if TYPE_CHECKING:
    from .service import Processes
    from .transcript import Transcript


async def spawn(service: "Processes", said: "Transcript", request: Spawn) -> Pid:
    """Start a child, with the outcome that tells its number in one commit."""

    async def work(origin: Origin) -> Outcome:
        record, birth = await births.prepare(service, request)
        return record.pid, birth

    service.register(request.program)  # also when the log answers
    asked = (request.program.name, request.state_json, request.key)
    pid = Pid(await said.syscall("spawn", asked, work))
    await service.resume(pid)
    return pid


async def kill(
    service: "Processes",
    said: "Transcript",
    pid: Pid,
    signal: Signal,
    grace_s: float,
    group: bool,
) -> None:
    """Send a signal."""
    request = Kill(pid=pid, signal=signal, grace_s=grace_s, group=group)

    async def work(origin: Origin) -> Outcome:
        await service.signals.send(request)
        return None, ()

    await said.syscall("kill", (pid, signal, grace_s, group), work)


async def send(service: "Processes", said: "Transcript", to: Pid, body: JsonValue) -> None:
    """Put a letter into another's mailbox, with the outcome in one commit."""

    async def work(origin: Origin) -> Outcome:
        await service.mail.check(to)
        return None, (PostLetter(to=to, body=body),)

    await said.syscall("send", (to, body), work)
    await service.mail.deliver(to)
