"""What is remembered, and found by words and by meaning."""

from dataclasses import dataclass
from typing import Literal

from ....kernel.message import Event, Request
from .names import Pid


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


class MemoriesAdded(Event, topic="storage.memories_added"):
    """A commit has added memories; they can be found by their words, and have no vectors yet."""
