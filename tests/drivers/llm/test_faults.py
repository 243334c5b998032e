"""What providers refuse, and what that becomes: the same on every wire."""

from typing import Any

import pytest
from replies import EVENTS, OLLAMA, WIRES, Wire, talking
from wire import END, always, chunk, document, head

from aoskernel.subsystems.llm.driver import (
    BadPrompt,
    ModelError,
    ModelMissing,
    ModelTimeout,
    ModelUnavailable,
    NoApi,
    OutOfFunds,
    PromptTooLong,
    RateLimited,
    Unauthorized,
)

every_wire = pytest.mark.parametrize("wire", WIRES, ids=str)

STATUSES: list[tuple[int, str, str, type[ModelError], bool]] = [
    (400, "invalid_request_error", "temperature must be a number", BadPrompt, False),
    (401, "authentication_error", "this key is not known", Unauthorized, False),
    (402, "billing_error", "please pay", OutOfFunds, False),
    (403, "permission_error", "this key may not do this", Unauthorized, False),
    (404, "not_found_error", "model 'tiny' not found", ModelMissing, False),
    (413, "request_too_large", "the request is too large", BadPrompt, False),
    (422, "invalid_request_error", "messages: field required", BadPrompt, False),
    (429, "rate_limit_error", "too fast", RateLimited, True),
    (429, "insufficient_quota", "you exceeded your current quota", OutOfFunds, False),
    (500, "api_error", "something broke", ModelUnavailable, True),
    (502, "api_error", "bad gateway", ModelUnavailable, True),
    (503, "api_error", "come back later", ModelUnavailable, True),
    (504, "timeout_error", "it took too long", ModelTimeout, True),
    (529, "overloaded_error", "everybody is here", ModelUnavailable, True),
]


@every_wire
@pytest.mark.parametrize(("status", "code", "message", "kind", "retryable"), STATUSES)
async def test_a_status_is_an_error_of_its_kind(
    wire: Wire, status: int, code: str, message: str, kind: type[ModelError], retryable: bool
) -> None:
    refusal = document(wire.refusal(code, message), status=status)
    async with talking(wire, always(refusal)) as talk:
        with pytest.raises(kind) as refused:
            await talk.ask()
        assert message in str(refused.value)
        assert refused.value.retryable is retryable
        assert not talk.model.meter
        assert len(talk.asked) == 1


@every_wire
async def test_a_prompt_that_is_too_long_says_the_numbers(wire: Wire) -> None:
    told = "this model's maximum context length is 4096 tokens, your prompt has 5120"
    refusal = document(wire.refusal("invalid_request_error", told), status=400)
    async with talking(wire, always(refusal)) as talk:
        with pytest.raises(PromptTooLong) as refused:
            await talk.ask()
        assert (refused.value.tokens, refused.value.window) == (5120, 4096)


# 429: when to come back, and what is left

DATE = "Sun, 22 Nov 2026 12:00:00 GMT"
WAITS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"Retry-After": "7"}, 7),
    ({"Retry-After": "0.5"}, 0.5),
    ({"Retry-After": "Sun, 22 Nov 2026 12:00:09 GMT", "Date": DATE}, 9),
    ({"Retry-After": "Sun, 22 Nov 2026 11:00:00 GMT", "Date": DATE}, 0),
    ({"Retry-After-Ms": "1500", "Retry-After": "2"}, 1.5),
    ({"Retry-After": "31536000"}, 86_400),
    ({"Retry-After": "Mon, 22 Nov 2027 12:00:00 GMT", "Date": DATE}, 86_400),
    ({"Retry-After": "-3"}, 0),
    ({"Retry-After": "soon"}, None),
    ({"Retry-After": "nan"}, None),
    ({"Retry-After": "inf"}, None),
    ({"Retry-After": ""}, None),
]


@every_wire
@pytest.mark.parametrize(("headers", "seconds"), WAITS)
async def test_a_rate_limit_says_when_to_come_back(
    wire: Wire, headers: dict[str, str], seconds: float | None
) -> None:
    refusal = document(wire.refusal("rate_limit_error", "too fast"), status=429, headers=headers)
    async with talking(wire, always(refusal)) as talk:
        with pytest.raises(RateLimited) as limited:
            await talk.ask()
        assert limited.value.retry_after_s == seconds


RATES = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1m30s",
    "anthropic-ratelimit-input-tokens-limit": "40000",
    "anthropic-ratelimit-input-tokens-remaining": "12",
    "anthropic-ratelimit-input-tokens-reset": "2026-11-22T12:00:20Z",
    "x-ratelimit-remaining-tokens": "lots",
    "Date": DATE,
}


@every_wire
@pytest.mark.parametrize("status", [200, 429])
async def test_rate_headers_are_allowances(wire: Wire, status: int) -> None:
    body = wire.said("Hi") if status == 200 else b"{}"
    answer = document(body, status=status, kind=wire.kind, headers=RATES)
    async with talking(wire, always(answer)) as talk:
        try:
            await talk.ask()
            told = talk.model.driver.allowances()
        except RateLimited as limited:
            told = limited.allowances
        left = {a.what: (a.limit, a.remaining, a.reset_s) for a in told}
        assert left["requests"] == (60, 0, 90)
        assert left["prompt_tokens"] == (40_000, 12, 20)
        assert left["tokens"] == (None, None, None)


# An error behind a good status


@every_wire
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
async def test_an_error_with_status_200_is_an_error(wire: Wire, kind: str) -> None:
    refusal = document(wire.refusal("overloaded_error", "everybody is here"), kind=kind)
    async with talking(wire, always(refusal)) as talk:
        with pytest.raises(ModelUnavailable, match="everybody is here") as refused:
            await talk.ask()
        assert refused.value.retryable


@pytest.mark.parametrize("wire", EVENTS, ids=str)
async def test_an_error_in_mid_stream_is_of_its_kind(wire: Wire) -> None:
    body = wire.begun("Hello") + wire.framed(wire.refusal("rate_limit_error", "too fast"))
    async with talking(wire, always(*wire.streamed(body))) as talk:
        with pytest.raises(RateLimited, match="too fast"):
            await talk.ask()
        assert talk.model.said() == "Hello"
        assert talk.model.used.prompt > 0


async def test_an_error_line_in_mid_stream_is_an_error() -> None:
    body = OLLAMA.begun("Hello") + OLLAMA.framed({"error": "the runner has died"})
    async with talking(OLLAMA, always(*OLLAMA.streamed(body))) as talk:
        with pytest.raises(ModelUnavailable, match="the runner has died"):
            await talk.ask()


# What is no API

PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head></html>"
PAGES: list[tuple[int, str, type[ModelError], bool]] = [
    (200, "text/html", NoApi, False),
    (200, "text/plain", NoApi, False),
    (404, "text/html", NoApi, False),
    (502, "text/html", ModelUnavailable, True),
    (429, "text/html", RateLimited, True),
    (403, "text/html", Unauthorized, False),
]


@every_wire
@pytest.mark.parametrize(("status", "kind", "error", "retryable"), PAGES)
async def test_a_page_is_no_reply(
    wire: Wire, status: int, kind: str, error: type[ModelError], retryable: bool
) -> None:
    async with talking(wire, always(document(PAGE, status=status, kind=kind))) as talk:
        with pytest.raises(error) as refused:
            await talk.ask()
        assert refused.value.retryable is retryable
        if error is NoApi:
            assert "Welcome" in str(refused.value)
            assert "base_url" in str(refused.value)


@every_wire
async def test_a_redirect_says_where_to(wire: Wire) -> None:
    moved = document(b"", status=308, headers={"Location": "https://new.example/v1"})
    async with talking(wire, always(moved)) as talk:
        with pytest.raises(NoApi, match=r"https://new\.example/v1"):
            await talk.ask()
        assert len(talk.asked) == 1


@every_wire
@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", ""])
async def test_the_content_type_does_not_matter_to_a_stream(wire: Wire, kind: str) -> None:
    parts: tuple[Any, ...] = (head(kind), chunk(wire.said("Hi", " there")), END)
    async with talking(wire, always(*parts)) as talk:
        assert (await talk.ask()).text == "Hi there"
