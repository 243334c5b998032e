"""Calls whose outcome nobody knows, and what a human says of them."""

from typing import Literal

from pydantic import JsonValue

from ....kernel.message import Request, Value
from ...storage.messages import Key, Pid


class DoubtfulCall(Value):
    """A call whose kernel was lost before its outcome, and why nobody knows that."""

    pid: Pid
    key: Key
    kind: str
    attempts: int
    why: str


class ListDoubts(Request[tuple[DoubtfulCall, ...]], topic="process.list_doubts", effect="none"):
    """The calls that stopped processes are in doubt of, or this process; by process and key."""

    pid: Pid | None = None


class Resolve(Request[None], topic="process.resolve", effect="idempotent"):
    """Say how calls came out that a stopped process is in doubt of.

    They were `done` with this result, or have `failed` with this error, or are to be made
    `again`: those at `keys`, or, without any, the only one. The process goes on when it is in
    no doubt any more. Raises NotInDoubt.
    """

    pid: Pid
    outcome: Literal["done", "failed", "again"]
    result: JsonValue = None
    error: str = ""
    keys: tuple[Key, ...] = ()
