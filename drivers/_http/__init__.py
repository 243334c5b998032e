"""The one seam over httpx: a client for one server, whose faults are all of one class."""

from .client import Http, Patience
from .faults import Fault, FaultKind
from .replies import Stream

__all__ = ["Fault", "FaultKind", "Http", "Patience", "Stream"]
