"""MCP servers: what they offer and answer, and what is made of it."""

import json
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest
from tiny_mcp import called, command, heard, names, said, standing, tiny

from aoskernel import BootError, ConfigError, Kernel
from aoskernel.drivers.tools.mcp import Mcp
from aoskernel.kernel.config import build
from aoskernel.kernel.secrets import redacted
from aoskernel.subsystems.processes.results import LONGEST, result_page
from aoskernel.subsystems.tools.messages import (
    BadArguments,
    FindTools,
    OutcomeLost,
    Resource,
    ToolAsks,
    ToolFailed,
    ToolProgressed,
    ToolsChanged,
    ToolsetAway,
    UnknownTool,
    resources,
)
from aoskernel.subsystems.tools.service import Toolbox, Toolset

TOKEN = "token-of-a-test-0123456789"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


# What is offered


async def test_the_order_of_a_server_s_list_does_not_matter(log: Path) -> None:
    async with tiny(log) as one, tiny(log, "reversed", "pages") as other:
        assert await one.request(FindTools()) == await other.request(FindTools())
        assert (await names(one))[0] == "ask"


async def test_an_effect_is_once_unless_config_says_or_lets_the_server_say(log: Path) -> None:
    async def effects(**options: Any) -> list[str]:
        async with tiny(log, **options) as kernel:
            found = await kernel.request(FindTools(names=("die", "echo", "set")))
            return [tool.effect for tool in found]

    assert await effects() == ["once", "once", "once"]
    assert await effects(trust_hints=True) == ["once", "none", "idempotent"]
    assert await effects(effects={"die": "none"}) == ["none", "once", "once"]


async def test_what_a_tool_touches_is_what_config_says(log: Path, tmp_path: Path) -> None:
    touches = {"echo": {"text": "path:write", "size": "spend:EUR"}, "set": {"size": "spend:text"}}
    async with tiny(log, touches=touches, cwd=tmp_path, prefix="t_", trust_hints=True) as kernel:
        found = await kernel.request(FindTools(names=("t_die", "t_echo", "t_set")))

    die, echo, put = found
    assert die.touches == ()
    assert set(resources(echo, {"text": "a/../b", "size": 3})) == {
        Resource("path", f"{tmp_path}/a/../b", "write"),
        Resource("spend", "3 EUR", "spend"),
    }
    assert resources(put, {"text": "USD", "size": 3}) == (("spend", "3 USD", "spend"),)


async def test_touches_of_what_is_not_there_are_named_and_the_tool_is_left_out(log: Path) -> None:
    touches = {
        "echo": {"txt": "path:read"},
        "set": {"size": "spend:euros"},
        "gone": {"text": "path:read"},
    }
    async with tiny(log, touches=touches, effects={"sett": "none"}) as kernel:
        assert not {"echo", "set", "gone"} & set(await names(kernel))
        left_out = (await standing(kernel)).left_out

    assert left_out["echo"] == "touches: there is no argument 'txt'; there are: size, text"
    assert left_out["set"].startswith("touches: 'size': 'euros' is no currency")
    assert left_out["gone"] == "the server has no such tool (touches)"
    assert left_out["sett"] == "the server has no such tool (effects)"


@pytest.mark.parametrize("text", ["path:wirte", "file:read", "path", ""])
def test_touches_that_say_nothing_are_an_error_of_the_configuration(log: Path, text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"touches: echo\.text: '.*' says nothing; write for exam"
    ):
        build(
            "tools.x",
            {"driver": "mcp", "command": command(log), "touches": {"echo": {"text": text}}},
        )


def test_relative_paths_of_a_server_elsewhere_are_in_no_workspace() -> None:
    assert Mcp(url="https://a.org/mcp")._below() == "/"


async def test_only_what_is_wanted_is_offered_under_its_prefix(log: Path) -> None:
    async with tiny(log, only=("echo", "gone"), prefix="t_") as kernel:
        assert await names(kernel) == ["t_echo"]
        assert await called(kernel, "t_echo", text="hi") == "hi"
        assert (await standing(kernel)).left_out == {"t_gone": "the server has no such tool (only)"}


async def test_a_tool_with_a_wrong_schema_is_left_out_and_the_others_stay(log: Path) -> None:
    async with tiny(log, "wrong") as kernel:
        left_out = (await standing(kernel)).left_out

        assert len(await names(kernel)) == 14
        assert {"no_schema", "no_object", "no_type", "huge", "(unnamed)"} <= left_out.keys()
        assert "array" in left_out["no_object"] or "object" in left_out["no_object"]
        with pytest.raises(UnknownTool, match=r"no_type is left out: its schema is no JSON schema"):
            await called(kernel, "no_type")


async def test_a_description_is_bounded_and_holds_no_control_characters(log: Path) -> None:
    async with tiny(log, "evil") as kernel:
        (tool,) = await kernel.request(FindTools(names=("evil",)))

    assert tool.spec.description.startswith("Fine.[2Jzz")
    assert len(tool.spec.description) == 4096


async def test_two_servers_with_one_name_need_a_prefix(log: Path) -> None:
    def second(**options: Any) -> Toolset:
        return Toolset(Mcp(command=command(log), **options)).named("tools.other")

    first = Toolset(Mcp(command=command(log))).named("tools.tiny")
    with pytest.raises(BootError, match=r"both have a tool named 'ask'"):
        async with Kernel(first, second(), Toolbox()):
            pass
    first = Toolset(Mcp(command=command(log))).named("tools.tiny")
    async with Kernel(first, second(prefix="o_"), Toolbox()) as kernel:
        assert {"echo", "o_echo"} <= set(await names(kernel))


async def test_a_changed_list_is_told_of_and_known(log: Path) -> None:
    async with tiny(log) as kernel, kernel.listen("tools.*") as events:
        await called(kernel, "grow")
        changed = await heard(events, ToolsChanged)

        assert (changed.address, changed.added) == ("tools.tiny", ("grown_0",))
        assert "grown_0" in await names(kernel)


async def test_a_pinned_tool_that_has_drifted_is_refused(log: Path, tmp_path: Path) -> None:
    pin = tmp_path / "tiny.lock"
    async with tiny(log, pin=pin) as kernel:
        assert "echo" in await names(kernel)
    async with tiny(log, "drift", pin=pin) as kernel:
        assert "echo" not in await names(kernel)
        why = (await standing(kernel)).left_out["echo"]
    accepted = json.loads("{" + why.partition("put ")[2].partition(" there")[0] + "}")
    pin.write_text(json.dumps({**json.loads(pin.read_text()), **accepted}))
    async with tiny(log, "drift", pin=pin) as kernel:
        assert "echo" in await names(kernel)


# Calls


async def test_arguments_are_checked_before_the_server_hears_of_them(log: Path) -> None:
    async with tiny(log) as kernel:
        with pytest.raises(BadArguments, match=r"text: 3 is not of type 'string'"):
            await called(kernel, "echo", text=3)

    assert said(log, "tools/call") == []


async def test_a_null_in_an_optional_argument_is_left_out(log: Path) -> None:
    async with tiny(log) as kernel:
        assert await called(kernel, "echo", text="on", size=None) == "on"
        with pytest.raises(BadArguments, match="text: None is not of type"):
            await called(kernel, "echo", text=None)

    (call,) = said(log, "tools/call")
    assert call["params"]["arguments"] == {"text": "on"}


async def test_the_key_of_a_call_goes_along(log: Path) -> None:
    async with tiny(log) as kernel:
        meta = json.loads(await called(kernel, "meta", key="7/0:1"))

    assert meta["aoskernel/idempotency-key"] == "7/0:1"


async def test_a_tool_s_failure_is_told_in_its_words(log: Path) -> None:
    async with tiny(log) as kernel:
        with pytest.raises(ToolFailed, match=r"^the shop is closed$"):
            await called(kernel, "fail")


async def test_a_result_that_is_none_is_a_failure_and_not_the_end(log: Path) -> None:
    async with tiny(log) as kernel:
        with pytest.raises(ToolFailed, match="its result is not valid"):
            await called(kernel, "wrong")
        assert await called(kernel, "echo", text="still") == "still"


async def test_a_picture_is_kept_and_the_model_hears_of_it_only(log: Path) -> None:
    async with tiny(log) as kernel:
        value = await called(kernel, "picture")

    assert value == {"mime_type": "image/png", "base64": "iVBORw0KGgo="}
    page = result_page(value, "0:1", "c1")
    assert (page.entry, page.text) == (None, "[image/png, 9 bytes]")


async def test_ten_megabytes_are_kept_and_the_model_sees_their_head(log: Path) -> None:
    async with tiny(log) as kernel:
        value = await called(kernel, "big")

    assert len(value) == 10_000_000 > LONGEST
    page = result_page(value, "0:1", "c1")
    assert page.text.startswith("0123456789")
    assert page.text.endswith("[... 10,000,000 characters in all; the rest is not shown here]")
    assert len(page.text) < 3000


async def test_a_message_over_the_bound_cuts_the_connection_and_says_so(log: Path) -> None:
    async with tiny(log, max_bytes=1_000_000) as kernel, kernel.listen("tools.away") as events:
        with pytest.raises(OutcomeLost):
            await called(kernel, "big")
        away = await heard(events, ToolsetAway)
        assert "a line of more than 1,000,000 bytes" in away.why
        assert await called(kernel, "echo", text="again") == "again"


async def test_progress_is_an_event(log: Path) -> None:
    async with tiny(log) as kernel, kernel.listen("tools.progressed") as events:
        assert await called(kernel, "progress") == "there"
        told = await heard(events, ToolProgressed, lambda event: event.done == 2)

    assert (told.address, told.name, told.total, told.text) == ("tools.tiny", "progress", 2, "on")


async def test_a_cancelled_call_is_cancelled_at_the_server(log: Path) -> None:
    async with tiny(log) as kernel:
        with anyio.move_on_after(0.3):
            await called(kernel, "hang")
        assert await called(kernel, "echo", text="on") == "on"

    (asked, _) = said(log, "tools/call")
    (cancelled,) = said(log, "notifications/cancelled")
    assert cancelled["params"]["requestId"] == asked["id"]


async def test_a_silent_call_ends_with_an_unknown_outcome(log: Path) -> None:
    async with tiny(log, call_s=0.2) as kernel:
        with pytest.raises(OutcomeLost, match=r"no sign of life for 0\.2 s \(call_s\)") as caught:
            await called(kernel, "hang")

    assert not caught.value.retryable
    assert len(said(log, "notifications/cancelled")) == 1


# Questions


async def test_a_server_s_form_is_a_question_until_the_answer_fits(log: Path) -> None:
    asked: list[ToolAsks] = []

    async def human(question: ToolAsks) -> None:
        asked.append(question)
        question.answer = ["0", "7"][len(asked) - 1]

    async with tiny(log, asks=True) as kernel:
        heard = json.loads(await called(kernel, "ask", sink=human))

    assert heard == {"action": "accept", "content": {"size": 7}}
    assert asked[0].text.startswith("tiny 1 asks: Which size?\nsize: integer")
    assert "The answer '0' does not fit: 0 is less than the minimum of 1" in asked[1].text


async def test_nobody_to_ask_is_told_to_the_server(log: Path) -> None:
    async with tiny(log, asks=True) as kernel:
        assert json.loads(await called(kernel, "ask"))["action"] == "cancel"


async def test_without_asks_the_server_is_told_that_it_cannot_ask(log: Path) -> None:
    async with tiny(log) as kernel:
        assert "not supported" in await called(kernel, "ask")

    (hello,) = said(log, "initialize")
    assert hello["params"]["capabilities"] == {}


async def test_a_human_may_take_longer_than_a_silent_server(log: Path) -> None:
    async def human(question: ToolAsks) -> None:
        await anyio.sleep(0.5)
        question.answer = "decline"

    async with tiny(log, asks=True, call_s=0.2) as kernel:
        assert json.loads(await called(kernel, "ask", sink=human)) == {"action": "decline"}


# The process


async def test_a_server_inherits_nothing_but_what_it_needs(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOSK_CANARY", "secret")
    async with tiny(log, env={"GIVEN": "1"}) as kernel:
        env = json.loads(await called(kernel, "env"))

    assert env["GIVEN"] == "1"
    assert env.keys() <= {"GIVEN", "HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LC_CTYPE"}


def test_a_missing_command_is_an_error_of_the_configuration(log: Path) -> None:
    table = {"driver": "mcp", "command": ["no-such-server"]}
    with pytest.raises(ConfigError, match=r"tools\.x.*'no-such-server' is not here"):
        build("tools.x", table)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({}, "set one of them"),
        ({"command": ["sh"], "url": "http://x"}, "set one of them"),
        ({"url": "ftp://x"}, "must begin with http"),
        ({"url": "http://x", "client_secret": "s"}, "is a secret and must not stand in"),
        ({"url": "http://x", "oauth": "client_credentials"}, "needs client_id"),
    ],
)
def test_what_cannot_be_meant_is_an_error_of_the_configuration(
    table: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        build("tools.x", {"driver": "mcp", **table})


@pytest.mark.parametrize(
    ("quirk", "told"),
    [
        ("garbage", "Welcome to my server!"),
        ("quits", "cannot read /etc/tiny.conf"),
        ("endless", r"it sent a line of more than 1,000,000 bytes \(max_bytes\)"),
        ("mute", r"not answered within 0\.5 s \(start_s\)"),
    ],
)
async def test_a_server_that_does_not_start_says_what_it_said(
    log: Path, quirk: str, told: str
) -> None:
    start_s = 0.5 if quirk == "mute" else 10
    with anyio.fail_after(15):
        with pytest.raises(ConfigError, match=told):
            async with tiny(log, quirk, start_s=start_s, max_bytes=1_000_000):
                pass


async def test_a_url_that_refuses_is_told_at_start() -> None:
    driver = Mcp(url="http://127.0.0.1:9/mcp")
    with anyio.fail_after(15):
        with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:9/mcp refuses"):
            async with Kernel(Toolset(driver).named("tools.x"), Toolbox()):
                pass


async def test_a_server_that_is_not_required_may_come_later(log: Path, tmp_path: Path) -> None:
    late = tmp_path / "late"
    script = ["sh", "-c", f'test -e {late} && exec "$@"', "sh", *command(log)]
    driver = Mcp(command=tuple(script), required=False, restart_s=0.05)
    async with Kernel(Toolset(driver).named("tools.tiny"), Toolbox()) as kernel:
        assert await names(kernel) == []
        assert (await standing(kernel)).state in ("away", "starting")
        async with kernel.listen("tools.changed") as events:
            late.touch()
            await heard(events, ToolsChanged)
        assert "echo" in await names(kernel)


def test_tokens_are_kept_where_only_their_owner_reads_them(tmp_path: Path) -> None:
    from aoskernel.drivers.tools._mcp_oauth import Credentials, OAuthToken, Tokens

    file = tmp_path / "deep" / "tokens.json"
    who = Credentials(grant="code", token_file=file)

    async def keep() -> tuple[Any, Any]:
        await Tokens(who, "http://one/mcp").set_tokens(OAuthToken(access_token=TOKEN))
        mine = await Tokens(who, "http://one/mcp").get_tokens()
        return mine, await Tokens(who, "http://other/mcp").get_tokens()

    mine, another_server_s = anyio.run(keep)
    assert (mine.access_token, another_server_s) == (TOKEN, None)
    assert TOKEN not in redacted(f"Bearer {TOKEN}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
