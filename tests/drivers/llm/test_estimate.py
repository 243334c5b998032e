"""Estimates of tokens, beside real tokenizers: how near, how safe, and what can't break them."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aoskernel.drivers.llm._estimate import Estimate, Estimator
from aoskernel.drivers.llm._estimate_family import family_of
from aoskernel.drivers.llm._estimate_features import FEATURES, features
from aoskernel.drivers.llm._estimate_learning import SPREAD_LEAST, SPREAD_MOST, Learner
from aoskernel.drivers.llm._estimate_text import CONTENTS, Scanner
from aoskernel.drivers.llm.llamacpp import LlamaCpp
from aoskernel.subsystems.llm.driver import ChatMessage, ToolCall, ToolSpec

ROOT = Path(__file__).resolve().parents[3]
TEXTS = ROOT / "benchmarks/texts"
KNOWN = ("o200k", "llama3", "qwen3", "deepseek")
UNKNOWN = ("o200k, unknown", "cl100k, unknown", "qwen3, unknown", "deepseek, unknown")
KINDS = ("english", "chinese", "code", "json", "mixed", "table", "log", "tools", "conversation")
PROMISED = ("english", "chinese", "code", "json")

SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = ToolSpec(name="weather", description="The weather of a city.", parameters=SCHEMA)

any_text = st.text(st.characters(codec=None), max_size=300)


def said(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage(role="user", text=text),)


def prose(seed: int, words: int = 300) -> str:
    told = (TEXTS / "learn/english.request.txt").read_text("utf-8").split()
    return " ".join(random.Random(seed).choices(told, k=words))


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, dict[str, float]]]:
    """By provider and kind of text: errors in per cent before and after ten calls."""
    command = [sys.executable, "-m", "benchmarks.estimator"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("provider", KNOWN)
def test_after_ten_calls_no_text_is_off_by_more_than_a_tenth(
    table: dict[str, Any], provider: str, kind: str
) -> None:
    # The tools' prompt is a question of 200 tokens, most of them a template's: a tenth is little.
    assert table[provider][kind]["worst"] <= (15 if kind == "tools" else 10)


@pytest.mark.parametrize("kind", PROMISED)
@pytest.mark.parametrize("provider", UNKNOWN)
def test_an_unknown_tokenizer_too_is_learned_in_ten_calls(
    table: dict[str, Any], provider: str, kind: str
) -> None:
    assert table[provider][kind]["mean"] <= 10
    assert table[provider][kind]["worst"] <= 15


@pytest.mark.parametrize("provider", KNOWN + UNKNOWN)
def test_no_truth_is_beyond_the_reserve(table: dict[str, Any], provider: str) -> None:
    assert {kind: row["beyond"] for kind, row in table[provider].items()} == dict.fromkeys(
        table[provider], 0
    )


@pytest.mark.parametrize("provider", UNKNOWN)
def test_what_is_learned_helps_with_what_was_not_seen(table: dict[str, Any], provider: str) -> None:
    rows = table[provider].values()
    assert sum(row["mean"] for row in rows) < 0.7 * sum(row["mean_before"] for row in rows)


@pytest.mark.model
async def test_a_real_server_with_a_tokenizer_of_its_own_is_learned() -> None:
    driver, estimator = LlamaCpp(), Estimator("smollm2")
    off: list[float] = []
    with anyio.fail_after(60):
        try:
            await driver.start()
            for text in texts("learn", "english", "code") * 3:
                estimator.learn(said(text), (), await driver.count(said(text), ()))
            for text in texts("held_out", "english", "code"):
                truth, told = await driver.count(said(text), ()), estimator.prompt(said(text), ())
                off.append(abs(told.tokens / truth - 1))
                assert truth <= told.at_most, text[:40]
        finally:
            await driver.stop()
    assert sum(off) / len(off) <= 0.1


def texts(part: str, *kinds: str) -> list[str]:
    paths = [path for kind in kinds for path in sorted((TEXTS / part).glob(f"{kind}.*"))]
    return [path.read_text("utf-8") for path in paths]


# Any text


@settings(deadline=None)
@given(any_text)
def test_no_estimate_is_negative_and_the_reserve_comes_on_top(text: str) -> None:
    guess = Estimator("gpt-4o").text(text)
    assert 0 <= guess.tokens <= guess.at_most
    assert all(count >= 0 for count in features(text))


@settings(deadline=None)
@given(any_text, any_text)
def test_a_longer_text_has_no_fewer_tokens(one: str, other: str) -> None:
    estimator = Estimator("claude-x")
    whole = estimator.text(one + other).tokens
    assert whole + 12 >= max(estimator.text(one).tokens, estimator.text(other).tokens)


@settings(deadline=None)
@given(any_text)
def test_the_same_text_has_the_same_tokens(text: str) -> None:
    assert features(text) == features("".join(text))
    assert Estimator("qwen3").text(text) == Estimator("qwen3").text(text)


@pytest.mark.parametrize("unit", ["\ud800", "\x00", "\x1b[0m", "ab ", "中文", "🚀", "=", "\r\n"])
def test_a_megabyte_of_anything_is_estimated(unit: str) -> None:
    guess = Estimator("new-1").text(unit * (1_000_000 // len(unit.encode("utf-8", "replace"))))
    assert 0 < guess.tokens < 3_000_000


@pytest.mark.parametrize(
    ("feature", "text", "times"),
    [
        ("word", "a cat sat", 2),
        ("Word", "a Cat sat", 1),
        ("glued", "self._name.first", 2),
        ("hump", "camelCaseName", 2),
        ("digits", "12 12345 1234567", 1 + 2 + 3),
        ("digit", "12 345", 5),
        ("mixed", "3f 2nd 4A", 3),
        ("indent", "if x:\n        return", 1),
        ("break", "one\ntwo\n\nthree", 2),
        ("broken", "one;\ntwo\n", 1),
        ("signs", "a, b; c", 2),
        ("sign", "f())", 2),
        ("ruler", "=" * 60, 7),
        ("han", "你好，世界", 4),
        ("han_run", "你好，世界", 2),
        ("han_sign", "你好，世界。", 2),
        ("han_common", "我的书", 2),
        ("kana", "すし", 2),
        ("hangul", "한국", 2),
        ("cyrillic", "да и нет", 6),
        ("cyrillic_word", "да и нет", 3),
        ("accent", "café", 1),
        ("emoji", "🚀🚀", 2),
        ("curly", "“so”", 2),
        ("symbol", "→", 1),
    ],
)
def test_a_feature_is_counted(feature: str, text: str, times: int) -> None:
    assert dict(zip(FEATURES, features(text), strict=True))[feature] == times


def test_every_feature_has_its_content() -> None:
    assert sorted(name for names in CONTENTS.values() for name in names) == sorted(FEATURES)


# What is kept


def test_a_text_is_scanned_once() -> None:
    estimator, text = Estimator("mistral-large"), prose(1, 200_000)
    began = time.process_time()
    first = estimator.text(text)
    scanned = time.process_time()
    assert estimator.text(text) == first
    assert time.process_time() - scanned < (scanned - began) / 10


def test_what_is_kept_is_bounded() -> None:
    scanner = Scanner((1.0,) * len(FEATURES), room=10_000)
    texts = [f"{number} {'x' * 1000}" for number in range(100)]
    assert [scanner.tokens(text) for text in texts] == [scanner.tokens(text) for text in texts]
    assert scanner.kept < 10


def test_a_text_larger_than_the_room_is_not_kept() -> None:
    scanner = Scanner((1.0,) * len(FEATURES), room=1000)
    scanner.tokens("x" * 2000)
    assert scanner.kept == 0


# Learning


def taught(shares: Sequence[float]) -> Estimator:
    """An estimator whose provider counts so many times what was estimated at first."""
    fresh, estimator = Estimator("new-1"), Estimator("new-1")
    for number, share in enumerate(shares):
        messages = said(prose(number))
        estimator.learn(messages, (), round(share * fresh.prompt(messages, ()).tokens))
    return estimator


def guess(estimator: Estimator) -> Estimate:
    return estimator.prompt(said(prose(-1)), ())


def test_a_provider_that_counts_a_fifth_more_is_followed() -> None:
    usual = guess(Estimator("new-1")).tokens
    assert guess(taught([1.2] * 10)).tokens == pytest.approx(usual * 1.2, rel=0.03)


def test_the_reserve_shrinks_as_reports_agree() -> None:
    fresh, sure = Estimator("new-1"), taught([1.1] * 30)
    assert guess(sure).at_most / guess(sure).tokens < guess(fresh).at_most / guess(fresh).tokens


def test_the_reserve_of_what_was_not_seen_stays_large() -> None:
    estimator = taught([1.1] * 30)
    seen, unseen = guess(estimator), estimator.prompt(said("今天天气很好，我们去公园。" * 30), ())
    assert unseen.at_most / unseen.tokens > 1.2 > seen.at_most / seen.tokens


@pytest.mark.parametrize("nonsense", [0, -1, 0.002, 0.3, 5, 1e6])
def test_a_report_that_cannot_be_changes_nothing(nonsense: float) -> None:
    honest = [1.1] * 10
    assert guess(taught([*honest, nonsense])) == guess(taught(honest))


def test_one_report_without_the_cached_tokens_moves_little() -> None:
    honest = [1.1] * 15
    before, after = guess(taught(honest)), guess(taught([*honest, 0.4]))
    assert after.tokens == pytest.approx(before.tokens, rel=0.1)


def test_a_provider_that_changes_its_tokenizer_is_followed() -> None:
    usual = guess(Estimator("new-1")).tokens
    changed = guess(taught([1.0] * 200 + [1.3] * 15))
    assert changed.tokens == pytest.approx(1.3 * usual, rel=0.03)


def test_what_a_tool_costs_is_learned() -> None:
    estimator, messages = Estimator("gpt-4o"), said(prose(1))
    alone = estimator.prompt(messages, ()).tokens
    for _ in range(10):
        estimator.learn(messages, (), alone)
        estimator.learn(messages, (WEATHER,), alone + 400)
    assert estimator.prompt(messages, (WEATHER,)).tokens == pytest.approx(alone + 400, rel=0.1)
    assert estimator.prompt(messages, ()).tokens == pytest.approx(alone, rel=0.05)


def test_a_call_and_its_arguments_count() -> None:
    asked = prose(3)
    call = ToolCall(id="1", name="weather", arguments={"city": asked})
    estimator = Estimator("gpt-4o")
    calling = ChatMessage(role="assistant", tool_calls=(call,))
    silent = ChatMessage(role="assistant")
    more = estimator.prompt([calling], ()).tokens - estimator.prompt([silent], ()).tokens
    assert more > estimator.text(asked).tokens


def test_reasoning_counts_where_it_is_sent_back() -> None:
    call = ToolCall(id="1", name="weather", arguments={})
    plain = ChatMessage(role="assistant", text="Yes.", reasoning=prose(2))
    calling = plain.model_copy(update={"tool_calls": (call,)})
    never, with_tools, always = (
        Estimator("new-1", reasoning_back=back) for back in ("never", "with_tools", "always")
    )
    assert never.prompt([plain], ()) == with_tools.prompt([plain], ())
    assert always.prompt([plain], ()).tokens > never.prompt([plain], ()).tokens + 200
    assert with_tools.prompt([calling], ()).tokens > never.prompt([calling], ()).tokens + 200


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(any_text, st.integers(-10, 10**9), st.booleans()), max_size=30))
def test_no_report_breaks_it(reports: list[tuple[str, int, bool]]) -> None:
    estimator, again = Estimator("new-1"), Estimator("new-1")
    for text, tokens, with_tool in reports:
        tools = (WEATHER,) if with_tool else ()
        estimator.learn(said(text), tools, tokens)
        again.learn(said(text), tools, tokens)
    told = estimator.prompt(said(prose(1)), (WEATHER,))
    assert told == again.prompt(said(prose(1)), (WEATHER,))
    assert 50 < told.tokens <= told.at_most < 50_000


def test_ten_thousand_noisy_reports_leave_it_near_the_truth() -> None:
    rng, truth = random.Random(3), [1.3, 0.8, 1.0, 2.0, 5.0]
    learner = Learner([1, 1, 1, 1, 3], [0.4] * 4 + [10], [0.1] * 5, [9] * 5, spread=0.06)
    for number in range(10_000):
        quantities = [rng.expovariate(1 / 300) for _ in range(4)] + [1.0]
        count = sum(f * q for f, q in zip(truth, quantities, strict=True))
        if number % 50:
            learner.learn(quantities, count * rng.gauss(1, 0.05))
        else:
            learner.learn(quantities, count * rng.choice((0.4, 2.5)))
    assert learner.factors[:4] == pytest.approx(truth[:4], rel=0.1)
    assert SPREAD_LEAST <= learner.spread <= SPREAD_MOST
    assert 0 < learner.deviation([300, 300, 300, 300, 1]) < 400


def test_factors_stay_within_their_bounds() -> None:
    learner = Learner([1.0, 1.0], [5.0, 5.0], [0.25, 0.25], [4.0, 4.0], spread=0.06)
    for _ in range(200):
        learner.learn([100, 1], 10_000)
        learner.learn([1, 100], 1)
    assert all(0.25 <= factor <= 4 for factor in learner.factors)


# Families


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o-mini", "gpt"),
        ("o3-mini", "gpt"),
        ("openai/gpt-oss-20b", "gpt"),
        ("claude-opus-4", "claude"),
        ("deepseek-chat", "deepseek"),
        ("deepseek/deepseek-r1-distill-llama-70b", "deepseek"),
        ("qwen3-max", "qwen"),
        ("qwen2.5:7b", "qwen"),
        ("Qwen/QwQ-32B", "qwen"),
        ("glm-4.6", "glm"),
        ("kimi-k2.5", "kimi"),
        ("moonshot-v1-8k", "kimi"),
        ("MiniMax-M2", "minimax"),
        ("abab6.5s-chat", "minimax"),
        ("gemini-2.5-pro", "gemini"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama"),
        ("codestral-latest", "mistral"),
        ("turbo1", "default"),
        ("", "default"),
    ],
)
def test_a_models_name_tells_its_family(model: str, family: str) -> None:
    assert family_of(model).name == family
