"""Is the log what was written? Goes through seals, standings and links, and names what is not."""

from collections.abc import Mapping
from dataclasses import dataclass

from .chain import LEAF, ROOT, Link, Seal, Standing
from .messages import Pid

__all__ = ["Fault", "Item", "Verifier"]

Item = Seal | Standing | Link
NOWHERE = Standing(pid=Pid(0), seq=0, head=ROOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is not as it was written: the first of a process, or of the seals (process 0)."""

    pid: Pid
    seq: int
    place: str
    why: str


class Verifier:
    """Takes seals in their order, then standings, then links by process and number; then `end`.

    `against` are hashes of seals that somebody has kept elsewhere, by their numbers. What it
    keeps is a line for each leaf of each seal, and one for each process. With `only` it looks at
    the chain of one process.
    """

    def __init__(self, against: Mapping[int, bytes], only: Pid | None = None) -> None:
        self._against, self._only = dict(against), only
        self._seal = Seal(number=0, at=0, leaves=b"", hash=ROOT)
        self._leaves: dict[Pid, bytearray] = {}
        self._standings: dict[Pid, Standing] = {}
        self._walk = _Walk(NOWHERE, ())
        self._faulty: set[Pid] = set()
        self.faults: list[Fault] = []
        self.links = self.unchained = self.erased = self.seals = self.retired = 0

    def take(self, item: Item) -> None:
        """The next of them."""
        match item:
            case Seal():
                self._take_seal(item)
            case Standing():
                self._standings[item.pid] = item
                self.retired += item.retired
            case Link():
                self._take_link(item)

    def end(self) -> None:
        """There is nothing more."""
        self._leave()
        for number in sorted(self._against):
            self._tell(Pid(0), number, f"seal {number}", "is missing, and was exported")
        for pid in [*self._standings]:
            self._enter(pid)
            self._leave()
        for pid in sorted(self._leaves):
            if self._only in (None, pid):
                why = "was sealed, and is gone; no retention has deleted it"
                self._tell(pid, 0, "the whole log", why)

    def _take_seal(self, seal: Seal) -> None:
        expected, self.seals = self._seal.number + 1, self.seals + 1
        told = self._against.pop(seal.number, seal.hash)
        place = f"seal {seal.number}"
        if seal.number != expected:
            self._tell(Pid(0), expected, f"seal {expected}", "is missing")
        elif not seal.follows(self._seal.hash):
            self._tell(Pid(0), seal.number, place, "is not what was written, or the one before it")
        if told != seal.hash:
            self._tell(Pid(0), seal.number, place, "is not the one that was exported")
        for one in seal.standings():
            if self._only in (None, one.pid):
                self._leaves.setdefault(one.pid, bytearray()).extend(
                    LEAF.pack(one.retired, one.pid, one.seq, one.head)
                )
        self._seal = seal

    def _take_link(self, link: Link) -> None:
        if link.pid != self._walk.standing.pid:
            self._leave()
            self._enter(link.pid)
        self.links += 1
        self.erased += link.body is None
        self.unchained += link.hash is None
        if (why := self._walk.step(link)) is not None:
            what = f"{link.kind} {link.key}".strip()
            self._tell(link.pid, link.seq, what, why)

    def _enter(self, pid: Pid) -> None:
        absent = Standing(pid=pid, seq=0, head=ROOT, retired=True)
        standing = self._standings.pop(pid, absent)
        raw = bytes(self._leaves.pop(pid, b""))
        leaves = Seal(number=0, at=0, leaves=raw, hash=ROOT).standings()
        self._walk = _Walk(standing, tuple(leaves))
        if standing is absent:
            self._tell(pid, 0, "the first link", "stands in the log of no process")

    def _leave(self) -> None:
        pid, why = self._walk.standing.pid, self._walk.leave()
        if pid and why is not None:
            self._tell(pid, self._walk.standing.seq, "the end of the log", why)
        self._walk = _Walk(NOWHERE, ())

    def _tell(self, pid: Pid, seq: int, place: str, why: str) -> None:
        """Only what comes first of each: the rest follows from it."""
        if pid not in self._faulty:
            self._faulty.add(pid)
            self.faults.append(Fault(pid=pid, seq=seq, place=place, why=why))


class _Walk:
    """Along one process's chain, past what was sealed of it."""

    def __init__(self, standing: Standing, leaves: tuple[Standing, ...]) -> None:
        self.standing, self._leaves, self._next = standing, leaves, 0
        self._head = ROOT

    def step(self, link: Link) -> str | None:
        """What is wrong with it, if anything."""
        broken = self._past(link.seq - 1)
        before = self._head
        if link.hash is None:
            return broken
        self._head = link.hash
        if broken is None and not link.follows(before):
            return "is not what was written, or what stood before it was removed, added or moved"
        return broken

    def leave(self) -> str | None:
        standing = self.standing
        if standing.retired:
            return self._retired()
        broken = self._past(standing.seq)
        if broken is None and self._next < len(self._leaves):
            return f"was number {self._leaves[-1].seq} when it was sealed; what came last is gone"
        if broken is None and self._head != standing.head:
            return "is not where the process stands: what came last was removed or added"
        return broken

    def _past(self, seq: int) -> str | None:
        """Do the seals up to there say the same?"""
        while self._next < len(self._leaves) and self._leaves[self._next].seq <= seq:
            leaf = self._leaves[self._next]
            self._next += 1
            if leaf.head != self._head:
                return f"differs from what was sealed as number {leaf.seq}: written anew since"
        return None

    def _retired(self) -> str | None:
        """Its links are gone as they should be; where it stood is in the seals."""
        last = self._leaves[-1] if self._leaves else None
        if self._head != ROOT:
            return "was deleted by retention, and there are links again"
        if last is not None and last.head != self.standing.head:
            return "was deleted by retention as it did not stand when it was sealed"
        return None
