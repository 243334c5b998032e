"""What providers say about their limits: how long to wait, and how much is left."""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from ...subsystems.llm.driver import Allowance

SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Units of time in rate headers, such as 6m0s."""

MOST_WAIT_S = 86_400.0
"""A Retry-After beyond a day is taken for one of a day."""


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
