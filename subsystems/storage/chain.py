"""How the log is chained: which bytes are hashed, so that anybody can check them.

docs/reference/audit.md has the same in words, and a program that checks it without this library.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass

from .messages import Key, Pid

__all__ = [
    "BORN",
    "DECIDED",
    "ENDED_AS",
    "LEAF",
    "MEANT",
    "NOTED",
    "OBEYED",
    "ROOT",
    "Link",
    "Said",
    "Seal",
    "Standing",
    "body_mark",
    "leaf",
    "linked",
    "sealed",
]

ROOT = bytes(32)
"""What stands before the first link, and before the first seal."""
BORN, ENDED_AS, OBEYED = "@born", "@ended", "@obeyed"
MEANT, NOTED, DECIDED = "@meant", "@noted", "@decided"
"""Kinds of links that are no syscall's outcome."""
PLACE = struct.Struct(">qqq?5I")
LEAF = struct.Struct(">?qq32s")
Said = tuple[str, Key, bytes, bool, float | None]
"""The kind, the key, the fingerprint, whether it failed, and the seconds that it took."""


@dataclass(slots=True, kw_only=True)
class Link:
    """A fact of a process's log, with its place in the chain; `seq` orders them.

    Without a `hash` it was written while nothing was chained. `body` is None where it is erased,
    and `mark` then what stands for it; otherwise `salt` is what it is hashed with.
    """

    pid: Pid
    seq: int
    epoch: int
    kind: str
    key: Key
    fingerprint: bytes
    failed: bool
    took_s: float | None
    body: bytes | None
    mark: bytes
    salt: bytes | None
    hash: bytes | None

    def follows(self, before: bytes) -> bool:
        """Is it what was written, behind what was written before it?"""
        said = (self.kind, self.key, self.fingerprint, self.failed, self.took_s)
        if self.body is None:
            mark = self.mark
        elif self.salt is None:
            return False
        else:
            mark = body_mark(self.salt, self.body)
        return self.hash == linked(before, (self.pid, self.seq, self.epoch), said, mark)


@dataclass(slots=True, kw_only=True)
class Standing:
    """Up to where a process's chain goes: the number of its last commit, and the last hash.

    One that is `retired` is over, and its links were deleted by retention.
    """

    pid: Pid
    seq: int
    head: bytes
    retired: bool = False


@dataclass(slots=True, kw_only=True)
class Seal:
    """Where those processes stood that had gone on since the seal before it.

    `at` is in microseconds since 1970, by the database's clock; `hash` includes the former's.
    """

    number: int
    at: int
    leaves: bytes
    hash: bytes

    def follows(self, before: bytes) -> bool:
        """Is it what was written, behind that seal?"""
        return self.hash == sealed(before, self.number, self.at, self.leaves)

    def standings(self) -> list[Standing]:
        """Its leaves, or as many as can be read."""
        whole = len(self.leaves) - len(self.leaves) % LEAF.size
        return [
            Standing(pid=Pid(pid), seq=seq, head=head, retired=retired)
            for retired, pid, seq, head in LEAF.iter_unpack(self.leaves[:whole])
        ]


def body_mark(salt: bytes, body: bytes) -> bytes:
    """What stands for a body in its link, and still does when the body is erased."""
    return hmac.digest(salt, body, "sha256")


def linked(before: bytes, place: tuple[int, int, int], said: Said, mark: bytes) -> bytes:
    """The hash of a link behind `before`; its `place` is the process, its number, the epoch."""
    kind, key, fingerprint, failed, took_s = said
    took = b"" if took_s is None else struct.pack(">f", took_s)
    parts = (kind.encode(), key.encode(), fingerprint, took, mark)
    told = PLACE.pack(*place, failed, *map(len, parts))
    return hashlib.sha256(b"".join((before, told, *parts))).digest()


def sealed(before: bytes, number: int, at: int, leaves: bytes) -> bytes:
    """The hash of a seal behind `before`."""
    return hashlib.sha256(before + struct.pack(">qq", number, at) + leaves).digest()


def leaf(standing: Standing) -> bytes:
    """A process's line in a seal."""
    return LEAF.pack(standing.retired, standing.pid, standing.seq, standing.head)
