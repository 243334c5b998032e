"""A streamed reply over the chat-completions wire, beside OpenAI's own client."""

from collections.abc import Callable

from aoskernel.drivers.llm.openai import OpenAI

from .case import Effort, Figures, Goal, case
from .served import measure, serving, started

GOALS = (
    Goal("call_us", ratio=0.7),
    Goal("first_token_us", ratio=1.0),
    Goal("stall_at_300_ms", value=50),
)


@case("openai_wire", "floor: openai's client", floor=True)
async def official(effort: Effort) -> Figures:
    from openai import AsyncOpenAI

    async with serving() as url, AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:

        async def ask(began: Callable[[], None], model: str = "served") -> str:
            stream = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "Hello."}],
                stream=True,
                stream_options={"include_usage": True},
            )
            parts: list[str] = []
            async for chunk in stream:
                if chunk.choices and (text := chunk.choices[0].delta.content):
                    if not parts:
                        began()
                    parts.append(text)
            return "".join(parts)

        return await measure(ask, lambda began: ask(began, "slow"), effort)


@case("openai_wire", "aoskernel", goals=GOALS)
async def ours(effort: Effort) -> Figures:
    async with serving() as url, started(OpenAI, f"{url}/v1") as ask:
        return await measure(ask, lambda began: ask(began, "slow"), effort)
