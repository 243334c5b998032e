"""The drivers against mocks that others wrote: the kit, calls in parallel, and faults on demand."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
import servers
from replies import ANTHROPIC, OLLAMA, OPENAI, PATIENCE_S

from aoskernel.subsystems.llm.conformance import CHECKS, Check, Model, Subject
from aoskernel.subsystems.llm.conformance.prompts import (
    CALLS,
    GREETING,
    NUMBERS,
    READ,
    READ_ONE,
    question,
)
from aoskernel.subsystems.llm.driver import (
    LLM,
    CutReply,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
    Unauthorized,
)

every_check = pytest.mark.parametrize("check", CHECKS, ids=str)

IGNORES = "this server takes no notice of max_tokens"
MOCKED = {
    "the_token_limit_ends_an_answer": IGNORES,
    "a_schema_does_not_lift_the_token_limit": IGNORES,
    "a_stop_text_ends_an_answer_before_it": "this server takes no notice of stop texts",
    "a_count_is_near_what_is_reported": "this server has no tokenizer",
    "a_prompt_beyond_the_window_is_refused": "this server has no window",
}

Make = Callable[..., LLM]


def make(of: Make, url: str, **own: Any) -> Make:
    """A maker of a wire's drivers for the server at this URL."""
    return lambda **config: of(url, context_window=4096, **own, **config)


# llmock


@pytest.fixture(scope="module")
def llmock() -> Iterator[str]:
    with servers.llmock() as url:
        yield url


@pytest.fixture(scope="module")
def ollama(llmock: str) -> Iterator[str]:
    with servers.ollama(f"{llmock}/v1") as url:
        yield url


@every_check
async def test_the_ollama_driver_conforms_before_a_proxy(check: Check, ollama: str) -> None:
    own = make(OLLAMA.make, ollama, model="local/tiny")
    exempt = MOCKED | {"a_repeated_beginning_is_read_from_the_cache": "the proxy tells of no cache"}
    await check(Subject(make=own, one_slot={"slots": 1}, exempt=exempt))


@pytest.fixture(params=["openai", "anthropic"])
def mocked(llmock: str, request: pytest.FixtureRequest) -> Make:
    """A driver's maker, before an llmock that has forgotten what it was told."""
    httpx.post(f"{llmock}/_llmock/reset", trust_env=False)
    if request.param == "openai":
        return make(OPENAI.make, llmock)
    return make(ANTHROPIC.make, f"{llmock}/anthropic")


@every_check
async def test_the_drivers_conform_before_llmock(check: Check, mocked: Make) -> None:
    await check(Subject(make=mocked, one_slot={"slots": 1}, exempt=MOCKED))


def behave(llmock: str, **behaviour: Any) -> None:
    """Tell llmock what to do with the next call."""
    told = {"behaviors": [behaviour]}
    httpx.post(f"{llmock}/_llmock/scenario", json=told, trust_env=False).raise_for_status()


async def failure(driver: LLM, **rest: Any) -> tuple[ModelError, Model]:
    """How a call ends that must fail; and that the next one works."""
    with anyio.fail_after(PATIENCE_S):
        try:
            await driver.start()
            model = Model(driver)
            with pytest.raises(ModelError) as failed:
                await model.ask(question("Hello?", most=50, **rest))
            assert (await Model(driver).ask(question("Again?", most=50))).text
            return failed.value, model
        finally:
            await driver.stop()


FAILS: list[tuple[int, type[ModelError]]] = [
    (401, Unauthorized),
    (429, RateLimited),
    (500, ModelUnavailable),
    (503, ModelUnavailable),
    (529, ModelUnavailable),
]


@pytest.mark.parametrize(("status", "kind"), FAILS)
async def test_a_refusal_of_llmock_is_of_its_kind(
    llmock: str, mocked: Make, status: int, kind: type[ModelError]
) -> None:
    behave(llmock, type="fail", status=status)
    error, _ = await failure(mocked())
    assert isinstance(error, kind)


async def test_a_rate_limit_of_llmock_says_when_to_come_back(llmock: str, mocked: Make) -> None:
    behave(llmock, type="fail", status=429, retry_after=3)
    error, _ = await failure(mocked())
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 3


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
async def test_a_broken_stream_of_llmock_is_a_cut_reply(
    llmock: str, mocked: Make, kind: str
) -> None:
    behave(llmock, type="stream_fault", kind=kind, after_chunks=4)
    error, model = await failure(mocked())
    assert isinstance(error, CutReply)
    assert error.text == model.said() != ""


async def test_a_stalled_stream_of_llmock_is_a_timeout(llmock: str, mocked: Make) -> None:
    behave(llmock, type="stream_fault", kind="stall", stall_seconds=30, after_chunks=4)
    error, _ = await failure(mocked(idle_s=0.3))
    assert isinstance(error, ModelTimeout)
    assert error.phase == "stream"


async def test_a_late_first_token_of_llmock_is_a_timeout(llmock: str, mocked: Make) -> None:
    behave(llmock, type="delay", seconds=30)
    error, _ = await failure(mocked(first_byte_s=0.3))
    assert isinstance(error, ModelTimeout)
    assert error.phase == "first_byte"


async def test_arguments_that_are_no_json_are_an_error(llmock: str, mocked: Make) -> None:
    behave(llmock, type="tool_fault", kind="malformed_arguments")
    error, _ = await failure(mocked(), tools=(READ,))
    assert isinstance(error, ModelUnavailable)
    assert "arguments" in str(error)


# aimock: it says what the kit tells a model to say, on all three wires


def fixtures() -> list[dict[str, Any]]:
    """The kit's script, as aimock wants it told: the first that matches replies."""
    result = {"match": {"hasToolResult": True}, "response": {"content": NUMBERS}}
    calls = [
        {
            "match": {"userMessage": text, "toolName": READ.name},
            "response": {"toolCalls": [{"name": c.name, "arguments": c.arguments} for c in called]},
        }
        for text, called in CALLS.items()
    ]
    said = {
        "Anna is 31.": json.dumps({"name": "Anna", "age": 31}),
        "问候世界": json.dumps({"greeting": GREETING}, ensure_ascii=False),
        "": NUMBERS,
    }
    texts = [{"match": {"userMessage": t}, "response": {"content": c}} for t, c in said.items()]
    return [result, *calls, *texts]


@pytest.fixture(scope="module")
def aimock() -> Iterator[str]:
    with servers.aimock(fixtures()) as url:
        yield url


@pytest.mark.node
@pytest.mark.slow
@every_check
@pytest.mark.parametrize("wire", [OPENAI, ANTHROPIC, OLLAMA], ids=str)
async def test_the_drivers_conform_before_aimock(check: Check, wire: Any, aimock: str) -> None:
    await check(
        Subject(make=make(wire.make, aimock), nature="told", one_slot={"slots": 1}, exempt=MOCKED)
    )


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.parametrize("wire", [OPENAI, ANTHROPIC, OLLAMA], ids=str)
async def test_the_reply_of_aimock_is_what_it_was_told(wire: Any, aimock: str) -> None:
    async with Subject(make=make(wire.make, aimock)).model() as model:
        assert (await model.ask(question("Anything.", most=50))).text == NUMBERS
        reply = await model.ask(question(READ_ONE, most=50, tools=(READ,)))
        assert [(c.name, c.arguments) for c in reply.tool_calls] == [
            (c.name, c.arguments) for c in CALLS[READ_ONE]
        ]
