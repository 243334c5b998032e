"""What a call touches, as data."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import anyio
import pytest
from pydantic import Field, JsonValue

from aoskernel import Kernel
from aoskernel.drivers.tools.files import Files
from aoskernel.drivers.tools.python import PythonTools
from aoskernel.subsystems.tools.driver import JsonObject
from aoskernel.subsystems.tools.messages import FindTools, Resource, Tool, resources
from aoskernel.subsystems.tools.service import Toolbox, Toolset
from aoskernel.subsystems.tools.tool import FunctionTool, Touches, tool


@tool
def publish(
    report: Annotated[str, Touches("path"), Field(description="what")],
    pages: Annotated[list[str], Touches("url", "write")],
    board: Annotated[int | None, Touches("resource", "delete")] = None,
    archive: Annotated[str, Touches("path", "write")] = "old/",
) -> None:
    """Publish a report."""


async def found(kernel: Kernel, name: str) -> Tool:
    (only,) = await kernel.request(FindTools(names=(name,)))
    return only


async def touched(arguments: JsonObject) -> set[Resource]:
    tools = Toolset(PythonTools(functions=(publish,))).named("tools.python")
    async with Kernel(Toolbox(), tools) as kernel:
        with anyio.fail_after(20):
            return set(resources(await found(kernel, "publish"), arguments))


async def test_what_a_signature_declares_is_what_the_call_touches() -> None:
    assert await touched({"report": "a.md", "pages": ["http://a/", "http://b/"], "board": 7}) == {
        Resource("path", "a.md", "read"),
        Resource("url", "http://a/", "write"),
        Resource("url", "http://b/", "write"),
        Resource("resource", "7", "delete"),
        Resource("path", "old/", "write"),
    }


async def test_arguments_that_do_not_fit_touch_nothing_and_raise_nothing() -> None:
    odd: JsonObject = {"report": None, "pages": {"a": "b"}, "board": [1.5], "archive": [[""]]}
    assert await touched(odd) == set()


@tool
def pay(
    amounts: Annotated[list[Decimal], Touches("spend", currency="currency")],
    fee: Annotated[float, Touches("spend", currency="EUR")] = 0.5,
    currency: str = "USD",
) -> None:
    """Pay somebody."""


def spending(**arguments: JsonValue) -> list[str]:
    made = FunctionTool(pay)
    of = Tool(spec=made.spec, effect="once", address="tools.x", touches=made.touches)
    found = resources(of, arguments)
    assert all((one.kind, one.access) == ("spend", "spend") for one in found)
    return [one.name for one in found]


def test_what_is_spent_is_named_with_its_currency() -> None:
    assert spending(amounts=[1, "2.50", 1e-7]) == [
        *("1 USD", "2.50 USD", "0.0000001 USD"),
        "0.5 EUR",
    ]
    assert spending(amounts=1, currency="eur", fee=0) == ["1 eur", "0 EUR"]
    assert spending(amounts=[None, True], currency=3, fee="x") == ["None ?", "True ?", "x EUR"]


@pytest.mark.parametrize(
    ("mark", "told"),
    [
        (Touches("spend"), "a currency is to be given of what is spent, and only of that"),
        (Touches("path", currency="EUR"), "a currency is to be given of what is spent, and only"),
        (
            Touches("path", "spend"),
            "to spend is all that is done with money, and with nothing else",
        ),
        (Touches("spend", currency="eur"), "'eur' is no currency; write a code in capitals"),
    ],
)
def test_spending_that_cannot_be_meant_is_refused_at_declaration(mark: Touches, told: str) -> None:
    def order(amount: float) -> None: ...

    order.__annotations__["amount"] = Annotated[float, mark]
    with pytest.raises(TypeError, match=f"tool 'order': 'amount': {told}"):
        tool(order)


async def test_a_path_of_a_workspace_is_absolute_and_is_not_yet_walked(tmp_path: Path) -> None:
    files = Toolset(Files(root=tmp_path)).named("tools.files")
    async with Kernel(Toolbox(), files) as kernel:
        with anyio.fail_after(20):
            read, listing = await found(kernel, "read_file"), await found(kernel, "list_files")
    assert resources(read, {"path": "sub/../a"}) == (("path", f"{tmp_path}/sub/../a", "read"),)
    assert resources(read, {"path": "~/a"}) == (("path", "~/a", "read"),)
    assert resources(read, {"path": "/etc/passwd"}) == (("path", "/etc/passwd", "read"),)
    assert resources(listing, {}) == (("path", f"{tmp_path}/.", "read"),)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.ORG:8443/x", "example.org"),
        ("http://good.example@evil.example/", "evil.example"),
        ("http://example.org./", "example.org"),
        ("http://[::1]/", "::1"),
        ("http://[bad", ""),
        ("no address", ""),
    ],
)
def test_a_url_names_the_host_it_asks(url: str, host: str) -> None:
    assert Resource("url", url, "read").host == host
    assert Resource("path", url, "read").host == ""
