"""The journal: the innermost guard writes down that a call is about to reach outside.

It stands right before the handler, so a call that was refused, or still waits, has no
intent: it never began. A call without effect needs none: it may simply be made again. The
outcome is committed by the process, together with its effects.
"""

from ...kernel.call import Call
from ...kernel.message import R
from ...kernel.service import Proceed, Service
from ..storage.messages import Commit, Intend
from ..tools.messages import CallTool
from .messages import Origin


class Journal(Service, name="journal", needs=[Commit], pinned=True):
    """One intent per attempt, under the syscall's key."""

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        origin, message = call.origin, call.message
        if isinstance(origin, Origin) and origin.pid is not None and origin.key:
            declared = message.tool_effect if isinstance(message, CallTool) else message.effect
            if declared == "none":
                return await proceed(call)
            intent = Intend(
                key=origin.key, kind=origin.kind, fingerprint=origin.fingerprint, effect=declared
            )
            await self.request(Commit(pid=origin.pid, epoch=origin.epoch, writes=(intent,)))
        return await proceed(call)
