"""What services keep, in dictionaries, as JSON text."""

import itertools
import json
import time
from dataclasses import dataclass, field

import anyio

from ...subsystems.storage import driver as d

_Row = tuple[str, float, float]
"""The body, when it was written in seconds since 1970, and until when it lasts, by the loop."""


@dataclass(slots=True)
class Records:
    """By collection and key."""

    _records: dict[str, dict[str, _Row]] = field(default_factory=dict)

    def put(self, write: d.PutRecord) -> None:
        lasts_s = float("inf") if write.lasts_s is None else write.lasts_s
        row = (json.dumps(write.body), time.time(), anyio.current_time() + lasts_s)
        self._records.setdefault(write.collection, {})[write.key] = row

    def drop(self, write: d.DropRecord) -> None:
        self._records.get(write.collection, {}).pop(write.key, None)

    def read(self, query: d.ReadRecord) -> d.Record | None:
        row = self._lasting(query.collection).get(query.key)
        return None if row is None else _record(query.collection, query.key, row)

    def find(self, query: d.FindRecords) -> tuple[d.Record, ...]:
        found = (
            _record(query.collection, key, row)
            for key, row in sorted(self._lasting(query.collection).items())
            if key.startswith(query.prefix) and key > query.after
        )
        return tuple(itertools.islice(found, query.limit))

    def _lasting(self, collection: str) -> dict[str, _Row]:
        """Forget those whose time is over."""
        rows, now = self._records.get(collection, {}), anyio.current_time()
        for key in [key for key, (_, _, until) in rows.items() if until <= now]:
            del rows[key]
        return rows


def _record(collection: str, key: str, row: _Row) -> d.Record:
    body, at, _ = row
    return d.Record(collection=collection, key=key, body=json.loads(body), at=at)
