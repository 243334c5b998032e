"""What services keep: small JSON data under keys."""

from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from ....kernel.message import Request


@dataclass(slots=True, kw_only=True)
class Record:
    """What a service keeps under a key, JSON data. `at` is when, in seconds since 1970."""

    collection: str
    key: str
    body: JsonValue
    at: float = 0.0


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
