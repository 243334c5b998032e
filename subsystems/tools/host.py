"""What a toolset does for a driver whose tools run somewhere else."""

from ...kernel.call import Call, here
from ...kernel.log import log
from ...kernel.service import Service
from .driver import Asker
from .messages import ToolAsks, ToolProgressed, ToolsChanged, ToolsetAway, ToolsetUp


class ToolsetHost:
    """Tells what the driver sees as events of its toolset, and finds who is calling."""

    def __init__(self, toolset: Service) -> None:
        self._toolset = toolset

    def asker(self) -> Asker:
        call = here()
        sink = call.sink if isinstance(call, Call) else None
        return _nobody if sink is None else sink

    async def up(self, about: str) -> None:
        await self._toolset.publish(ToolsetUp(address=self._toolset.address, about=about))

    async def away(self, why: str, again_s: float) -> None:
        address = self._toolset.address
        log.warning("toolset.away", toolset=address, why=why, again_s=again_s)
        await self._toolset.publish(ToolsetAway(address=address, why=why, again_s=again_s))

    async def changed(
        self,
        *,
        added: tuple[str, ...],
        removed: tuple[str, ...],
        changed: tuple[str, ...],
        left_out: dict[str, str],
    ) -> None:
        address = self._toolset.address
        for name, why in left_out.items():
            log.warning("tool.left_out", toolset=address, tool=name, why=why)
        await self._toolset.publish(
            ToolsChanged(
                address=address, added=added, removed=removed, changed=changed, left_out=left_out
            )
        )

    async def progressed(self, name: str, done: float, total: float | None, text: str) -> None:
        if self._toolset.bus.hears(ToolProgressed):
            told = ToolProgressed(
                address=self._toolset.address, name=name, done=done, total=total, text=text
            )
            await self._toolset.publish(told)


async def _nobody(question: ToolAsks) -> None:
    """Who calls takes no questions."""
