"""Toolsets and their directory, in a kernel."""

from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from pydantic import JsonValue

from aoskernel import BootError, ConfigError, Kernel
from aoskernel.drivers.tools.python import PythonTools
from aoskernel.kernel.config import build
from aoskernel.subsystems.tools.driver import JsonObject, Offer, ToolDriver, ToolSpec
from aoskernel.subsystems.tools.messages import (
    BadArguments,
    CallTool,
    FindTools,
    ListTools,
    Reconcile,
    Reconciled,
    ToolFailed,
    ToolsChanged,
    UnknownTool,
    done,
    not_done,
    unknown,
)
from aoskernel.subsystems.tools.service import Toolbox, Toolset
from aoskernel.subsystems.tools.tool import tool


@dataclass
class Shelf:
    """Tools that do nothing; it counts how often it is asked what it has."""

    names: list[str]
    asked: int = 0
    running: bool = False
    open: anyio.Event | None = None
    reached: anyio.Event = field(default_factory=anyio.Event)

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False

    async def offers(self) -> tuple[Offer, ...]:
        self.asked += 1
        offers = tuple(
            Offer(spec=ToolSpec(name=name, description="", parameters={})) for name in self.names
        )
        self.reached.set()
        if self.open is not None:
            await self.open.wait()
        return offers

    async def call(self, name: str, arguments: JsonObject, key: str) -> JsonValue:
        return [name, arguments, key]


def at(address: str, driver: ToolDriver) -> Toolset:
    return Toolset(driver).named(address)


async def found(kernel: Kernel, *names: str) -> list[str]:
    with anyio.fail_after(20):
        tools = await kernel.request(FindTools(names=names or None))
    return [f"{tool.address}/{tool.name}" for tool in tools]


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


# One set of tools


async def test_a_call_reaches_the_driver_with_its_arguments_and_its_key() -> None:
    async with Kernel(at("tools.mine", Shelf(["hammer"]))) as kernel:
        call = CallTool(name="hammer", arguments={"at": "nail"}, key="7/0:2")

        assert await kernel.request(call) == ["hammer", {"at": "nail"}, "7/0:2"]


async def test_a_driver_lives_as_long_as_its_toolset() -> None:
    shelf = Shelf([])

    async with Kernel(at("tools.mine", shelf)):
        running = shelf.running

    assert (running, shelf.running) == (True, False)


async def test_a_tool_is_listed_with_the_address_that_has_it() -> None:
    async with Kernel(at("tools.mine", PythonTools(functions=(add,)))) as kernel:
        (tool,) = await kernel.request(ListTools())

    assert (tool.name, tool.effect, tool.address) == ("add", "once", "tools.mine")


async def test_an_argument_that_does_not_fit_is_refused_through_the_kernel() -> None:
    async with Kernel(at("tools.mine", PythonTools(functions=(add,)))) as kernel:
        with pytest.raises(BadArguments, match=r"b: Field required"):
            await kernel.request(CallTool(name="add", arguments={"a": 1}))


TABLE = {
    "use": "aoskernel.subsystems.tools.service:Toolset",
    "driver": "aoskernel.drivers.tools.python:PythonTools",
}


async def test_a_toolset_is_made_from_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tools_of_mine.py").write_text("def half(n: int) -> float:\n    return n / 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    toolset = build("tools.mine", {**TABLE, "functions": ["tools_of_mine:half"]})

    async with Kernel(toolset) as kernel:
        call = CallTool(name="half", arguments={"n": 3})

        assert await kernel.request(call, to="tools.mine") == 1.5


def test_a_function_without_types_is_an_error_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "untyped_tools.py").write_text("def half(n):\n    return n / 2\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(
        ConfigError, match=r"services\.tools\.mine: tool 'half': argument 'n' has no"
    ):
        build("tools.mine", {**TABLE, "functions": ["untyped_tools:half"]})


# The directory


async def test_the_toolbox_finds_the_tools_of_all_toolsets_sorted_by_name() -> None:
    red, blue = at("tools.red", Shelf(["saw", "axe"])), at("tools.blue", Shelf(["drill"]))

    async with Kernel(red, blue, Toolbox()) as kernel:
        assert await found(kernel) == ["tools.red/axe", "tools.blue/drill", "tools.red/saw"]
        assert await found(kernel, "saw", "axe", "saw") == ["tools.red/axe", "tools.red/saw"]


async def test_a_toolset_is_not_asked_again_while_nothing_changes() -> None:
    shelf = Shelf(["saw"])

    async with Kernel(at("tools.red", shelf), Toolbox()) as kernel:
        await anyio.wait_all_tasks_blocked()  # the toolbox has heard that everything started
        await found(kernel)
        asked = shelf.asked
        for _ in range(5):
            await found(kernel)
            await found(kernel, "saw")

    assert shelf.asked == asked


async def test_an_unknown_tool_names_the_nearest_and_what_there_is() -> None:
    async with Kernel(at("tools.red", Shelf(["read_file", "saw"])), Toolbox()) as kernel:
        with pytest.raises(UnknownTool) as caught:
            await found(kernel, "saw", "raed_file")

    assert str(caught.value) == (
        "no tool 'raed_file'; did you mean 'read_file'? At hand: read_file, saw"
    )


async def test_two_tools_of_one_name_are_refused_at_boot_naming_both_addresses() -> None:
    red, blue = at("tools.red", Shelf(["saw"])), at("tools.blue", Shelf(["axe", "saw"]))

    with pytest.raises(BootError, match=r"'tools.blue' and 'tools.red' both have .* 'saw'"):
        async with Kernel(Toolbox(), red, blue):
            pytest.fail("it started")


async def test_a_tool_that_comes_later_may_not_take_another_s_name_either() -> None:
    shelf = Shelf(["axe"])

    async with Kernel(
        at("tools.red", Shelf(["saw"])), at("tools.blue", shelf), Toolbox()
    ) as kernel:
        shelf.names.append("saw")
        await kernel.publish(ToolsChanged(address="tools.blue"))
        await anyio.wait_all_tasks_blocked()

        with pytest.raises(BootError, match=r"both have a tool named 'saw'"):
            await found(kernel)


async def test_a_toolset_that_says_it_has_changed_is_asked_again() -> None:
    shelf = Shelf(["saw"])

    async with Kernel(at("tools.red", shelf), Toolbox()) as kernel:
        await found(kernel)
        shelf.names.append("axe")
        await kernel.publish(ToolsChanged(address="tools.red"))
        await anyio.wait_all_tasks_blocked()

        assert await found(kernel) == ["tools.red/axe", "tools.red/saw"]


async def test_a_toolset_that_was_swapped_is_asked_again() -> None:
    async with Kernel(at("tools.red", Shelf(["saw"])), Toolbox()) as kernel:
        await found(kernel)
        await kernel.swap("tools.red", Toolset(Shelf(["axe"])))
        await anyio.wait_all_tasks_blocked()

        assert await found(kernel) == ["tools.red/axe"]


async def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    shelf = Shelf(["saw"])

    async with Kernel(at("tools.red", shelf), Toolbox()) as kernel:
        await anyio.wait_all_tasks_blocked()  # what started is heard: the next call asks
        shelf.open, shelf.reached = anyio.Event(), anyio.Event()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(found, kernel)
                await shelf.reached.wait()
                shelf.names.append("axe")
                await kernel.publish(ToolsChanged(address="tools.red"))
                await anyio.wait_all_tasks_blocked()
                shelf.open.set()

        assert await found(kernel) == ["tools.red/axe", "tools.red/saw"]


async def test_a_toolset_that_fails_is_not_left_out_in_silence() -> None:
    class Broken(Shelf):
        async def offers(self) -> tuple[Offer, ...]:
            if not self.names:
                raise ToolFailed("the server hung up")
            return await super().offers()

    broken = Broken(["drill"])

    async with Kernel(
        at("tools.red", Shelf(["saw"])), at("tools.blue", broken), Toolbox()
    ) as kernel:
        broken.names.clear()
        await kernel.publish(ToolsChanged(address="tools.blue"))
        await anyio.wait_all_tasks_blocked()

        with pytest.raises(ToolFailed, match="the server hung up"):
            await found(kernel, "saw")


# What became of a call


async def test_a_tool_is_asked_what_became_of_a_call_by_its_key() -> None:
    def look_up(key: str) -> Reconciled:
        return done(f"order {key}")

    @tool(effect="once", reconcile=look_up, refuses_repeats=True)
    def order(what: str) -> str:
        return what

    async with Kernel(at("tools.shop", PythonTools(functions=(order,)))) as kernel:
        (listed,) = await kernel.request(ListTools())
        said = await kernel.request(Reconcile(name="order", key="7/0:1"))

    assert (listed.reconciles, listed.refuses_repeats) == (True, True)
    assert said == done("order 7/0:1")


async def test_an_async_reconcile_is_awaited() -> None:
    async def look_up(key: str) -> Reconciled:
        return not_done

    @tool(reconcile=look_up)
    def order(what: str) -> str:
        return what

    async with Kernel(at("tools.shop", PythonTools(functions=(order,)))) as kernel:
        assert await kernel.request(Reconcile(name="order", key="k")) == not_done


async def test_a_reconcile_that_raises_is_a_failed_tool() -> None:
    def look_up(key: str) -> Reconciled:
        raise OSError("no line")

    @tool(reconcile=look_up)
    def order(what: str) -> str:
        return what

    async with Kernel(at("tools.shop", PythonTools(functions=(order,)))) as kernel:
        with pytest.raises(ToolFailed, match="could not say what became of it: OSError: no line"):
            await kernel.request(Reconcile(name="order", key="k"))


async def test_tools_that_cannot_say_do_not_know() -> None:
    async with Kernel(
        at("tools.mine", PythonTools(functions=(add,))), at("tools.red", Shelf(["saw"]))
    ) as kernel:
        (mine,) = await kernel.request(ListTools(), to="tools.mine")
        said = [
            await kernel.request(Reconcile(name=name, key="k"), to=address)
            for name, address in (
                ("add", "tools.mine"),
                ("gone", "tools.mine"),
                ("saw", "tools.red"),
            )
        ]

    assert not mine.reconciles
    assert said == [unknown] * 3
