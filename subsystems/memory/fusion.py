"""One ranking out of several: reciprocal rank fusion (Cormack, Clarke, Buettcher 2009)."""

from collections.abc import Sequence

from ..storage.messages import Memory

RANK_CONSTANT = 60
"""Of that paper: how little a first rank outweighs a second."""


def fused(rankings: Sequence[Sequence[Memory]]) -> list[Memory]:
    """The memories of all rankings, best first; of equals the newest first."""
    memories = {memory.number: memory for ranking in rankings for memory in ranking}
    scores = dict.fromkeys(memories, 0.0)
    for ranking in rankings:
        for rank, memory in enumerate(ranking, 1):
            scores[memory.number] += 1 / (RANK_CONSTANT + rank)
    order = sorted(memories, key=lambda number: (-scores[number], -number))
    return [memories[number] for number in order]
