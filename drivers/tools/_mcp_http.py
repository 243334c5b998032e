"""HTTP to an MCP server, so that what surely was not done is told from what may have been."""

import json
from typing import Any

import httpx2

NOT_SENT, REFUSED = -31901, -31902
"""Codes of our own, in place of the answers that never came."""
REFUSALS = {401, 403, 405, 406, 413, 415, 429}
"""Statuses of a request that was not carried out."""


class HttpClient(httpx2.AsyncClient):
    """The SDK gives up a connection, with all that is under way on it, where one request could
    not be sent, and forgets the status of one that was refused. Here both are answers, to
    that request alone.
    """

    async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        try:
            response = await super().send(request, **how)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            if request.method != "POST":
                raise
            told = f"{_place(request)} refuses: {error or type(error).__name__}"
            return _answer(request, 503, NOT_SENT, told)
        is_json = response.headers.get("content-type", "").startswith("application/json")
        if request.method != "POST" or response.status_code not in REFUSALS or is_json:
            return response
        await response.aclose()
        told = f"{_place(request)} refuses with HTTP {response.status_code}"
        return _answer(request, response.status_code, REFUSED, told)


def _place(request: httpx2.Request) -> str:
    return str(request.url.copy_with(userinfo=b"", query=None))


def _answer(request: httpx2.Request, status: int, code: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    headers = {"content-type": "application/json"}
    return httpx2.Response(
        status, headers=headers, content=json.dumps(body).encode(), request=request
    )
