"""Logs: facts with keys, carrying the envelope they happened under.

Lines go to the standard library's logger "aoskernel", which an application configures as it
likes; nothing is configured here, so by default only warnings show.
"""

import logging
from typing import Any

import structlog

from .call import here
from .secrets import redacted


def _carry_envelope(_logger: Any, _method: str, line: Any) -> Any:
    envelope = here()
    if envelope is not None:
        line.setdefault("trace", envelope.trace_id)
        line.setdefault("span", envelope.span_id)
        if envelope.origin is not None:
            line.setdefault("origin", str(envelope.origin))
    return line


class Line(dict[str, Any]):
    """What a line says, for a handler that wants it as data; as text, keys and values."""

    def __str__(self) -> str:
        return redacted(str(_as_text(None, "", dict(self))))


_as_text = structlog.processors.LogfmtRenderer(key_order=["event"], bool_as_flag=False)


def _as_line(_logger: Any, _method: str, line: Any) -> Any:
    return (Line(line),), {}


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("aoskernel"),
    processors=[
        structlog.stdlib.filter_by_level,
        _carry_envelope,
        structlog.processors.format_exc_info,
        _as_line,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
