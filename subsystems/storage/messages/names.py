"""Names for what everything in storage speaks of: processes, their states, places in a log."""

from typing import Literal, NewType

from pydantic import JsonValue

Pid = NewType("Pid", int)
OUTSIDE = Pid(0)
"""Who commits what belongs to no process: what a service keeps, what an application sends."""
Key = str
"""A syscall's place in its process: "step:path", e.g. "0:2" or, in a parallel, "0:3.1.0"."""
ProcessClass = Literal["interactive", "normal", "batch"]
State = Literal["running", "parked", "stopped", "exited", "failed", "killed"]
ENDED: frozenset[State] = frozenset({"exited", "failed", "killed"})
JsonObject = dict[str, JsonValue]
