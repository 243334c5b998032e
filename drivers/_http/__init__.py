"""The one seam over httpx: a client for one server, and one that is told where to connect to.

Their faults are all of one class.
"""

from .client import Http, Patience
from .faults import Fault, FaultKind
from .pinned import Pinned, Reply
from .replies import Stream

__all__ = ["Fault", "FaultKind", "Http", "Patience", "Pinned", "Reply", "Stream"]
