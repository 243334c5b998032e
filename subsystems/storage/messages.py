"""What others may say to storage: one kind of commit, and a few ways to read back.

Everything a process does to the inside of the system is data, a `Write`; one commit carries
the writes of a syscall together with its outcome. What is stored are plain dataclasses: a
busy process makes dozens of them per step, and a validated or a frozen one costs three times
as much. Never change one that is made.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, NewType

from pydantic import Field, JsonValue, SkipValidation

from ...kernel.errors import KernelError
from ...kernel.message import Effect, Event, Request, Value

Pid = NewType("Pid", int)
OUTSIDE = Pid(0)
"""Who commits what belongs to no process: what a service keeps, what an application sends."""
Key = str
"""A syscall's place in its process: "step:path", e.g. "0:2" or, in a parallel, "0:3.1.0"."""

ProcessClass = Literal["interactive", "normal", "batch"]
State = Literal["running", "parked", "stopped", "exited", "failed", "killed"]
ENDED: frozenset[State] = frozenset({"exited", "failed", "killed"})
JsonObject = dict[str, JsonValue]
Crossing = Literal["stop", "ask", "degrade"]
SpentBy = Literal["agent", "tenant", "model", "day"]


class StorageError(KernelError):
    """Storage could not do what it was asked; what it says was committed, is."""


class Fenced(StorageError):
    """This kernel does not own the process, or not any more; nothing was written."""


class KeyTaken(StorageError):
    """A process with this key exists already; nothing was written."""


class StorageUnavailable(StorageError):
    """The database does not answer. A commit may or may not have been written."""


class SchemaMismatch(StorageError):
    """The database was made by a version of this library that this one cannot work with."""


class StorageRefused(StorageError):
    """The database cannot store this; nothing was written."""


class Erased(StorageError):
    """What the process would need to go on was erased."""


class Overdrawn(StorageError):
    """A reservation does not fit its account at this moment; nothing was written."""


@dataclass(slots=True, kw_only=True)
class ProcessRecord:
    """A process between steps: all of it, as data.

    `priority` 0 goes first. `epoch` counts its owners; only the newest may write. `silent` is
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
class Entry:
    """A syscall in the log: what was said (`fingerprint`), and how it came out, if it has.

    `body` is JSON text; `failed` says it is an error's. `attempts` counts its intents, the last
    of which was of `epoch`; `note` is what that one said, or what a human has said of it since.
    That one `began_at`, in seconds since 1970; only what has intents has that. `rule` is what let
    it be made, where a policy has said so. `took_s` is for how long the program waited for the
    outcome, in the life that it came in. Of an `erased` one the body is gone.
    """

    key: Key
    kind: str
    fingerprint: str
    effect: Effect = "none"
    attempts: int = 0
    settled: bool = False
    failed: bool = False
    body: str = ""
    epoch: int = 0
    note: str = ""
    began_at: float | None = None
    took_s: float | None = None
    rule: str = ""
    erased: bool = False


@dataclass(slots=True, kw_only=True)
class Page:
    """A piece of context. Its text stands here, or in the log's entry that it points to.

    Written with an `entry`, a page has no text of its own; read back, its text is the entry's
    body, JSON text. `number`, which storage gives, orders a process's pages.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    entry: Key | None = None
    tool_call_id: str | None = None
    pinned: bool = False
    number: int = 0


@dataclass(slots=True, kw_only=True)
class Letter:
    """A message in a process's mailbox; `number` orders them."""

    number: int
    sender: Pid | None
    body: JsonValue


@dataclass(slots=True, kw_only=True)
class Command:
    """A signal that waits to be carried out by whoever owns the process; `number` orders them."""

    number: int
    signal: str
    grace_s: float


@dataclass(slots=True, kw_only=True)
class Question:
    """What a process asks a human, at one place of its log. `number` identifies it.

    `deadline` is in seconds since 1970. `receipt` is that of whoever answered.
    """

    number: int
    pid: Pid
    key: Key
    text: str
    choices: tuple[str, ...] = ()
    deadline: float | None = None
    answer: str | None = None
    receipt: str | None = None
    closed: bool = False


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


class Expiry(Value):
    """Which processes are over: those that ended so long ago, and that no living one needs.

    Needed is a child of a living parent, a process that a living one waits for, and one whose
    descendants live. Of one with a `key` the record stays, for `keys_after_s` seconds or for
    ever: while it is there the key is taken.
    """

    after_s: float
    states: tuple[State, ...] = ("exited", "failed", "killed")
    tenant: str | None = None
    but_tenants: tuple[str, ...] = ()
    keys_after_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Expired:
    """A process that is over. Not `whole`: its record stays, and with it the key.

    `ended_at` is in seconds since 1970.
    """

    pid: Pid
    program: str
    state: State
    tenant: str
    key: str | None
    ended_at: float
    whole: bool


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
class Memory:
    """Something remembered. `terms` are the words it is found by."""

    number: int = 0
    tenant: str
    pid: Pid | None
    text: str
    tags: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Record:
    """What a service keeps under a key, JSON data. `at` is when, in seconds since 1970."""

    collection: str
    key: str
    body: JsonValue
    at: float = 0.0


@dataclass(slots=True, kw_only=True)
class Account:
    """What a quota bounds, and how it stands: `what` is counted, of all calls of a `scope`.

    Whole numbers: tokens, calls, or billionths of a currency. No `ceiling`: it only counts.
    Of what was `used`, `lost` was of calls that a crash has cut, taken at their reservation.
    Where reservations were too small, it is `overdrawn` by so much. `action` says what becomes
    of a process that meets the ceiling, `instead` which model it is given.
    """

    scope: str
    what: str
    ceiling: int | None
    used: int = 0
    reserved: int = 0
    lost: int = 0
    overdrawn: int = 0
    action: Crossing = "stop"
    instead: str = ""


@dataclass(slots=True, kw_only=True)
class Charge:
    """So much, for one account."""

    scope: str
    what: str
    amount: int


@dataclass(slots=True, kw_only=True)
class Spent:
    """What calls have used. Money in billionths of `currency`, "" where no price is known."""

    currency: str = ""
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    money: int = 0
    calls: int = 0
    tool_calls: int = 0


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


@dataclass(slots=True, kw_only=True)
class Intend:
    """Before a syscall that reaches outside or takes long: it is about to begin (again).

    `note` is what it begins with and must find again, e.g. when a sleep is to end; `rule` is what
    lets it be made.
    """

    write: Literal["intent"] = "intent"
    key: Key
    kind: str
    fingerprint: str
    effect: Effect
    note: str = ""
    rule: str = ""


@dataclass(slots=True, kw_only=True)
class Annotate:
    """Say something of the last intent of a syscall that is not settled."""

    write: Literal["note"] = "note"
    key: Key
    note: str


@dataclass(slots=True, kw_only=True)
class Settle:
    """After a syscall: its outcome, and how long it took, in seconds."""

    write: Literal["outcome"] = "outcome"
    key: Key
    kind: str
    fingerprint: str
    failed: bool = False
    body: str
    took_s: float | None = None


@dataclass(slots=True, kw_only=True)
class AddPage:
    """Append to the process's context."""

    write: Literal["page"] = "page"
    page: Page


@dataclass(slots=True, kw_only=True)
class PostLetter:
    """Put into a mailbox."""

    write: Literal["letter"] = "letter"
    to: Pid
    body: JsonValue


@dataclass(slots=True, kw_only=True)
class TakeLetter:
    """Take out of the process's own mailbox."""

    write: Literal["taken"] = "taken"
    number: int


@dataclass(slots=True, kw_only=True)
class PostCommand:
    """Leave a signal for whoever owns the process."""

    write: Literal["command"] = "command"
    to: Pid
    signal: str
    grace_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class TakeCommand:
    """A command to the process has been carried out."""

    write: Literal["obeyed"] = "obeyed"
    number: int
    signal: str


@dataclass(slots=True, kw_only=True)
class Announce:
    """Ring for this process in other kernels, which do not hear of every commit by themselves."""

    write: Literal["announced"] = "announced"


@dataclass(slots=True, kw_only=True)
class PutQuestion:
    """Ask a human; what was asked at this place before stays as it is."""

    write: Literal["question"] = "question"
    key: Key
    text: str
    choices: tuple[str, ...] = ()
    deadline: float | None = None


@dataclass(slots=True, kw_only=True)
class CloseQuestion:
    """Nobody waits for the answer any more; one that is there stays."""

    write: Literal["closed"] = "closed"
    key: Key


@dataclass(slots=True, kw_only=True)
class AnswerQuestion:
    """Answer a question that is open: the first answer counts, see its `receipt`."""

    write: Literal["answer"] = "answer"
    number: int
    text: str
    receipt: str


@dataclass(slots=True, kw_only=True)
class AddMemory:
    """Remember."""

    write: Literal["memory"] = "memory"
    memory: Memory


@dataclass(slots=True, kw_only=True)
class AddVector:
    """What a memory means to an embedder, in the place of what stood there before.

    The vector has length 1, as float32 in little-endian bytes; it is empty where the embedder
    cannot take the text. Of a memory that is gone it is dropped. Process 0 commits it: the
    text was committed before, with its process's outcome.
    """

    write: Literal["vector"] = "vector"
    memory: int
    embedder: str
    vector: bytes


@dataclass(slots=True, kw_only=True)
class PutRecord:
    """Keep a small piece of data, in the place of what stood under this key before.

    A collection belongs to one service and begins with its name, e.g. "glossary.words". Of two
    who write the same key at once, the last stays. With `lasts_s` it is gone after so many
    seconds, by the database's clock.
    """

    write: Literal["record"] = "record"
    collection: str
    key: str
    body: JsonValue
    lasts_s: float | None = None


@dataclass(slots=True, kw_only=True)
class DropRecord:
    """Keep what stands under this key no longer, if anything does."""

    write: Literal["dropped"] = "dropped"
    collection: str
    key: str


@dataclass(slots=True, kw_only=True)
class PutAccount:
    """Set an account's ceiling; what it has counted until now stays.

    A ceiling that is `configured` says nothing new where the configuration said the same
    before: what others have set since then stays.
    """

    write: Literal["account"] = "account"
    scope: str
    what: str
    ceiling: int | None
    action: Crossing = "stop"
    instead: str = ""
    configured: bool = False


@dataclass(slots=True, kw_only=True)
class RaiseCeiling:
    """Raise an account's ceiling."""

    write: Literal["raised"] = "raised"
    scope: str
    what: str
    by: int


@dataclass(slots=True, kw_only=True)
class Reserve:
    """Before a call: keep so much of these accounts, until the `ticket` is spent.

    Accounts that are not there bound nothing. Raises Overdrawn. When the process is taken over,
    or has ended, what is still reserved counts as used.
    """

    write: Literal["reserve"] = "reserve"
    ticket: int
    charges: tuple[Charge, ...]


@dataclass(slots=True, kw_only=True)
class Spend:
    """After a call: what it has used, None if nothing; `ticket` is its reservation's.

    The `charges` name all accounts that it was reserved of. An account may be overdrawn by it.
    `day` is a date in UTC, "2026-11-27".
    """

    write: Literal["spend"] = "spend"
    tenant: str
    model: str
    day: str
    spent: Spent | None
    ticket: int = 0
    charges: tuple[Charge, ...] = ()


Write = Annotated[
    AddProcess
    | SaveProcess
    | Intend
    | Annotate
    | Settle
    | AddPage
    | PostLetter
    | TakeLetter
    | PostCommand
    | TakeCommand
    | Announce
    | PutQuestion
    | CloseQuestion
    | AnswerQuestion
    | AddMemory
    | AddVector
    | PutRecord
    | DropRecord
    | PutAccount
    | RaiseCeiling
    | Reserve
    | Spend,
    Field(discriminator="write"),
]


class Commit(Request[None], topic="storage.commit", effect="idempotent"):
    """All of these writes or none, for one process, if this kernel owns it, in this `epoch`.

    Who has left a process, or has only read its epoch, does not. Process 0 is the outside.

    What belongs to no process, e.g. a service's records, is committed from OUTSIDE.
    Nobody waits for a `lazy` one: it is written with the next that is not, whoever's, or a
    moment later. A crash may lose it, but never without all that came after it in this kernel.
    So it is for what may simply be done again. Where it cannot be written, the process's
    next commit raises why, and nothing is written behind the gap.
    Raises Fenced, KeyTaken, Overdrawn, StorageRefused, StorageUnavailable.
    """

    pid: Pid = OUTSIDE
    epoch: int = 0
    lazy: bool = False
    writes: Annotated[tuple[Write, ...], SkipValidation]  # built by our own code just before


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


class EraseBodies(Request[int], topic="storage.erase_bodies", effect="idempotent"):
    """Erase what a process's log says, for good; that it said something stays provable.

    The outcome of one syscall, or, without a `key`, all of them with the texts of its pages, its
    letters and questions, its state and result. Gives how many links have lost their bodies.
    Raises StorageRefused while a living kernel owns the process. Going on with it raises Erased.
    """

    pid: Pid
    key: Key | None = None


class ReadLog(Request[tuple[Entry, ...]], topic="storage.read_log", effect="none"):
    """The entries of one step, or of all steps when None, in the order of their intents."""

    pid: Pid
    step: int | None = None


class ReadPages(Request[tuple[Page, ...]], topic="storage.read_pages", effect="none"):
    """The process's pages behind the one of this number, in order."""

    pid: Pid
    after: int = 0


class ReadLetters(Request[tuple[Letter, ...]], topic="storage.read_letters", effect="none"):
    """What is in the mailbox, oldest first."""

    pid: Pid
    limit: int = 1


class ReadCommands(Request[tuple[Command, ...]], topic="storage.read_commands", effect="none"):
    """The signals that wait for a process, oldest first."""

    pid: Pid


class ReadQuestions(Request[tuple[Question, ...]], topic="storage.read_questions", effect="none"):
    """One question, by number or by its place; or all open ones of processes that go on."""

    number: int | None = None
    pid: Pid | None = None
    key: Key | None = None


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


class FindExpired(Request[tuple[Expired, ...]], topic="storage.find_expired", effect="none"):
    """Processes that could be forgotten, the longest ended first."""

    expiry: Expiry
    limit: int = 1000


class ForgetExpired(
    Request[tuple[Expired, ...]], topic="storage.forget_expired", effect="idempotent"
):
    """Delete what is kept of them: log, pages, letters, signals, questions, accounts, record.

    What they remembered and what they have spent stays. One with a reservation that nobody has
    settled waits for that. The reply are those that are gone, at most `limit`; fewer when
    there are no more. Raises StorageRefused where the driver deletes nothing.
    """

    expiry: Expiry
    limit: int = 100


class FindMemories(Request[tuple[Memory, ...]], topic="storage.find_memories", effect="none"):
    """Memories with all of the tags, those with most of the terms first, then the newest."""

    tenant: str
    terms: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    limit: int = 10


class FindSimilar(Request[tuple[Memory, ...]], topic="storage.find_similar", effect="none"):
    """Memories with all of the tags, those nearest to the vector first.

    Compared are vectors of this embedder and of this length; those whose cosine with it is
    less than `least` are left out.
    """

    tenant: str
    embedder: str
    vector: bytes
    least: float = -1
    tags: tuple[str, ...] = ()
    limit: int = 10


class FindUnembedded(Request[tuple[Memory, ...]], topic="storage.find_unembedded", effect="none"):
    """Memories of every tenant that this embedder has no vector for, the oldest first.

    A vector of other `dimensions`, where they are given, is none.
    """

    embedder: str
    dimensions: int | None = None
    limit: int = 32


class ReadRecord(Request[Record | None], topic="storage.read_record", effect="none"):
    """What a service keeps under this key; None when there is nothing, or no longer."""

    collection: str
    key: str


class FindRecords(Request[tuple[Record, ...]], topic="storage.find_records", effect="none"):
    """Records of a collection whose keys begin so and come after that one, by their keys.

    In the order of code points. Go on after the last key where there may be more than `limit`.
    """

    collection: str
    prefix: str = ""
    after: str = ""
    limit: int = 100


class Committed(Event, topic="storage.committed"):
    """Commits that somebody waited for came out: how long each took, in seconds.

    Those of half a second are told together. `failed` are those that raised, by the error's
    class, e.g. "Fenced".
    """

    seconds: tuple[float, ...]
    failed: dict[str, int]


class ReadAccounts(Request[tuple[Account, ...]], topic="storage.read_accounts", effect="none"):
    """All accounts, by scope; those of processes that have ended only if asked for."""

    ended: bool = False


class ReadSpent(Request[tuple[tuple[str, Spent], ...]], topic="storage.read_spent", effect="none"):
    """What was used, for each agent (its number), tenant, model or day, and currency.

    Only from the day `since` on, "2026-11-27", where it is given.
    """

    by: SpentBy = "agent"
    since: str | None = None


class Drawn(NamedTuple):
    """What a shared rate gave: so much, or nothing, and then when there will be enough."""

    granted: float
    wait_s: float = 0.0


class DrawRate(Request[Drawn], topic="storage.draw_rate", effect="idempotent"):
    """Take at least `least` and at most `most` from a rate that all kernels share.

    It brings one each `each_s` and lets `burst` out at once, by the store's own clock. `owed` has
    been used already, or, below 0, was drawn and not used. Asked twice, it draws twice: nothing
    is lost by that but a little time.
    """

    name: str
    least: float = Field(ge=0)
    most: float
    owed: float = 0.0
    each_s: float = Field(gt=0)
    burst: float


@dataclass(slots=True, kw_only=True)
class SharedRate:
    """A rate that kernels share: `left` of at most `burst`; one more comes each `each_s`."""

    name: str
    each_s: float
    burst: float
    left: float


class ReadRates(Request[tuple[SharedRate, ...]], topic="storage.read_rates", effect="none"):
    """The shared rates that are not full, by name."""


class MemoriesAdded(Event, topic="storage.memories_added"):
    """A commit has added memories; they can be found by their words, and have no vectors yet."""


class Rang(Event, topic="storage.rang", urgent=True):
    """Something has happened to these processes, in whichever kernel: a letter, a command, an
    answer, their end, that of one they wait for; another kernel has taken them over, or somebody
    follows them. None: to any of them, unheard. Number 0 stands for the accounts: a ceiling was
    set.
    """

    pids: tuple[Pid, ...] | None
