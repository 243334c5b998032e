"""`aosk policy`, `asks` and `answer` for calls that need approval, and `run --mode`."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from daemons import run

from aoskernel import Kernel, Process, attach, program
from aoskernel.kernel import Refused
from aoskernel.plugins.cli.exits import ExitCode

from .conftest import Aosk, Durable

RULES = """
[services.policy]
mode = "standard"
allow = ["tools.call:read_file", {{ call = "tools.call:write_line", where = {{ line = "a*" }} }}]
ask = ["tools.call:order_item file=book"]
deny = ["tools.call:hang"{more}]
"""

SPENDING = """
[services.policy]
mode = "standard"
allow = [{ call = "tools.call:pay", spends_up_to = "20 EUR" }]
deny = [{ call = "tools.call:*", spends_over = "100 EUR" }]
"""


@pytest.fixture
def rules(durable: Durable) -> Any:
    """A configuration with rules."""

    def write(more: str = "") -> Path:
        config = durable()
        text = config.read_text("utf-8")
        kept = text[: text.index("[services.policy]")]
        (config.parent / "book").write_text("it is ordered again at once")
        config.write_text(kept + RULES.format(more=more), "utf-8")
        return config

    return write


@program
async def reader(self: Process) -> str:
    await self.call("read_file", path="notes.txt")
    await self.call("write_line", file="lines", line="abc")
    try:
        return str(await self.call("order_item", file="book"))
    except Refused as refused:
        return str(refused)


def finish(config: Path, pid: int) -> str:
    """Let it go on to its end."""

    async def main() -> str:
        knows = {"processes": {"programs": [__name__]}}
        async with Kernel.from_config(config, services=knows) as kernel:
            with anyio.fail_after(20):
                return str(await (await attach(kernel, pid)))

    return anyio.run(main)


def test_the_rules_stand_in_the_order_of_deciding(aosk: Aosk, rules: Any) -> None:
    rules()
    told = aosk("policy", "check", "--json").document
    assert told["ok"]
    said = [(rule["verdict"], rule["rule"]) for rule in told["rules"]]
    assert said[:4] == [
        ("deny", "policy.deny tools.call:hang"),
        ("ask", "policy.ask tools.call:order_item file=book"),
        ("allow", "policy.allow tools.call:read_file"),
        ("allow", "policy.allow tools.call:write_line line=a*"),
    ]
    assert said[-1] == ("ask", "standard: nothing else decides")


def test_a_rule_that_decides_nothing_fails_the_check(aosk: Aosk, rules: Any) -> None:
    rules(', "tools.call:read_*"')
    told = aosk("policy", "check")
    assert told.code == ExitCode.FAILED
    assert "read_file is never reached: policy.deny tools.call:read_* decides" in told.err


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('deny = ["hang"]', "deny: 'hang' is no rule; write topic:subject"),
        ('deny = [{ call = "tools.call:x", host = "a" }]', "unknown key 'host'; did you mean 'ho"),
        ('deny = [{ call = "tools.call:x", spends_over = "100" }]', "'100' is no amount; write"),
        ('mode = "standart"', "read_only"),
    ],
)
def test_a_bad_rule_is_told_by_its_list(
    aosk: Aosk, durable: Durable, table: str, told: str
) -> None:
    config = durable()
    text = config.read_text("utf-8")
    config.write_text(text[: text.index("[services.policy]")] + f"[services.policy]\n{table}\n")
    checked = aosk("policy", "check")
    assert checked.code == ExitCode.CONFIG
    assert told in checked.err


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        ("tools.call:read_file path=notes.txt", 0, "is made: policy.allow tools.call:read_file"),
        (
            "tools.call:list_files path=..",
            0,
            "waits for a human: standard.ask tools.call:* (outside",
        ),
        ("tools.call:list_files", 0, "is made: standard.allow tools.call:* (effect none)"),
        ("tools.call:hang", ExitCode.REFUSED, "is refused: policy.deny tools.call:hang"),
        ("tools.call:order_item file=pen", 0, "waits for a human: standard: nothing else decides"),
        ("llm.complete:llm.default", 0, "is made: standard.allow llm.complete:*"),
        ("read_file", ExitCode.USAGE, "is no call; write for example"),
    ],
)
def test_a_call_is_tried_without_being_made(
    aosk: Aosk, rules: Any, call: str, code: int, said: str
) -> None:
    rules()
    aosk("db", "migrate")
    told = aosk("policy", "try", call)
    assert told.code == code
    assert said in told.out + told.err


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("tools.call:pay amount=20", "is made: policy.allow tools.call:pay (spends up to 20 EUR)"),
        ("tools.call:pay amount=20.01", "waits for a human: standard.ask tools.call:* (access spe"),
        ("tools.call:pay amount=100.01", "is refused: policy.deny tools.call:* (spends over 100 E"),
        ("tools.call:pay amount=NaN", "is refused: policy.deny tools.call:* (spends over 100 EUR)"),
    ],
)
def test_what_a_call_spends_is_tried(aosk: Aosk, durable: Durable, call: str, said: str) -> None:
    config = durable()
    text = config.read_text("utf-8").replace("errands:hang", "errands:pay")
    config.write_text(text[: text.index("[services.policy]")] + SPENDING, "utf-8")
    assert aosk("policy", "check").code == ExitCode.OK
    aosk("db", "migrate")
    told = aosk("policy", "try", call)
    assert said in told.out + told.err


def test_a_call_is_tried_as_of_a_mode(aosk: Aosk, rules: Any) -> None:
    rules()
    aosk("db", "migrate")
    told = aosk("policy", "try", "tools.call:order_item file=pen", "--mode", "read_only", "--json")
    assert told.code == ExitCode.REFUSED
    assert "read_only.deny" in told.document["error"]["message"]


def test_an_approval_is_shown_answered_explained_and_revoked(aosk: Aosk, rules: Any) -> None:
    config = rules()
    (pid,) = run(config, reader())
    shown = aosk("asks").out
    for line in (
        "tools.call:order_item is to be called; approve it?",
        'file: "book"',
        "asked because of policy.ask tools.call:order_item file=book",
        "aosk answer NUMBER TEXT",
    ):
        assert line in shown
    (asked,) = aosk("asks", "--json").document["asks"]
    assert asked["choices"] == ["approve", "deny", "always"]
    number = str(asked["number"])
    assert aosk("answer", number, "maybe").code == ExitCode.FAILED
    assert aosk("answer", number, "deny").code == ExitCode.OK
    assert "a human has refused it" in finish(config, pid)
    assert aosk("policy", "explain", str(pid), "0:2").out.startswith(
        "call:order_item was refused: a human has refused it: policy.ask tools.call:order_item"
    )
    assert "write_line was made: policy.allow tools.call:write_line line=a*" in (
        aosk("policy", "explain", str(pid), "0:1").out
    )
    assert "the log keeps no rule" in aosk("policy", "explain", str(pid), "0:0").out
    assert "has said nothing at '9:9'" in aosk("policy", "explain", str(pid), "9:9").err


def test_what_is_always_allowed_is_listed_and_revoked(aosk: Aosk, rules: Any) -> None:
    config = rules()
    (pid,) = run(config, reader())
    (asked,) = aosk("asks", "--json").document["asks"]
    number = str(asked["number"])
    aosk("answer", number, "always")
    assert "refused" not in finish(config, pid)
    (grant,) = aosk("policy", "--json").document["always"]
    assert grant == {
        "number": asked["number"],
        "tenant": "default",
        "rule": "tools.call:order_item",
    }
    tried = ("policy", "try", "tools.call:order_item file=book")
    assert f"is made: always allowed ({number})" in aosk(*tried).out
    assert aosk("policy", "revoke", number).code == ExitCode.OK
    assert "waits for a human" in aosk(*tried).out
    assert aosk("policy", "revoke", number).code == ExitCode.FAILED


def test_a_run_shows_what_it_is_asked_and_how_to_answer(
    aosk: Aosk, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = workspace / "aosk.toml"
    config.write_text(
        config.read_text("utf-8") + "\n[services.policy]\nask_within_s = 0.2\nallow = []\n"
    )
    told = aosk("run", "What does /etc/hostname say about Friday?", "--mode", "standard")
    assert "asked because of standard.ask tools.call:* (outside .)" in told.err
    assert "Answer from another terminal: aosk answer" in told.err
