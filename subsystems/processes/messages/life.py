"""A process's life: how it begins, goes on and ends."""

from typing import Any

from pydantic import Field

from ....kernel.message import Event, Request
from ...policy.messages import Bounds
from ...quota.messages import Quota
from ...storage.messages import Pid, ProcessClass, ProcessRecord, State
from .status import ProcessStatus


class Spawn(Request[ProcessRecord], topic="process.spawn", effect="idempotent"):
    """Start a process.

    With a `key` this is idempotent: it gives the process that was once spawned under it,
    running, parked or ended. `program` is the definition itself; on a wire it is its name.
    A `bound` child is sent TERM when its parent ends; others go on without it. What its `quota`
    lets it use, it and its descendants use of its parent's. It and they may do what its `bounds`
    leave of what its parent may.
    """

    program: Any
    state_json: str
    key: str | None = None
    name: str = ""
    role: str = ""
    tags: tuple[str, ...] = ()
    process_class: ProcessClass = "normal"
    priority: int = Field(default=50, ge=0, le=100)
    tenant: str = "default"
    user: str = ""
    parent: Pid | None = None
    bound: bool = False
    quota: Quota | None = None
    bounds: Bounds | None = None


class Resume(Request[ProcessStatus], topic="process.resume", effect="idempotent"):
    """Go on with a process here, although nobody has called it, if no living kernel has it.

    The reply says whether it is `live` here; a stopped one needs CONT, an ended one has ended.
    Raises NoSuchProcess, NoSuchProgram.
    """

    pid: Pid


class Wait(Request[ProcessRecord], topic="process.wait", effect="none"):
    """Wait until the process has ended; the reply is its last record."""

    pid: Pid


class ProcessSpawned(Event, topic="process.spawned"):
    """A process has begun."""

    pid: Pid
    program: str
    name: str
    process_class: ProcessClass
    priority: int


class ProcessExited(Event, topic="process.exited"):
    """A process has ended: exited, failed or killed."""

    pid: Pid
    program: str
    state: State
    error: str | None


class ProcessParked(Event, topic="process.parked"):
    """A process waits for long and has left memory; the next event for it brings it back."""

    pid: Pid
    waits_in: str


class ProcessResumed(Event, topic="process.resumed"):
    """A parked process is back in memory."""

    pid: Pid
