"""What bounds a syscall that reaches a model or a tool: the policy, and quotas."""

from typing import TYPE_CHECKING

from .approval import within_policy
from .budget import within_quota
from .doubt import Work

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes


def within_bounds(service: "Processes", live: "Live", work: Work) -> Work:
    """The same work, which waits for a human where the policy or a quota says so."""
    return within_quota(service, live, within_policy(service, live, work))
