"""What a process keeps for others of its tenant, and finds of theirs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..memory.messages import Recall, Remember
from ..storage.messages import AddMemory, Memory
from .doubt import Outcome
from .messages import Origin

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes
    from .transcript import Transcript


async def remember(
    service: "Processes", live: "Live", said: "Transcript", text: str, tags: Sequence[str]
) -> None:
    """Keep a text, with the outcome in one commit."""

    async def work(origin: Origin) -> Outcome:
        tenant, pid = live.record.tenant, live.record.pid
        write: AddMemory = await service.request(
            Remember(tenant=tenant, pid=pid, text=text, tags=tuple(tags))
        )
        return None, (write,)

    await said.syscall("remember", (text, tuple(tags)), work)


async def recall(
    service: "Processes",
    live: "Live",
    said: "Transcript",
    query: str,
    tags: Sequence[str],
    limit: int,
) -> tuple[Memory, ...]:
    """The best matches first."""

    async def work(origin: Origin) -> Outcome:
        tenant = live.record.tenant
        recall = Recall(tenant=tenant, query=query, tags=tuple(tags), limit=limit)
        return await service.request(recall), ()

    found: tuple[Memory, ...] = await said.syscall(
        "recall", (query, tuple(tags), limit), work, tuple[Memory, ...]
    )
    return found
