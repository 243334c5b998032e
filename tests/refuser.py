"""A guard that lets nothing through."""

from aoskernel.kernel.call import Call
from aoskernel.kernel.errors import Refused
from aoskernel.kernel.message import R
from aoskernel.kernel.service import Proceed, Service


class Refuser(Service, name="refuser"):
    """Stands wherever it is told to."""

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        raise Refused("not today", rule="refuser")
