"""What can go wrong with a request, found out once for every driver that speaks HTTP."""

from collections.abc import Mapping
from typing import Any, Literal

import httpx
from pydantic_core import from_json

FaultKind = Literal[
    "connect", "timeout", "cut", "status", "no_api", "proxy", "missing", "key", "region"
]
"""No connection, silence, a broken reply, a status, no API, a proxy that refuses; and before any
request: no library, no key, no such region."""

NOT_THERE = (400, 404, 405, 406)
"""With these a page is a web server's word; with others it is a gateway's before an API."""


class Fault(Exception):
    """A request failed. `phase` is a timeout's: "connect", "first_byte" or "stream".

    Of an error status, `told` is the body, parsed where it is JSON, and `headers` are its own.
    """

    def __init__(
        self,
        kind: FaultKind,
        reason: str,
        *,
        phase: str = "",
        status: int = 0,
        told: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind, self.phase, self.status, self.told = kind, phase, status, told
        self.headers = headers or {}


def is_lost(error: httpx.TransportError) -> bool:
    """Whether the connection was gone before the server said anything."""
    if isinstance(error, httpx.RemoteProtocolError):
        # What was said and could not be understood has the parser's error behind it.
        return error.__cause__ is None or error.__cause__.__context__ is None
    return isinstance(error, httpx.ReadError | httpx.WriteError)


def unsent(error: httpx.TransportError, base_url: str) -> Fault:
    """Why there is no reply."""
    match error:
        case httpx.ConnectTimeout():
            return Fault("timeout", f"no connection to {base_url} in time", phase="connect")
        case httpx.TimeoutException():
            return Fault("timeout", f"{base_url} was silent for too long", phase="first_byte")
        case httpx.ProxyError():
            return Fault("proxy", f"the proxy to {base_url} refuses: {error}")
        case httpx.ConnectError():
            return Fault("connect", f"no connection to {base_url}: {error}")
    return Fault("cut", f"{base_url} closed the connection before it replied: {_said(error)}")


def broken(error: httpx.RequestError) -> Fault:
    """Why a reply is not whole."""
    if isinstance(error, httpx.TimeoutException):
        return Fault("timeout", "the reply stopped, and nothing came any more", phase="stream")
    return Fault("cut", f"the connection broke within the reply: {_said(error)}")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def refusal(response: httpx.Response, body: bytes) -> Fault:
    """What a status that is no success says."""
    status = response.status_code
    if status < 400:
        target = response.headers.get("location", "another address")
        return Fault("no_api", f"{response.url} redirects to {target}: set base_url to that")
    is_page = _is_page(response, body)
    if is_page and status in NOT_THERE:
        return no_api(response, body)
    try:
        told = from_json(body)
    except ValueError:
        told = _sample(body) if is_page else body.decode(errors="replace").strip()
    reason = f"HTTP {status} from {response.url}"
    return Fault("status", reason, status=status, told=told, headers=response.headers)


def parsed(response: httpx.Response, body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError as error:
        raise no_api(response, body) from error


def parsed_part(payload: bytes) -> Any:
    try:
        return from_json(payload)
    except ValueError as error:
        sample = payload[:80].decode(errors="replace")
        raise Fault("cut", f"a part of the reply is no JSON: {sample!r}") from error


def no_api(response: httpx.Response, body: bytes) -> Fault:
    return Fault(
        "no_api",
        f"{response.url} answers {response.status_code} {kind_of(response) or 'without a type'}, "
        f"which is no API's reply: {_sample(body)!r}; look at base_url",
        status=response.status_code,
    )


def _sample(page: bytes) -> str:
    return " ".join(page[:200].decode(errors="replace").split())


def _is_page(response: httpx.Response, body: bytes) -> bool:
    return kind_of(response) == "text/html" or body.lstrip()[:1] == b"<"


def kind_of(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()
