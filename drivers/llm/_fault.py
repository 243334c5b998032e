"""What a provider's refusal means: one translation for every wire and vendor.

Vendors agree on the status, not on the body. The body is looked at only for what the status
does not say: a prompt that is too long, content that is refused, an account without money.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from ...subsystems.llm.driver import (
    Allowance,
    BadPrompt,
    ContentRefused,
    CutReply,
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
from .._http import Fault

TOO_LONG = re.compile(
    r"context.?length|context.?window|context_size|prompt is too long|maximum context"
    r"|input length|model token limit|too many (input )?tokens|max.*tokens.*exceed",
    re.IGNORECASE,
)
NO_FUNDS = re.compile(
    r"insufficient.?(quota|balance|funds|credit)|exceeded_current_quota|credit balance|arrearage"
    r"|billing|余额不足|欠费",
    re.IGNORECASE,
)
CONTENT = re.compile(
    r"content.?(filter|policy|management)|data_inspection|moderation|safety|sensitive|敏感",
    re.IGNORECASE,
)
NO_MODEL = re.compile(
    r"model.{0,80}(not.?found|not.?exist|unknown|invalid)|no such model", re.IGNORECASE
)
NUMBER = re.compile(r"\b\d[\d,]{2,}\b")
SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Units of time in rate headers, such as 6m0s."""

MOST_WAIT_S = 86_400.0
"""A Retry-After beyond a day is taken for one of a day."""


def translated(fault: Fault, *, title: str, key: str, model: str) -> ModelError:
    """The fault as an error of ours; `key` names the variable that the API key came from."""
    match fault.kind:
        case "status":
            return _of_status(fault, title=title, key=key, model=model)
        case "timeout":
            return ModelTimeout(f"{title}: {fault}", phase=fault.phase)
        case "cut":
            return CutReply(f"{title}: {fault}")
        case "no_api":
            return NoApi(f"{title}: {fault}")
        case _:
            return ModelUnavailable(f"{title}: {fault}")


def _of_status(fault: Fault, *, title: str, key: str, model: str) -> ModelError:
    status, told = fault.status, _Told.of(fault.told)
    says = f"{title} says {status}: {told.message or fault}"
    about = f"{told.code} {told.message}"
    if status == 402 or NO_FUNDS.search(about):
        return OutOfFunds(says)
    if status in (401, 403) and not CONTENT.search(told.code):
        return Unauthorized(f"{says}; the key is read from {key or 'api_key'}")
    if status == 429:
        return RateLimited(
            says,
            retry_after_s=retry_after(fault.headers, fault.told),
            allowances=tuple(allowances(fault.headers)),
        )
    if status in (408, 504):
        return ModelTimeout(says, phase="first_byte")
    if status >= 500 or told.code in ("overloaded_error", "api_error"):
        return ModelUnavailable(says)
    if TOO_LONG.search(about):
        return _too_long(told)
    if CONTENT.search(about):
        return ContentRefused(says)
    if status == 404 or NO_MODEL.search(about):
        return ModelMissing(f"{says}; the model asked for is {model!r}")
    return BadPrompt(says)


def within(payload: Any) -> Fault | None:
    """The error that a payload of a good status holds, if it holds one."""
    if not isinstance(payload, Mapping):
        return Fault("cut", f"a part of the reply is no object: {str(payload)[:80]!r}")
    told = payload.get("error")
    base = payload.get("base_resp") or {}
    if not told and base.get("status_code"):
        status = BASE_RESP.get(base["status_code"], 500)
    elif told or payload.get("type") == "error":
        status = _status(told if isinstance(told, Mapping) else {})
    else:
        return None
    return Fault("status", "an error within the reply", status=status, told=payload)


def _status(told: Mapping[str, Any]) -> int:
    """The status that an error without one would have had."""
    for name in ("code", "status_code", "status"):
        if isinstance(code := told.get(name), int) and 400 <= code < 600:
            return code
    kind = f"{told.get('type')} {told.get('code')}"
    return next((status for word, status in KINDS.items() if word in kind), 500)


KINDS = {
    "rate_limit": 429,
    "overloaded": 529,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "billing": 402,
    "timeout": 504,
    "invalid": 400,
    "exceed_context_size": 400,
    "context_length": 400,
    "content_filter": 400,
}
BASE_RESP = {1002: 429, 1004: 401, 1008: 402, 1026: 400, 1027: 400, 1039: 400, 2013: 400}
"""MiniMax's codes: rate, key, balance, content in and out, prompt too long, parameters."""


class _Told:
    """A refusal's body, whatever its shape."""

    def __init__(self, message: str, code: str, numbers: tuple[int | None, int | None]) -> None:
        self.message, self.code, self.numbers = message, code, numbers

    @classmethod
    def of(cls, told: Any) -> "_Told":
        """Look for a message and a code where vendors put them."""
        inner = told[0] if isinstance(told, list) and told else told
        while isinstance(inner, Mapping):
            below = inner.get("error") or inner.get("base_resp") or inner.get("detail")
            if below is None:
                break
            inner = {"message": below, **inner} if isinstance(below, str) else below
            if isinstance(below, str):
                break
        if not isinstance(inner, Mapping):
            return cls(str(inner or "")[:500], "", (None, None))
        message = inner.get("message") or inner.get("status_msg") or inner.get("msg") or ""
        codes = (inner.get(name) for name in ("type", "code", "status", "status_code"))
        size = inner.get("n_prompt_tokens"), inner.get("n_ctx")
        return cls(str(message)[:500], " ".join(str(c) for c in codes if c), size)


def _too_long(told: _Told) -> PromptTooLong:
    """With the two numbers that most vendors name: the larger is the prompt's."""
    tokens, window = told.numbers
    if tokens is None:
        found = sorted({int(n.replace(",", "")) for n in NUMBER.findall(told.message)})
        if len(found) >= 2:
            window, tokens = found[0], found[-1]
    return PromptTooLong(tokens=tokens, window=window)


def retry_after(headers: Mapping[str, str], told: Any = None) -> float | None:
    """Seconds to wait, as a header or Google's RetryInfo says; None where nobody says."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value and (seconds := _number(value)) is not None:
            return min(max(seconds * unit, 0.0), MOST_WAIT_S)
    if value := headers.get("retry-after"):
        return _until(value, headers.get("date"))
    found = re.search(r"'retryDelay': '([^']+)'", str(told)) if told else None
    return _span(found[1]) if found else None


def allowances(headers: Mapping[str, str]) -> Iterator[Allowance]:
    """The limits that the reply's headers tell, in OpenAI's or in Anthropic's spelling."""
    told: dict[str, dict[str, str]] = {}
    for name, value in headers.items():
        if found := RATE_HEADER.fullmatch(name.lower()):
            part = found["part"] or found["last"]
            told.setdefault((found["what"] or found["first"]).replace("-", "_"), {})[part] = value
    for what, parts in told.items():
        kind = WHAT.get(what)
        if kind is not None:
            yield Allowance(
                what=kind,
                limit=_whole(parts.get("limit")),
                remaining=_whole(parts.get("remaining")),
                reset_s=_reset(parts.get("reset"), headers.get("date")),
            )


What = Literal["requests", "tokens", "prompt_tokens", "completion_tokens"]
WHAT: dict[str, What] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
}
RATE_HEADER = re.compile(
    r"x-ratelimit-(?P<part>limit|remaining|reset)-(?P<what>requests|tokens)"
    r"|anthropic-ratelimit-(?P<first>requests|tokens|input-tokens|output-tokens)"
    r"-(?P<last>limit|remaining|reset)"
)


def _reset(value: str | None, now: str | None) -> float | None:
    """A span ("6m0s", "1.5") or a moment (RFC 3339), in seconds from now."""
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        seconds = _span(value) if SPAN.match(value) else _until(value, now)
    return None if seconds is None else max(seconds, 0.0)


def _span(value: str) -> float | None:
    parts = SPAN.findall(value)
    return sum(float(n) * SECONDS[unit] for n, unit in parts) if parts else None


def _until(value: str, now: str | None) -> float | None:
    """From the reply's own date, so that this machine's clock does not matter."""
    try:
        end = _moment(value)
        begin = _moment(now) if now else datetime.now(UTC)
    except ValueError:
        return None
    return min(max((end - begin).total_seconds(), 0.0), MOST_WAIT_S)


def _moment(value: str) -> datetime:
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        when = datetime.fromisoformat(value)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: str | None) -> int | None:
    number = None if value is None else _number(value)
    return None if number is None else int(number)
