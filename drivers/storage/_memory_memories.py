"""What is remembered, with its vectors: searched from end to end, which is exact.

A search by vector takes some 10 µs for each memory; a database has indexes for more of them.
"""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from operator import mul

from ...subsystems.storage import driver as d

FLOAT = 4
"""Bytes of a number in a vector."""


@dataclass(slots=True)
class Memories:
    """Numbered from 1; the vectors by embedder and number."""

    _memories: list[d.Memory] = field(default_factory=list)
    _vectors: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def add(self, memory: d.Memory) -> None:
        self._memories.append(replace(memory, number=len(self._memories) + 1))

    def embed(self, write: d.AddVector) -> None:
        self._vectors.setdefault(write.embedder, {})[write.memory] = write.vector

    def find(self, query: d.FindMemories) -> tuple[d.Memory, ...]:
        terms = set(query.terms)
        hits = [
            (len(terms & set(memory.terms)), memory.number, memory)
            for memory in self._tagged(query.tenant, query.tags)
        ]
        ranked = sorted((h for h in hits if h[0] or not terms), key=lambda h: (-h[0], -h[1]))
        return tuple(memory for _, _, memory in ranked[: query.limit])

    def similar(self, query: d.FindSimilar) -> tuple[d.Memory, ...]:
        vectors, sought = self._vectors.get(query.embedder, {}), _numbers(query.vector)
        hits = [
            (sum(map(mul, sought, _numbers(vector))), memory.number, memory)
            for memory in self._tagged(query.tenant, query.tags)
            if len(vector := vectors.get(memory.number, b"")) == len(query.vector)
        ]
        ranked = sorted((h for h in hits if h[0] >= query.least), key=lambda h: (-h[0], -h[1]))
        return tuple(memory for _, _, memory in ranked[: query.limit])

    def unembedded(self, query: d.FindUnembedded) -> tuple[d.Memory, ...]:
        vectors = self._vectors.get(query.embedder, {})
        sizes = None if query.dimensions is None else (0, query.dimensions * FLOAT)
        missing = (
            memory
            for memory in self._memories
            if (vector := vectors.get(memory.number)) is None
            or (sizes is not None and len(vector) not in sizes)
        )
        return tuple(itertools.islice(missing, query.limit))

    def _tagged(self, tenant: str, tags: tuple[str, ...]) -> Iterator[d.Memory]:
        wanted = set(tags)
        return (m for m in self._memories if m.tenant == tenant and wanted <= set(m.tags))


def _numbers(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // FLOAT}f", vector)
