"""What any model driver must do: checks that run on yours, from pytest or `aosk models check`.

    from aoskernel.subsystems.llm.conformance import CHECKS, Subject

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    async def test_my_driver_conforms(check):
        await check(Subject(make=MyDriver))

A check raises Nonconforming with a sentence, or NotApplicable where the model's card says that
it cannot do this; pytest shows that as skipped. docs/how-to/model-driver.md is the long story.
"""

from . import answers, counting, interruptions, schemas, tools
from .check import Check, Verdict, examine
from .prompts import script
from .subject import Model, Nonconforming, NotApplicable, Subject

__all__ = [
    "CHECKS",
    "Check",
    "Model",
    "Nonconforming",
    "NotApplicable",
    "Subject",
    "Verdict",
    "examine",
    "script",
]

CHECKS = tuple(
    check
    for module in (answers, interruptions, schemas, tools, counting)
    for check in vars(module).values()
    if isinstance(check, Check)
)
"""Every check, in the order in which a report shows them."""
