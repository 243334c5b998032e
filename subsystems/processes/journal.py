"""The journal: the innermost guard writes down that a call is about to reach outside.

It stands right before the handler, so a call that was refused, or still waits, has no
intent: it never began, and does not begin any more where its process is to stop. A call
without effect needs none: it may simply be made again. What guards above have given along is
committed with the intent. The outcome is committed by the
process, together with its effects.
"""

from ...kernel.call import Call
from ...kernel.message import R
from ...kernel.service import Proceed, Service
from ..storage.messages import Commit, Intend
from .messages import Origin, intended
from .syscall import branch


class Journal(Service, name="journal", needs=[Commit], pinned=True):
    """One intent per attempt, under the syscall's key."""

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        origin = call.origin
        if not (isinstance(origin, Origin) and origin.pid is not None and origin.key):
            return await proceed(call)
        place = branch.get(None)
        if place is not None:
            place.begin()
        effect = intended(call)
        if effect is not None:
            intent = Intend(
                key=origin.key,
                kind=origin.kind,
                fingerprint=origin.fingerprint,
                effect=effect,
                rule=origin.rule,
            )
            writes = (intent, *origin.take())
            await self.request(Commit(pid=origin.pid, epoch=origin.epoch, writes=writes))
        return await proceed(call)
