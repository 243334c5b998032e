"""Processes: their records, who has them, and which have something to do."""

from dataclasses import dataclass
from typing import Literal

from ....kernel.message import Request
from .names import Pid, ProcessClass, State


@dataclass(slots=True, kw_only=True)
class ProcessRecord:
    """A process between steps: all of it, as data.

    `priority` 0 goes first. `user` is for whom it works, of the tenant's, "" where that is nobody
    in particular. `epoch` counts its owners; only the newest may write. `silent` is
    the newest epoch whose owner fell silent: it may be frozen, and about to act.
    `result` is JSON text when it has exited; when it failed or was stopped, `error` is a
    sentence and `error_kind` the error's class, e.g. "ToolFailed". A `bound` process is sent
    TERM when its parent ends.

    What a parked one waits for: `waits_in` are the syscalls, `waits_for` the processes,
    `wake_at` the time, in seconds since 1970. With nothing in `waits_in` it was cut at its
    work, and goes on as soon as somebody takes it. `clock` is the last time it was woken at.

    Of a `bare` one, which has ended, retention has left nothing but this record.
    `quotas` are those of its ancestors, and itself, that were born with a quota; `bounds` what
    the policy is to hold it to, the outermost first, in the policy's own words.
    """

    pid: Pid
    program: str
    version: str
    state_json: str
    key: str | None = None
    name: str = ""
    role: str = ""
    tags: tuple[str, ...] = ()
    parent: Pid | None = None
    process_class: ProcessClass = "normal"
    priority: int = 50
    tenant: str = "default"
    user: str = ""
    state: State = "running"
    epoch: int = 0
    step: int = 0
    result: str | None = None
    error: str | None = None
    error_kind: str | None = None
    bound: bool = False
    silent: int = -1
    waits_in: tuple[str, ...] = ()
    waits_for: tuple[Pid, ...] = ()
    wake_at: float | None = None
    clock: float = 0.0
    bare: bool = False
    quotas: tuple[Pid, ...] = ()
    bounds: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Alarm:
    """A parked process, and when it is to be woken, in seconds since 1970."""

    pid: Pid
    at: float


@dataclass(slots=True, kw_only=True)
class Tenure:
    """Which living kernel owns a process, None where none does.

    `since` is when it came into its state, in seconds since 1970.
    """

    pid: Pid
    kernel: int | None
    since: float


@dataclass(slots=True, kw_only=True)
class Lineage:
    """A process, its parent, and `root`, who has no parent: of whom it descends.

    `born` and `root_born` are in seconds since 1970.
    """

    pid: Pid
    born: float
    parent: Pid | None
    root: Pid
    root_born: float


@dataclass(slots=True, kw_only=True)
class AddProcess:
    """A process is born, of epoch 0; whoever commits it owns it. Raises KeyTaken."""

    write: Literal["born"] = "born"
    record: ProcessRecord


@dataclass(slots=True, kw_only=True)
class SaveProcess:
    """What has changed of a process: its state, its step, what it waits for, how it ended.

    One that does not run any more has no owner any more either. When it has ended, its bound
    children find a TERM among their commands.
    """

    write: Literal["process"] = "process"
    record: ProcessRecord


class NewPid(Request[Pid], topic="storage.new_pid", effect="idempotent"):
    """A process number that nobody has had."""


class ClaimProcesses(
    Request[tuple[ProcessRecord, ...]], topic="storage.claim_processes", effect="once"
):
    """Take over processes in one of these states that no living kernel owns.

    Each gets a new epoch, by which its former owner is fenced, and is running then. Only those
    of these programs (name, version), which this kernel is then known to have, and of this
    number, where these are given. With `due_by`, in seconds since 1970, of the parked ones
    only those that have something to do: they were cut at their work, or a letter, a command,
    an answer, the end of a process they wait for, or their time has come.
    """

    programs: tuple[tuple[str, str], ...] | None = None
    states: tuple[State, ...] = ("running", "parked")
    pid: Pid | None = None
    due_by: float | None = None
    limit: int = 1000


class FindAlarms(Request[tuple[Alarm, ...]], topic="storage.find_alarms", effect="none"):
    """When parked processes of these programs are to be woken, the earliest first."""

    programs: tuple[tuple[str, str], ...]
    limit: int = 100


class FindStranded(Request[tuple[Pid, ...]], topic="storage.find_stranded", effect="none"):
    """Those of these processes that go on, and that no living kernel owns or has a program for."""

    pids: tuple[Pid, ...]


class FindTenures(Request[tuple[Tenure, ...]], topic="storage.find_tenures", effect="none"):
    """Who has these processes, and since when they have been in their state."""

    pids: tuple[Pid, ...]


class FindLineage(Request[Lineage | None], topic="storage.find_lineage", effect="none"):
    """Where a process comes from. None where there is no such process."""

    pid: Pid


class ReadProcess(Request[ProcessRecord | None], topic="storage.read_process", effect="none"):
    """A process by number or by key."""

    pid: Pid | None = None
    key: str | None = None


class FindProcesses(
    Request[tuple[ProcessRecord, ...]], topic="storage.find_processes", effect="none"
):
    """Processes that have all of these properties, by number; ended ones only if asked for."""

    name: str | None = None
    role: str | None = None
    tag: str | None = None
    parent: Pid | None = None
    tenant: str | None = None
    ended: bool = False
    limit: int = 1000
