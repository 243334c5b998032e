"""Swap a model while it is being used: forty questions are open, none is lost.

`kernel.swap` takes a config table; `kernel.reload` reads the whole config again and swaps
what has changed. Calls that have begun finish on the old model, the others go to the new one.
"""

from collections import Counter

import anyio

from aoskernel import Kernel
from aoskernel.subsystems.llm.messages import ChatMessage, Complete

QUESTION = Complete(messages=(ChatMessage(role="user", text="Which model are you?"),))


def model(name: str) -> dict[str, object]:
    """A table as it stands in aosk.toml; each answer takes a hundredth of a second."""
    rules = [{"say": "See my name."}]
    return {"driver": "scripted", "name": name, "slots": 4, "first_token_s": 0.01, "rules": rules}


async def main() -> None:
    answers: Counter[str] = Counter()
    begun = anyio.Event()

    async with Kernel.from_config(services={"llm.default": model("old")}) as kernel:

        async def ask() -> None:
            answers[(await kernel.request(QUESTION)).model] += 1
            begun.set()

        async with anyio.create_task_group() as asking:
            for _ in range(40):
                asking.start_soon(ask)
            await begun.wait()  # the first answers are in, the others still wait
            await kernel.swap("llm.default", model("new"))
        print(f"answered: {answers.total()}, by both: {len(answers) == 2}")

        await kernel.reload(services={"llm.default": model("newest")})
        print("after reload:", (await kernel.request(QUESTION)).model)


if __name__ == "__main__":
    anyio.run(main)
