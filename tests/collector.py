"""A collector of spans: takes OTLP over HTTP as it comes, and decodes it."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What was sent, and with which headers."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.address = ""

    @property
    def spans(self) -> list[Span]:
        found = []
        for body in self.bodies:
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    found += scope.spans
        return found

    def tree(self) -> list[str]:
        """A line for each span, two spaces deeper than its parent's, as they began."""
        spans = sorted(self.spans, key=lambda span: span.start_time_unix_nano)
        known = {span.span_id for span in spans}
        roots = [span for span in spans if span.parent_span_id not in known]
        return [line for root in roots for line in _lines(root, spans, 0)]


def _lines(span: Span, spans: list[Span], depth: int) -> Iterator[str]:
    yield "  " * depth + span.name
    for other in spans:
        if other.parent_span_id == span.span_id and other.trace_id == span.trace_id:
            yield from _lines(other, spans, depth + 1)


def attributes(span: Span) -> dict[str, Any]:
    """Its attributes, each of its own type."""
    return {one.key: _value(one.value) for one in span.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    """One that listens, and answers so."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers.get("content-encoding") == "gzip"
            collector.bodies.append(gzip.decompress(body) if packed else body)
            collector.headers.append({k.lower(): v for k, v in self.headers.items()})
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.address = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
