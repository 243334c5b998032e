"""What a provider's refusal means: one translation for every wire and vendor.

Vendors agree on the status, not on the body. The body is looked at only for what the status
does not say: a prompt that is too long, content that is refused, an account without money.
"""

import re
from collections.abc import Mapping
from typing import Any

from ...subsystems.llm.driver import (
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
    Trouble,
    Unauthorized,
)
from .._http import Fault
from ._rates import allowances, retry_after

TOO_LONG = re.compile(
    r"context.?length|context.?window|context.?size|prompt is too long|maximum context"
    r"|input length|model token limit|too many (input )?tokens|max.*tokens.*exceed",
    re.IGNORECASE,
)
NO_FUNDS = re.compile(
    r"insufficient.?(quota|balance|funds|credit)|exceeded_current_quota|credit balance|arrearage|api usage limits"
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
OVER = re.compile(r"(\d+)(?: \+ (\d+)| tokens)? > (\d+)")
"""Anthropic's arithmetic: 210000 tokens > 200000 maximum, 190000 + 20000 > 200000."""
LIMIT = re.compile(r"maximum context length is (\d+)")
"""Beside it vLLM tells three numbers: of all, of the messages, of the reply."""
CODE_IN_MESSAGE = re.compile(r"\((\d{4})\)")
NUMBER = re.compile(r"\b\d[\d,]{2,}\b")

NO_CODES: Mapping[str, Trouble] = {}


def translated(
    fault: Fault, *, title: str, key: str, model: str, codes: Mapping[str, Trouble] = NO_CODES
) -> ModelError:
    """The fault as an error of ours; `key` names the variable that the API key came from.

    `codes` are the vendor's own, for what the status does not say.
    """
    match fault.kind:
        case "status":
            return _of_status(fault, title=title, key=key, model=model, codes=codes)
        case "timeout":
            return ModelTimeout(f"{title}: {fault}", phase=fault.phase)
        case "cut":
            return CutReply(f"{title}: {fault}")
        case "no_api":
            return NoApi(f"{title}: {fault}")
        case "missing":
            return ModelMissing(f"{title}: {fault}")
        case "key":
            return Unauthorized(str(fault))
        case "region":
            return ModelMissing(str(fault))
        case _:
            return ModelUnavailable(f"{title}: {fault}")


def _of_status(
    fault: Fault, *, title: str, key: str, model: str, codes: Mapping[str, Trouble]
) -> ModelError:
    told = _Told.of(fault.told)
    says = f"{title} says {fault.status}: {told.message or fault}"
    match _by_code(told, codes) or _by_status(fault.status, told):
        case "funds":
            return OutOfFunds(says)
        case "key":
            return Unauthorized(f"{says}; the key is read from {key or 'api_key'}")
        case "rate":
            return RateLimited(
                says,
                retry_after_s=retry_after(fault.headers, fault.told),
                allowances=tuple(allowances(fault.headers)),
            )
        case "timeout":
            return ModelTimeout(says, phase="first_byte")
        case "busy":
            return ModelUnavailable(says)
        case "too_long":
            return _too_long(told)
        case "content":
            return ContentRefused(says)
        case "model":
            return ModelMissing(f"{says}; the model asked for is {model!r}")
        case "prompt":
            return BadPrompt(says)


def _by_code(told: "_Told", codes: Mapping[str, Trouble]) -> Trouble | None:
    """What the vendor's own code means; some put it in the message, as in "balance (1008)"."""
    given = (*told.code.split(), *CODE_IN_MESSAGE.findall(told.message))
    return next((codes[code] for code in given if code in codes), None)


def _by_status(status: int, told: "_Told") -> Trouble:
    about = f"{told.code} {told.message}"
    if status == 402 or NO_FUNDS.search(about):
        return "funds"
    if status == 401 or (status == 403 and not CONTENT.search(about)):
        return "key"
    if status == 429:
        return "rate"
    if status in (408, 504):
        return "timeout"
    if status >= 500:
        return "busy"
    if TOO_LONG.search(about):
        return "too_long"
    if CONTENT.search(about):
        return "content"
    if status == 404 or NO_MODEL.search(about):
        return "model"
    return "prompt"


def within(payload: Any) -> Fault | None:
    """The error that a payload of a good status holds, if it holds one."""
    if not isinstance(payload, Mapping):
        return Fault("cut", f"a part of the reply is no object: {str(payload)[:80]!r}")
    told = payload.get("error")
    base = payload.get("base_resp") or {}
    if not told and base.get("status_code"):
        status = base["status_code"]
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
    "too_large": 413,
    "invalid": 400,
    "exceed_context_size": 400,
    "context_length": 400,
    "content_filter": 400,
}


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
        codes = [inner.get(name) for name in ("type", "code", "status", "status_code")]
        codes += _reasons(inner.get("details"))
        size = inner.get("n_prompt_tokens"), inner.get("n_ctx")
        return cls(str(message)[:500], " ".join(str(c) for c in codes if c), size)


def _reasons(details: Any) -> list[Any]:
    """What Google calls an error where its own code is too general."""
    parts = details if isinstance(details, list) else []
    return [part.get("reason") for part in parts if isinstance(part, Mapping)]


def _too_long(told: _Told) -> PromptTooLong:
    """With the two numbers that most vendors name: the larger is the prompt's."""
    tokens, window = told.numbers
    if tokens is None and (over := OVER.search(told.message)):
        tokens, window = int(over[1]) + int(over[2] or 0), int(over[3])
    elif tokens is None:
        found = sorted({int(n.replace(",", "")) for n in NUMBER.findall(told.message)})
        if len(found) >= 2:
            window, tokens = found[0], found[-1]
        if tokens and (limit := LIMIT.search(told.message)):
            window = int(limit[1])
    return PromptTooLong(tokens=tokens, window=window)
