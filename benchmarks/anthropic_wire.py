"""A streamed reply over the messages wire, beside Anthropic's own client."""

from collections.abc import Callable

from aoskernel.drivers.llm.anthropic import Anthropic

from .case import Effort, Figures, case
from .openai_wire import GOALS
from .served import measure, serving, started


@case("anthropic_wire", "floor: anthropic's client", floor=True)
async def official(effort: Effort) -> Figures:
    from anthropic import AsyncAnthropic

    async with serving() as url, AsyncAnthropic(base_url=url, api_key="none") as client:

        async def ask(began: Callable[[], None], model: str = "served") -> str:
            stream = await client.messages.create(
                model=model,
                max_tokens=1000,
                messages=[{"role": "user", "content": "Hello."}],
                stream=True,
            )
            parts: list[str] = []
            async for event in stream:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    if not parts:
                        began()
                    parts.append(event.delta.text)
            return "".join(parts)

        return await measure(ask, lambda began: ask(began, "slow"), effort)


@case("anthropic_wire", "aoskernel", goals=GOALS)
async def ours(effort: Effort) -> Figures:
    async with serving() as url, started(Anthropic, url) as ask:
        return await measure(ask, lambda began: ask(began, "slow"), effort)
