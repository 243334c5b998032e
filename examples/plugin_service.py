"""Your own service: it hears every model call and answers one question of its own.

It is passed to the kernel as it is. In a file it would be
`[services.meter] use = "my_package:Meter"`.
"""

import anyio

from aoskernel import Kernel, Process, Request, Service, handles, program, spawn, subscribes
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


@program
async def greet(self: Process, name: str) -> str:
    reply = await self.think(f"Say hello to {name}.")
    return reply.text


async def main() -> None:
    model = {"driver": "scripted", "rules": [{"when": r"to (\w+)", "say": "Hello, {1}!"}]}
    async with Kernel.from_config(None, Meter(), services={"llm.default": model}) as kernel:
        for name in ("Ada", "Grace"):
            print(await (await spawn(kernel, greet(name=name))))
        for name, tokens in (await kernel.request(ReadUsage())).items():
            print(f"{name} has used {tokens} tokens")


if __name__ == "__main__":
    anyio.run(main)
