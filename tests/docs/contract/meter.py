from aoskernel import Request, Service, handles, subscribes
from aoskernel.subsystems.llm.messages import Completed

class ReadUsage(Request[dict[str, int]], topic="meter.read_usage", effect="none"):
    """How many tokens has each model used?"""

class Meter(Service, name="meter"):
    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}

    @subscribes(Completed)
    async def count(self, event: Completed) -> None:
        self.tokens[event.model] = self.tokens.get(event.model, 0) + event.usage.total

    @handles(ReadUsage)
    async def read(self, request: ReadUsage) -> dict[str, int]:
        return dict(self.tokens)
