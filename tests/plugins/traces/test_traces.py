"""An agent's run as a tree of spans, at a collector that decodes what a real exporter sends."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from collector import attributes, collecting
from daemons import configure, leave, lines, up
from errands import Count
from hypothesis import given
from hypothesis import strategies as st
from one_storage import OneStorage
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from system import System

from aoskernel import ConfigError, Process, ProcessFailed, assistant, program, spawn, tool
from aoskernel.drivers.llm.scripted import call
from aoskernel.plugins.traces.outbox import MOST, Outbox
from aoskernel.plugins.traces.places import Place
from aoskernel.subsystems.llm.driver import Unauthorized
from aoskernel.subsystems.processes.messages import Send, Wait
from aoskernel.subsystems.storage.messages import Lineage, Pid
from aoskernel.subsystems.tools.messages import ToolFailed


class Kept(SpanExporter):
    """Keeps spans, or cannot take them."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.spans: list[ReadableSpan] = []
        self.result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return self.result

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    @property
    def traces(self) -> set[int]:
        return {span.context.trace_id for span in self.spans if span.context}


@tool(effect="none")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="none")
def jam() -> None:
    """Fail."""
    raise ToolFailed("the secret paper is jammed")


TOOLS = {"driver": "python", "functions": [add, jam]}


def script(ask: Any) -> Any:
    last = ask.messages[-1]
    if last.text == "be ill":
        raise Unauthorized("the secret model is ill")
    return f"it is {last.text}" if last.role == "tool" else call("add", a=1, b=2)


@program
async def boss(self: Process) -> str:
    return await (await self.spawn(assistant(task="1 + 2?")))


@program
async def patient(self: Process) -> None:
    try:
        await self.call("jam")
    except ToolFailed:
        await self.think("be ill")


@program
async def correspondent(self: Process) -> str:
    await self.note("one")
    child = await self.spawn(assistant(task="1 + 2?"))
    await self.wait(child)
    return str(await self.receive())


def sending(system: System, exporter: SpanExporter, **more: Any) -> Any:
    traces = {"exporter": exporter, **more}
    return system(script, **{"traces": traces, "tools.sums": TOOLS})


async def test_a_run_reads_as_process_step_syscall_attempt(system: System) -> None:
    with collecting() as collector, anyio.fail_after(20):
        traces = {"endpoint": collector.address}
        async with system(script, **{"traces": traces, "tools.sums": TOOLS}) as kernel:
            await (await spawn(kernel, assistant(task="1 + 2?")))
    assert collector.tree() == [
        "invoke_agent assistant",
        "  step 0",
        "    note",
        "    think",
        "      chat scripted",
        "    call",
        "      execute_tool add",
        "  step 1",
        "    think",
        "      chat scripted",
    ]
    assert len({span.trace_id for span in collector.spans}) == 1
    chat = next(span for span in collector.spans if span.name == "chat scripted")
    told = attributes(chat)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.response.model"] == "scripted"
    assert told["gen_ai.usage.input_tokens"] > 0
    assert told["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert chat.kind == chat.SPAN_KIND_CLIENT
    (root,) = [span for span in collector.spans if not span.parent_span_id]
    assert attributes(root)["gen_ai.agent.name"] == "assistant"
    assert all(root.start_time_unix_nano <= s.start_time_unix_nano for s in collector.spans)
    assert all(root.end_time_unix_nano >= s.end_time_unix_nano for s in collector.spans)


async def test_a_childs_run_stands_in_its_parents_trace(system: System) -> None:
    kept = Kept()
    with anyio.fail_after(20):
        async with sending(system, kept) as kernel:
            await (await spawn(kernel, boss()))
    parent, child = kept.named("invoke_agent boss"), kept.named("invoke_agent assistant")
    assert len(kept.traces) == 1
    assert child.parent is not None
    assert parent.context is not None
    assert child.parent.span_id == parent.context.span_id
    assert parent.parent is None


async def test_a_run_that_another_kernel_ends_is_one_tree() -> None:
    with collecting() as collector, anyio.fail_after(20):
        storage = OneStorage()
        tables: dict[str, Any] = {"traces": {"endpoint": collector.address}, "tools.sums": TOOLS}
        async with storage.kernel(script, **tables) as first:
            agent = await spawn(first, correspondent())
            async with first.listen("process.exited") as exits:
                async for _ in exits:  # the child's
                    break
        async with storage.kernel(script, **tables) as second:
            second_run = await spawn(second, correspondent())
            await second.request(Send(to=agent.pid, body="hello"))
            await second.request(Wait(pid=agent.pid))
            await second_run.kill("KILL")
    (trace,) = {s.trace_id for s in collector.spans if attributes(s).get("aosk.key") == "0:3"}
    ours = [span for span in collector.spans if span.trace_id == trace]
    names = [span.name for span in ours]
    assert names.count("invoke_agent correspondent") == names.count("receive") == 1
    assert len({span.span_id for span in ours}) == len(ours)
    known = {span.span_id for span in ours}
    assert [s.name for s in ours if s.parent_span_id not in known] == ["invoke_agent correspondent"]
    assert names.count("note") == 2  # its own of the first life, and its child's


@pytest.mark.slow
def test_a_run_whose_kernel_was_killed_is_one_tree(server_folder: Path, tmp_path: Path) -> None:
    config, file = configure(tmp_path, server_folder), tmp_path / "lines"
    with collecting() as collector:
        traces = f'[services.traces]\nendpoint = "{collector.address}"\n'
        config.write_text(f"{config.read_text()}\n{traces}")
        (pid,) = leave(config, Count(to=40, file=str(file)))
        with up(config) as first:
            lines(file, least=20)
            deadline = time.monotonic() + 30
            while not collector.spans:
                assert time.monotonic() < deadline
            first.send(signal.SIGKILL)
        with up(config) as second:
            second.logs(f"process.exited pid={pid}")
            second.send(signal.SIGTERM)
            assert second.ended() == 0
        spans = collector.spans
    assert len({span.trace_id for span in spans}) == 1
    assert len({span.span_id for span in spans}) == len(spans)
    assert [s.name for s in spans if not s.parent_span_id] == ["invoke_agent count"]
    names = {span.name for span in spans}
    assert {"step 0", "step 39"} <= names  # of the first life, and of the second
    (root,) = [span for span in spans if not span.parent_span_id]
    assert root.start_time_unix_nano <= min(span.start_time_unix_nano for span in spans)


async def test_what_fails_is_marked_and_says_nothing_but_the_errors_class(system: System) -> None:
    kept = Kept()
    with anyio.fail_after(20):
        async with sending(system, kept) as kernel:
            with pytest.raises(ProcessFailed):
                await (await spawn(kernel, patient()))
    for name in ("invoke_agent patient", "step 0", "call", "think", "chat scripted"):
        assert not kept.named(name).status.is_ok, name
    chat, jammed = kept.named("chat scripted"), kept.named("execute_tool jam")
    assert dict(chat.attributes or {})["error.type"] == "Unauthorized"
    assert dict(jammed.attributes or {})["error.type"] == "ToolFailed"
    assert "secret" not in "".join(span.to_json() for span in kept.spans)


# How much is sent


@given(root=st.integers(1, 2**62), born=st.floats(0, 4e9), pids=st.sets(st.integers(1, 2**62)))
def test_all_processes_of_a_trace_are_sampled_alike(root: int, born: float, pids: set[int]) -> None:
    line = [
        Place(Lineage(pid=Pid(p), born=born, parent=Pid(root), root=Pid(root), root_born=born))
        for p in pids
    ]
    assert len({place.trace for place in line}) <= 1
    assert len({place.is_sampled(0.5) for place in line}) <= 1
    assert all(place.is_sampled(1.0) and not place.is_sampled(0.0) for place in line)
    assert all(0 < place.trace < 1 << 128 for place in line)


async def test_of_a_trace_that_is_not_sampled_nothing_is_sent(system: System) -> None:
    kept = Kept()
    with anyio.fail_after(20):
        async with sending(system, kept, sample=0.0) as kernel:
            await (await spawn(kernel, boss()))
    assert kept.spans == []


def test_a_sample_is_a_part(system: System) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1, not 2"):
        system(traces={"exporter": Kept(), "sample": 2.0})


async def test_a_collector_that_is_away_holds_up_nobody(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    with anyio.fail_after(20):
        async with sending(system, Kept(SpanExportResult.FAILURE)) as kernel:
            assert await (await spawn(kernel, assistant(task="1 + 2?"))) == "it is 3"
    assert "event=traces.not_sent spans=10 dropped=10" in caplog.text


async def test_spans_that_nobody_takes_are_bounded_and_counted() -> None:
    outbox = Outbox(Kept())
    for number in range(MOST + 1):
        outbox.put(ReadableSpan(f"span {number}", resource=Resource({})))
    assert outbox.dropped > 0


async def test_authorization_is_sent_and_nowhere_else(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOSKERNEL__SERVICES__TRACES__AUTHORIZATION", "Bearer of-bad-news")
    with collecting() as collector, anyio.fail_after(20):
        traces = {"endpoint": collector.address}
        async with system(script, **{"traces": traces, "tools.sums": TOOLS}) as kernel:
            await (await spawn(kernel, assistant(task="1 + 2?")))
    assert {headers["authorization"] for headers in collector.headers} == {"Bearer of-bad-news"}
    assert b"of-bad-news" not in b"".join(collector.bodies)
