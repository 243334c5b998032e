"""Long-term memory: composes what is to be remembered, and finds it again."""

from ...kernel.service import Service, handles
from ..storage.messages import AddMemory, FindMemories, Memory
from .messages import Recall, Remember
from .terms import terms


class LongTermMemory(Service, name="memory", needs=[FindMemories]):
    """By tag and word; vectors come with an embedding driver."""

    @handles(Remember)
    async def remember(self, request: Remember) -> AddMemory:
        return AddMemory(
            memory=Memory(
                tenant=request.tenant,
                pid=request.pid,
                text=request.text,
                tags=request.tags,
                terms=terms(request.text),
            )
        )

    @handles(Recall)
    async def recall(self, request: Recall) -> tuple[Memory, ...]:
        return await self.request(
            FindMemories(
                tenant=request.tenant,
                terms=terms(request.query),
                tags=request.tags,
                limit=request.limit,
            )
        )
