"""Many tools: a model is shown the one that finds them, and what it has found."""

from typing import Any

import anyio
import pytest
from system import System

from aoskernel import assistant, spawn
from aoskernel.drivers.llm.scripted import call
from aoskernel.subsystems.llm.messages import ToolSpec
from aoskernel.subsystems.tools.finder import nearest
from aoskernel.subsystems.tools.messages import FINDER, OfferTools, Tool


def made(number: int) -> Any:
    def function(text: str, count: int = 1) -> str:
        return f"{number}: {text}"

    function.__name__ = f"work_{number}"
    function.__doc__ = f"Do piece {number} of the work on a text, as often as it is wanted."
    return function


MANY = {"driver": "python", "functions": tuple(made(n) for n in range(100))}
FEW = {"driver": "python", "functions": (made(0),)}


async def offered(system: System, tools: Any, *found: str, **toolbox: Any) -> tuple[ToolSpec, ...]:
    async with system(**{"tools.made": tools, "toolbox": toolbox}) as kernel:
        with anyio.fail_after(20):
            return await kernel.request(OfferTools(found=found))


async def test_few_tools_are_all_shown_and_nothing_finds_them(system: System) -> None:
    names = [spec.name for spec in await offered(system, FEW)]
    assert names == ["list_files", "read_file", "search_files", "work_0"]


async def test_of_many_tools_one_is_shown_that_names_them_and_those_it_found(
    system: System,
) -> None:
    finder, *found = await offered(system, MANY, "work_7", "gone", "read_file", "work_7")
    assert finder.name == FINDER
    assert "There are 103: list_files, read_file, search_files, work_0, " in finder.description
    assert [spec.name for spec in found] == ["work_7", "read_file"]


async def test_what_is_shown_grows_only_at_its_end(system: System) -> None:
    before = await offered(system, MANY, "work_7")
    after = await offered(system, MANY, "work_7", "work_3")
    assert after[: len(before)] == before


async def test_the_budget_is_configured(system: System) -> None:
    assert len(await offered(system, MANY, budget_tokens=100_000)) == 103
    assert len(await offered(system, FEW, budget_tokens=10)) == 1


async def test_an_assistant_finds_a_tool_and_calls_it_in_the_next_turn(system: System) -> None:
    shown: list[list[str]] = []

    def script(ask: Any) -> Any:
        shown.append([spec.name for spec in ask.tools])
        last = ask.messages[-1]
        if len(shown) == 1:
            return call(FINDER, query="piece 42 of the work")
        return call("work_42", text="tea") if len(shown) == 2 else last.text

    async with system(script, **{"tools.made": MANY}) as kernel:
        with anyio.fail_after(20):
            assert await (await spawn(kernel, assistant(task="go"))) == "42: tea"
    assert shown[0] == [FINDER]
    assert shown[1][:2] == [FINDER, "work_42"]
    assert shown[2] == shown[1]


async def test_a_search_without_a_query_says_so(system: System) -> None:
    def script(ask: Any) -> Any:
        last = ask.messages[-1]
        return last.text if last.role == "tool" else call(FINDER, query=3)

    async with system(script, **{"tools.made": MANY}) as kernel:
        with anyio.fail_after(20):
            assert "query: this must be a text" in await (await spawn(kernel, assistant(task="go")))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("send MAIL", ["mail_send", "mail_read"]),
        ("a letter", ["mail_send"]),
        ("zebra", []),
        ("", []),
    ],
)
def test_a_name_counts_more_than_a_description(query: str, names: list[str]) -> None:
    told = {"mail_read": "Read your mail.", "mail_send": "Send a letter.", "add": "Sums."}
    tools = tuple(
        Tool(spec=ToolSpec(name=name, description=text, parameters={}), effect="none", address="t")
        for name, text in told.items()
    )
    assert [tool.name for tool in nearest(query, tools)] == names
