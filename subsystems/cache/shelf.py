"""Where replies are kept: in memory, the least recently used leave first."""

from typing import NamedTuple

from ..llm.messages import Completion


class Kept(NamedTuple):
    """A reply, its size in bytes, and until when it holds, on the kernel's clock."""

    reply: Completion
    size: int
    until: float


class Shelf:
    """At most so many replies, of so many bytes in all."""

    def __init__(self, entries: int, size: int) -> None:
        self._entries, self._size = entries, size
        self._kept: dict[bytes, Kept] = {}
        self._used = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def used(self) -> int:
        """Bytes of the replies that are here."""
        return self._used

    def find(self, key: bytes, now: float) -> Completion | None:
        """The reply, if it still holds."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._remove(key)
        if kept.until <= now:
            return None
        self._add(key, kept)
        return kept.reply

    def keep(self, key: bytes, reply: Completion, until: float) -> None:
        """Keep a reply; what was not asked for longest makes room."""
        self._remove(key)
        self._add(key, Kept(reply, len(reply.model_dump_json().encode()), until))
        self._make_room()

    def resize(self, entries: int, size: int) -> None:
        self._entries, self._size = entries, size
        self._make_room()

    def _make_room(self) -> None:
        while len(self._kept) > self._entries or self._used > self._size:
            self._remove(next(iter(self._kept)))

    def _add(self, key: bytes, kept: Kept) -> None:
        self._kept[key] = kept
        self._used += kept.size

    def _remove(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        self._used -= 0 if kept is None else kept.size
