"""Policy, as a guard in a kernel."""

import json
import re
from collections.abc import Sequence

import anyio
import pytest

from aoskernel import ConfigError, Kernel, Request, Service, handles
from aoskernel.drivers.storage.memory import MemoryStorage
from aoskernel.drivers.tools.python import PythonTools
from aoskernel.kernel import Refused
from aoskernel.kernel.config import build
from aoskernel.subsystems.policy.messages import CallRefused
from aoskernel.subsystems.policy.service import Policy
from aoskernel.subsystems.storage.service import Storage
from aoskernel.subsystems.tools.messages import CallTool, UnknownTool
from aoskernel.subsystems.tools.service import Toolbox, Toolset


class Ring(Request[str], topic="bell.ring", addressed=True):
    """Ring a bell."""


class Bell(Service, name="bell"):
    @handles(Ring)
    async def ring(self, request: Ring) -> str:
        return self.address


class Visitor(Service, name="visitor", needs=[Ring]):
    """Rings, in the name of process 7."""

    async def visit(self) -> str:
        return await self.request(Ring(), to="bell.front", origin=7)


def beside() -> tuple[Service, ...]:
    """What a policy asks for tools, and for what was always allowed."""
    return Toolbox(), Storage(MemoryStorage())


def kernel_with(*allow: str, ran: list[str] | None = None) -> Kernel:
    ran = [] if ran is None else ran

    def read_file(path: str) -> str:
        ran.append(f"read {path}")
        return "text"

    def delete_file(path: str) -> None:
        ran.append(f"delete {path}")

    return Kernel(
        Toolset(PythonTools(functions=(read_file, delete_file))).named("tools.files"),
        Bell().named("bell.front"),
        Bell().named("bell.back"),
        Visitor(),
        *beside(),
        Policy(allow=allow),
        routes={"tools.call": ["policy"], "bell.ring": ["policy"]},
    )


def call(name: str) -> CallTool:
    return CallTool(name=name, arguments={"path": "a.txt"})


def rule_in(error: Refused) -> str:
    """The rule that an error says to add."""
    found = re.search(r'add (".*") to allow in \[services\.policy\]', str(error))
    assert found, str(error)
    return found[1].strip('"')


async def test_what_no_rule_allows_is_refused_and_does_not_run() -> None:
    ran: list[str] = []

    async with kernel_with(ran=ran) as kernel:
        with pytest.raises(Refused) as caught:
            await kernel.request(call("delete_file"))

    assert ran == []
    assert caught.value.rule == "policy.allow"
    assert str(caught.value) == (
        "no rule allows tools.call of 'delete_file'; to allow it, add "
        '"tools.call:delete_file" to allow in [services.policy]'
    )


async def test_what_a_rule_names_passes_and_its_neighbour_does_not() -> None:
    ran: list[str] = []

    async with kernel_with("tools.call:read_file", ran=ran) as kernel:
        assert await kernel.request(call("read_file")) == "text"
        with pytest.raises(Refused):
            await kernel.request(call("delete_file"))

    assert ran == ["read a.txt"]


@pytest.mark.parametrize(
    ("allow", "passes"),
    [
        (["tools.call:*"], True),
        (["tools.call:read_*"], True),
        (["tools.call:write_*", "tools.call:read_file"], True),
        (["tools.call:READ_FILE"], False),
        (["tools.call:read"], False),
        (["tools.call:tools.files"], False),
        (["tools.find:*"], False),
        (["llm.complete:*"], False),
    ],
)
async def test_a_tool_s_rule_is_a_pattern_of_its_name(allow: Sequence[str], passes: bool) -> None:
    async with kernel_with(*allow) as kernel:
        if passes:
            assert await kernel.request(call("read_file")) == "text"
        else:
            with pytest.raises(Refused):
                await kernel.request(call("read_file"))


async def test_any_other_request_s_rule_is_a_pattern_of_the_address() -> None:
    async with kernel_with("bell.ring:bell.front") as kernel:
        assert await kernel.request(Ring(), to="bell.front") == "bell.front"
        with pytest.raises(Refused, match=r'add "bell\.ring:bell\.back" to allow'):
            await kernel.request(Ring(), to="bell.back")


@pytest.mark.parametrize("name", ["delete_file", "*", "[a-z]*", 'a"b\\c', "a\nb"])
async def test_the_rule_that_a_refusal_names_allows_that_call_and_no_other(name: str) -> None:
    async with kernel_with() as kernel:
        with pytest.raises(Refused) as caught:
            await kernel.request(call(name))
    assert "\n" not in str(caught.value)

    rule = json.loads(f'"{rule_in(caught.value)}"')
    async with kernel_with(rule) as kernel:
        with pytest.raises(Refused):
            await kernel.request(call("read_file"))
        if name == "delete_file":
            assert await kernel.request(call(name)) is None
        else:
            with pytest.raises(UnknownTool):  # the policy let it through; there is no such tool
                await kernel.request(call(name))


async def test_a_refusal_tells_who_what_and_by_which_rule() -> None:
    visitor = Visitor()
    policy, bell = Policy(), Bell().named("bell.front")

    async with (
        Kernel(
            visitor,
            policy,
            bell,
            Toolset(PythonTools()),
            *beside(),
            routes={"bell.ring": ["policy"]},
        ) as kernel,
        kernel.listen("policy.*") as events,
    ):
        with pytest.raises(Refused):
            await visitor.visit()
        with anyio.fail_after(20):
            told = await anext(events)

    assert told == CallRefused(who="7", what="bell.ring:bell.front", rule="policy.allow")


async def test_a_call_without_an_origin_is_told_by_its_sender() -> None:
    async with kernel_with() as kernel, kernel.listen("policy.refused") as events:
        with pytest.raises(Refused):
            await kernel.request(call("read_file"))
        with anyio.fail_after(20):
            told = await anext(events)

    assert isinstance(told, CallRefused)
    assert told.who == "app"


async def test_a_policy_of_another_name_says_where_its_own_rules_are() -> None:
    routes = {"bell.ring": ["policy.night"]}

    async with Kernel(
        Bell(), Toolset(PythonTools()), *beside(), Policy().named("policy.night"), routes=routes
    ) as kernel:
        with pytest.raises(Refused, match=r"\[services\.policy\.night\]") as caught:
            await kernel.request(Ring())

    assert caught.value.rule == "policy.night.allow"


async def test_a_swapped_policy_forgets_what_the_old_one_decided() -> None:
    async with kernel_with("tools.call:read_file") as kernel:
        assert await kernel.request(call("read_file")) == "text"
        with anyio.fail_after(20):
            await kernel.swap("policy", Policy())

        with pytest.raises(Refused):
            await kernel.request(call("read_file"))


@pytest.mark.parametrize(
    "rule",
    ["read_file", "", ":", "tools.call:", ":read_file", "tools:read_file", "*:*", "tools.call: x"],
)
def test_a_rule_that_cannot_be_read_is_refused_and_says_what_to_write(rule: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"allow: {rule!r} is no rule; write topic:")):
        Policy(allow=("tools.call:*", rule))


def test_a_bad_rule_is_an_error_of_the_configuration() -> None:
    table = {"use": "aoskernel.subsystems.policy.service:Policy", "allow": ["read_file"]}

    with pytest.raises(ConfigError, match=r"services\.policy: allow: 'read_file' is no rule"):
        build("policy", table)


async def test_a_policy_that_is_taken_off_a_route_is_missed_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    routes = {"bell.ring": {"guards": ["policy"], "off": ["policy"]}}

    async with Kernel(Bell(), Toolset(PythonTools()), *beside(), Policy(), routes=routes) as kernel:
        assert await kernel.request(Ring()) == "bell"

    assert "route.unguarded" in caplog.text
