"""Models of vendors from the command line: listed, named, and asked."""

from pathlib import Path
from typing import Any

import pytest
import wire
from anyio.from_thread import start_blocking_portal

from aoskernel.kernel import Config
from aoskernel.plugins.cli import choice, vendors
from aoskernel.plugins.cli.exits import ExitCode, Stop
from aoskernel.plugins.cli.keys import hints

from .conftest import NOTES, Aosk

WIDTH = 80

# Listed


def test_all_vendors_are_listed_with_the_variables_of_their_keys(aosk: Aosk) -> None:
    told = aosk("models", "list").out
    assert "DEEPSEEK_API_KEY (not set)" in told
    assert "aosk models list --vendor NAME" in told
    vendors = {row["name"]: row for row in aosk("models", "list", "--json").document["vendors"]}
    assert {"openai", "kimi", "qwen", "ollama"} <= set(vendors)


def test_a_vendors_models_are_listed_with_window_price_and_what_they_can(aosk: Aosk) -> None:
    told = aosk("models", "list", "--vendor", "deepseek").out
    (line,) = [line for line in told.splitlines() if line.startswith("deepseek-flash ")]
    assert line.split() == [
        "deepseek-flash",
        "1M",
        "384k",
        "2/0.04/8",
        "CNY",
        "tools",
        "json",
        "thinks",
        "cache",
    ]
    assert "0.3/0.006/1.2 USD" in told
    assert "retired 2026-07-24: use deepseek-flash" in told
    assert "as of 2026-11-22" in told
    assert "https://api.deepseek.com/anthropic" in told
    assert "https://api-docs.deepseek.com/quick_start/pricing" in told


def test_regions_are_listed_with_their_urls(aosk: Aosk) -> None:
    told = aosk("models", "list", "--vendor", "kimi").out
    assert "openai wire, mainland          https://api.moonshot.cn/v1" in told
    assert "openai wire, international     https://api.moonshot.ai/v1" in told


def test_a_vendor_in_json_is_its_whole_row(aosk: Aosk) -> None:
    row = aosk("models", "list", "--vendor", "deepseek", "--json").document["vendor"]
    models = {model["name"]: model for model in row["models"]}
    assert (row["key"], row["key_set"]) == ("DEEPSEEK_API_KEY", False)
    assert row["drivers"][0] == "openai"
    assert models["deepseek-flash"]["price"]["currency"] == "CNY"
    assert models["deepseek-chat"]["retired"].startswith("2026-07-24")


def test_whether_a_key_is_set_is_said_and_never_which(
    aosk: Aosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret")
    for options in ((), ("--json",), ("--vendor", "deepseek"), ("--vendor", "deepseek", "--json")):
        told = aosk("models", "list", *options)
        assert "sk-secret" not in told.out + told.err
    assert "DEEPSEEK_API_KEY (set)" in aosk("models", "list", "--vendor", "deepseek").out


@pytest.mark.parametrize("vendor", ["deepseek", "kimi", "groq", "openrouter", "qwen"])
def test_on_a_narrow_terminal_no_name_and_no_price_is_cut(
    aosk: Aosk, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aoskernel.plugins.cli.output.PIPED", WIDTH)
    row = aosk("models", "list", "--vendor", vendor, "--json").document["vendor"]
    told = aosk("models", "list", "--vendor", vendor).out
    words = told.split()
    assert all(model["name"] in words for model in row["models"])
    assert "…" not in told
    assert all(len(line) <= WIDTH or "https://" in line for line in told.splitlines())


def test_an_unknown_vendor_is_wrong_usage_and_names_the_nearest(aosk: Aosk) -> None:
    told = aosk("models", "list", "--vendor", "deepsek", "--json")
    assert told.code == ExitCode.USAGE
    assert "Did you mean deepseek?" in told.document["error"]["message"]


# Named


def chosen(model: str, config: Config | None = None) -> dict[str, Any]:
    """The table of the service that would answer."""
    made = choice.with_model(config or Config(), model)
    assert made.routes["llm.complete"].default == "llm.default"
    return made.services["llm.default"]


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in ("DEEPSEEK", "MOONSHOT", "MINIMAX", "GROQ", "OPENROUTER", "ANTHROPIC"):
        monkeypatch.setenv(f"{vendor}_API_KEY", "sk-secret")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("deepseek-chat", ("openai", "deepseek", "deepseek-chat")),
        ("deepseek:deepseek-chat", ("openai", "deepseek", "deepseek-chat")),
        ("minimax-m3", ("openai", "minimax", "MiniMax-M3")),
        ("claude-opus-4-5-20251101", ("anthropic", "anthropic", "claude-opus-4-5-20251101")),
        ("openai/gpt-oss-120b", ("openai", "groq", "openai/gpt-oss-120b")),
        (
            "openrouter:anthropic/claude-sonnet-4.5",
            ("openai", "openrouter", "anthropic/claude-sonnet-4.5"),
        ),
        ("openrouter:someone/else", ("openai", "openrouter", "someone/else")),
        ("ollama:llama3.2:3b", ("ollama", "ollama", "llama3.2:3b")),
    ],
)
def test_a_name_is_enough(name: str, table: tuple[str, str, str]) -> None:
    assert chosen(name) == dict(zip(("driver", "vendor", "model"), table, strict=True))


@pytest.mark.usefixtures("keys")
def test_a_region_can_be_named() -> None:
    assert chosen("kimi@international:kimi-k3")["region"] == "international"


@pytest.mark.usefixtures("keys")
def test_a_region_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(Stop, match="it has: mainland, international"):
        chosen("kimi@mars:kimi-k3")


def test_an_account_that_is_configured_is_used_for_the_vendors_other_models() -> None:
    mine = {
        "driver": "openai",
        "vendor": "kimi",
        "model": "kimi-k3",
        "region": "international",
        "api_key": {"env": "MY_KEY"},
        "context_window": 9,
    }
    table = chosen("kimi-k2.6", Config.model_validate({"services": {"llm.kimi": mine}}))
    assert table == {
        "driver": "openai",
        "vendor": "kimi",
        "model": "kimi-k2.6",
        "region": "international",
        "api_key": {"env": "MY_KEY"},
    }


@pytest.mark.usefixtures("workspace")
def test_without_its_key_the_variable_is_named_and_nothing_starts(aosk: Aosk) -> None:
    told = aosk("run", "Hi.", "--model", "deepseek-flash", "--json")
    assert told.code == ExitCode.CONFIG
    assert "DEEPSEEK_API_KEY" in told.document["error"]["message"]


@pytest.mark.usefixtures("keys")
def test_what_is_retired_is_said_and_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen("deepseek-chat")["model"] == "deepseek-chat"
    told = capsys.readouterr()
    assert "deepseek-chat is retired (2026-07-24: use deepseek-flash)" in told.err
    assert not told.out


@pytest.mark.parametrize(
    ("retired", "told"),
    [
        ("2026-07-24: use x", "is retired"),
        ("2026-10: use x", "is retired"),
        ("before 2026-11-22: use x", "is retired"),
        ("2999-01-01: use x", "will be retired"),
    ],
)
def test_a_day_that_is_to_come_is_told_as_one(retired: str, told: str) -> None:
    assert vendors.tense(retired) == told


@pytest.mark.usefixtures("workspace")
def test_an_unknown_model_names_those_that_are_near_and_the_files(aosk: Aosk) -> None:
    told = aosk("run", "Hi.", "--model", "kimi-k2.7")
    assert told.code == ExitCode.USAGE
    assert "kimi-k2.7-code" in told.err
    assert "smollm2-135m-instruct" in told.err


def test_an_unknown_model_of_a_vendor_names_the_vendors_own(aosk: Aosk) -> None:
    told = aosk("run", "Hi.", "--model", "groq:llama")
    assert told.code == ExitCode.USAGE
    assert "llama-3.3-70b-versatile" in told.err
    assert "aosk models list --vendor groq" in told.err


# Asked


def test_a_vendors_model_answers(
    aosk: Aosk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [
        {"choices": [{"index": 0, "delta": {"content": "On Friday."}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 3}},
    ]
    play = wire.always(wire.head(), *wire.events(said), wire.END)
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret")
    (tmp_path / "notes.txt").write_text(NOTES, "utf-8")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(wire.playing(play)) as server,
    ):
        (tmp_path / "aosk.toml").write_text(
            '[services."llm.mine"]\ndriver = "openai"\nvendor = "deepseek"\n'
            f'model = "deepseek-v4-pro"\nbase_url = "{server.url}"\n',
            "utf-8",
        )
        told = aosk("run", "When?", "--file", "notes.txt", "--model", "deepseek-flash", "--json")
    assert told.code == ExitCode.OK, told.err
    assert told.lines[-1]["answer"] == "On Friday."
    assert told.lines[-1]["model"] == "deepseek-flash"
    (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in told.out + told.err


def test_what_is_said_of_a_vendors_model_is_no_advice_against_it(
    aosk: Aosk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [{"choices": [{"index": 0, "delta": {"content": "好。"}, "finish_reason": "stop"}]}]
    play = wire.always(wire.head(), *wire.events(said), wire.END)
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-secret")
    (tmp_path / "notes.txt").write_text(NOTES, "utf-8")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(wire.playing(play)) as server,
    ):
        (tmp_path / "aosk.toml").write_text(
            '[services."llm.default"]\ndriver = "openai"\nvendor = "qwen"\n'
            f'model = "qwen-plus"\nbase_url = "{server.url}"\n',
            "utf-8",
        )
        told = aosk("run", "星期五有什么事？", "--file", "notes.txt")
    assert told.out == "好。\n", told.err
    assert "This asks" not in told.err


# Hints


def test_a_key_that_is_set_is_hinted_at_with_a_model_that_uses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret")
    assert list(hints(Config())) == [
        "DEEPSEEK_API_KEY is set, and `--model deepseek-flash` would use it, at DeepSeek."
    ]


@pytest.mark.parametrize(
    "table", [{"vendor": "deepseek"}, {"api_key": {"env": "DEEPSEEK_API_KEY"}}]
)
def test_a_configured_service_that_uses_the_key_comes_first(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret")
    config = Config.model_validate({"services": {"llm.big": {"driver": "openai", **table}}})
    assert list(hints(config)) == ["DEEPSEEK_API_KEY is set, and `--model llm.big` would use it."]
