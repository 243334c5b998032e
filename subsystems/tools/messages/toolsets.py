"""How toolsets stand whose tools run somewhere else."""

from typing import Literal

from pydantic import Field

from ....kernel.message import Event, Request, Value


class Standing(Value):
    """How a toolset stands: `about` names what its tools run on, or why it is away.

    `left_out`: tools that are not offered, each with the reason.
    """

    state: Literal["up", "starting", "away"] = "up"
    about: str = ""
    left_out: dict[str, str] = Field(default_factory=dict)


class InspectTools(Request[Standing], topic="tools.inspect", effect="none", addressed=True):
    """How does this toolset stand?"""


class ToolsetUp(Event, topic="tools.up"):
    """A toolset reaches what its tools run on. `about` names that."""

    address: str
    about: str


class ToolsetAway(Event, topic="tools.away"):
    """A toolset has lost what its tools run on; it tries again in so many seconds."""

    address: str
    why: str
    again_s: float
