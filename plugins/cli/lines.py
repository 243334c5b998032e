"""Lines of a daemon's log: keys and values for people, or a JSON object each."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from ...kernel.call import here
from ...kernel.log import Line
from ...kernel.secrets import redacted
from ...subsystems.processes.messages import Origin
from . import output

_encoded = json.JSONEncoder(ensure_ascii=False, default=str).encode
FOR_MACHINES = ("trace", "span", "origin")
"""What people are not told of a fact; it says whose it is anyway."""


class Text(logging.Formatter):
    """Keys and values, like the kernel's own lines, which it completes."""

    def format(self, record: logging.LogRecord) -> str:
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        return redacted(
            f"time={at}.{record.msecs:03.0f} level={record.levelname.lower()} {self._said(record)}"
        )

    def _said(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, Line):
            brief = record.levelno < logging.WARNING
            hidden = FOR_MACHINES if brief else ()
            return str(Line({key: v for key, v in record.msg.items() if key not in hidden}))
        said = f"event=log logger={record.name} message={output.quoted(record.getMessage())}"
        if record.exc_info:
            said += f" exception={output.quoted(self.formatException(record.exc_info))}"
        return said


class Json(logging.Formatter):
    """An object each: what was said, where, by whom, and for which process."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            **_place(),
            **self._said(record),
        }
        return redacted(_encoded(line))

    def _said(self, record: logging.LogRecord) -> Mapping[str, Any]:
        if isinstance(record.msg, Line):
            return {key: value for key, value in record.msg.items() if key != "origin"}
        said = {"event": "log", "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return said


def _place() -> dict[str, Any]:
    """Under which envelope this is said, and of which process."""
    envelope = here()
    if envelope is None:
        return {}
    place: dict[str, Any] = {
        "service": getattr(envelope, "address", envelope.sender),
        "trace": envelope.trace_id,
        "span": envelope.span_id,
    }
    origin = envelope.origin
    if isinstance(origin, Origin) and origin.pid is not None:
        place |= {"pid": origin.pid, "program": origin.program}
        if origin.key:
            place["key"] = origin.key
    return place


FORMATS: dict[Literal["text", "json"], type[logging.Formatter]] = {"text": Text, "json": Json}


def to_stderr(level: int, form: Literal["text", "json"]) -> None:
    """Of all loggers warnings, of the kernel's from this level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    root = logging.getLogger()
    root.handlers = [handler]
    logging.getLogger("aoskernel").setLevel(level)
