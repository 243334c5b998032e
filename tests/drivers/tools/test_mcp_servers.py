"""Agents with MCP servers that nobody here wrote."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import pytest
from mcp_servers import node_server, python_server
from system import scripted_kernel

from aoskernel import Kernel, assistant, spawn
from aoskernel.drivers.llm.scripted import call
from aoskernel.subsystems.llm.messages import ChatMessage, Complete
from aoskernel.subsystems.policy.messages import NeedsApproval
from aoskernel.subsystems.tools.messages import (
    CallTool,
    FindTools,
    GetPrompt,
    ListPrompts,
    ToolAway,
    ToolFailed,
    ToolProgressed,
    ToolsetUp,
)

EVERYTHING = "@modelcontextprotocol/server-everything/dist/index.js"
FILES = "@modelcontextprotocol/server-filesystem/dist/index.js"
MEMORY = "@modelcontextprotocol/server-memory/dist/index.js"
PLAYWRIGHT = "@playwright/mcp/cli.js"
CHROMIUM = shutil.which("chromium")


class Plan:
    """What a scripted model does: one call after another, then it repeats what it has read."""

    def __init__(self, *calls: Any) -> None:
        self._calls = list(calls)

    def __call__(self, ask: Complete) -> Any:
        if self._calls:
            return self._calls.pop(0)
        return "\n".join(m.text for m in ask.messages if m.role == "tool")


@asynccontextmanager
async def agent(plan: Plan, **tables: Any) -> AsyncIterator[tuple[Kernel, str]]:
    """A kernel whose agent has carried out the plan, and what it has read."""
    with anyio.fail_after(120):
        async with scripted_kernel(plan, **tables) as kernel:
            yield kernel, await (await spawn(kernel, assistant(task="Do it.")))


async def called(kernel: Kernel, name: str, **arguments: Any) -> Any:
    with anyio.fail_after(60):
        (tool,) = await kernel.request(FindTools(names=(name,)))
        return await kernel.request(CallTool(name=name, arguments=arguments), to=tool.address)


# From PyPI


async def test_an_agent_tells_the_time() -> None:
    plan = Plan(call("get_current_time", timezone="Asia/Shanghai"))
    async with agent(plan, **{"tools.time": python_server("mcp-server-time")}) as (_, told):
        assert "Asia/Shanghai" in told
        assert "+08:00" in told


async def test_a_tool_whose_touches_are_configured_may_work_in_the_workspace(
    tmp_path: Path,
) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    for folder in (work, other):
        folder.mkdir()
        commit(folder, "first")
    git = {
        **python_server("mcp-server-git"),
        "effects": {"git_status": "none"},
        "touches": {
            "git_status": {"repo_path": "path:read"},
            "git_create_branch": {"repo_path": "path:write"},
        },
    }
    policy = {"mode": "standard", "workspace": str(work)}
    async with scripted_kernel(None, **{"tools.git": git, "policy": policy}) as kernel:
        assert "clean" in await called(kernel, "git_status", repo_path=str(work))
        made = await called(kernel, "git_create_branch", repo_path=str(work), branch_name="b")
        assert "Created branch 'b'" in made
        for name in ("git_status", "git_create_branch"):
            with pytest.raises(NeedsApproval, match=r"standard\.ask tools\.call:\* \(outside \.\)"):
                await called(kernel, name, repo_path=f"{work}/../other", branch_name="b")
        with pytest.raises(NeedsApproval, match="standard: nothing else decides"):
            await called(kernel, "git_commit", repo_path=str(work), message="unasked")


def commit(folder: Path, message: str) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True, timeout=20)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True, timeout=20)


async def test_an_agent_reads_a_repository(tmp_path: Path) -> None:
    commit(tmp_path, "Plant a tree")
    server = python_server("mcp-server-git", "--repository", str(tmp_path))
    plan = Plan(call("git_log", repo_path=str(tmp_path)))
    async with agent(plan, **{"tools.git": {**server, "trust_hints": True}}) as (kernel, told):
        assert "Plant a tree" in told
        with pytest.raises(ToolFailed):
            await called(kernel, "git_log", repo_path="/")


# From npm


@pytest.mark.node
@pytest.mark.slow
async def test_an_agent_writes_and_reads_files(tmp_path: Path) -> None:
    note = str(tmp_path / "note.txt")
    plan = Plan(
        call("fs_write_file", path=note, content="tea on Friday"),
        call("fs_read_text_file", path=note),
    )
    server = node_server(FILES, str(tmp_path))
    async with agent(plan, **{"tools.fs": {**server, "prefix": "fs_"}}) as (kernel, told):
        assert "tea on Friday" in told
        with pytest.raises(ToolFailed, match="outside allowed directories"):
            await called(kernel, "fs_read_text_file", path="/etc/passwd")


@pytest.mark.node
@pytest.mark.model
@pytest.mark.slow
async def test_the_real_model_answers_from_a_file_in_a_fixed_order(tmp_path: Path) -> None:
    from pydantic import BaseModel

    from aoskernel import Process, program

    class Day(BaseModel):
        day: str

    @program
    async def reader(self: Process, path: str) -> str:
        read = await self.call("fs_read_text_file", path=path)
        text = read["content"] if isinstance(read, dict) else read
        answer = await self.think(f"{text}\nOn which day is the party?", schema=Day, max_tokens=40)
        return answer.day

    note = tmp_path / "note.txt"
    note.write_text("The party is on Friday.")
    server = {**node_server(FILES, str(tmp_path)), "prefix": "fs_", "trust_hints": True}
    tables: dict[str, Any] = {
        "storage": {"driver": "memory"},
        "memory": {"use": "memory_by_words"},
        "policy": {"allow": ("llm.complete:*", "tools.call:fs_*")},
        "tools.fs": server,
    }
    with anyio.fail_after(240):
        async with Kernel.from_config(services=tables) as kernel:
            assert "Friday" in await (await spawn(kernel, reader(path=str(note))))


@pytest.mark.node
@pytest.mark.slow
async def test_an_agent_remembers_in_a_graph(tmp_path: Path) -> None:
    who = {"name": "Ada", "entityType": "person", "observations": ["likes tea"]}
    plan = Plan(call("create_entities", entities=[who]), call("read_graph"))
    server = {**node_server(MEMORY), "env": {"MEMORY_FILE_PATH": str(tmp_path / "graph.jsonl")}}
    async with agent(plan, **{"tools.graph": server}) as (_, told):
        assert "likes tea" in told


async def everything(server: dict[str, Any]) -> None:
    """What it is there for: all that a client can do."""
    plan = Plan(call("ev_echo", message="hello"), call("ev_get-sum", a=2, b=3))
    table = {**server, "prefix": "ev_", "resources": True}
    async with agent(plan, **{"tools.ev": table}) as (kernel, told):
        assert "Echo: hello" in told
        assert "5" in told
        weather = await called(kernel, "ev_get-structured-content", location="Chicago")
        assert weather["temperature"] == 36
        picture = await called(kernel, "ev_get-tiny-image")
        assert {"image/png"} == {p["mime_type"] for p in picture if isinstance(p, dict)}
        listed = await called(kernel, "ev_list_resources")
        assert await called(kernel, "ev_read_resource", uri=listed[0]["uri"])
        prompts = {p.name for p in await kernel.request(ListPrompts(), to="tools.ev")}
        assert "args-prompt" in prompts
        filled = GetPrompt(name="args-prompt", arguments={"city": "Oslo"})
        (message,) = await kernel.request(filled, to="tools.ev")
        assert message == ChatMessage(role="user", text=message.text)
        assert "Oslo" in message.text
        async with kernel.listen("tools.progressed") as events:
            await called(kernel, "ev_trigger-long-running-operation", duration=0.2, steps=2)
            with anyio.fail_after(20):
                told_of = await anext(aiter(events))
        assert isinstance(told_of, ToolProgressed)


@pytest.mark.node
@pytest.mark.slow
async def test_everything_over_pipes() -> None:
    await everything(node_server(EVERYTHING, "stdio"))


@pytest.mark.node
@pytest.mark.slow
async def test_everything_from_a_file_of_another_client(tmp_path: Path) -> None:
    command = node_server(EVERYTHING, "stdio")["command"]
    entry = {"command": command[0], "args": command[1:]}
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {"ev": entry}}))
    table = {"driver": "mcp_json", "file": str(tmp_path / ".mcp.json")}
    async with agent(Plan(call("ev_echo", message="hello")), **{"tools.all": table}) as (
        kernel,
        told,
    ):
        assert "Echo: hello" in told
        prompts = await kernel.request(ListPrompts(), to="tools.all")
        assert "ev_simple-prompt" in {prompt.name for prompt in prompts}
        filled = await kernel.request(GetPrompt(name="ev_simple-prompt"), to="tools.all")
        assert filled[0].role == "user"


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "path"), [("streamableHttp", "mcp"), ("sse", "sse")])
async def test_everything_over_http(kind: str, path: str) -> None:
    port = free_port()
    with listening(kind, port):
        url = f"http://127.0.0.1:{port}/{path}"
        transport = "sse" if kind == "sse" else "http"
        await everything({"driver": "mcp", "url": url, "transport": transport})


@pytest.mark.node
@pytest.mark.slow
async def test_a_server_at_a_url_that_dies_is_found_again() -> None:
    port = free_port()
    table = {"driver": "mcp", "url": f"http://127.0.0.1:{port}/mcp", "longest_restart_s": 0.2}
    with anyio.fail_after(60), ExitStack() as first:
        first.enter_context(listening("streamableHttp", port))
        async with scripted_kernel(**{"tools.ev": table}) as kernel, kernel.listen("tools.*") as it:
            assert await called(kernel, "echo", message="one") == "Echo: one"
            first.close()
            with pytest.raises(ToolAway, match="refuses"):
                await called(kernel, "echo", message="two")
            with listening("streamableHttp", port):
                async for event in it:
                    if isinstance(event, ToolsetUp):
                        break
                assert await called(kernel, "echo", message="three") == "Echo: three"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def listening(kind: str, port: int) -> Iterator[None]:
    command = node_server(EVERYTHING, kind)["command"]
    env = {"PORT": str(port), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as it:
        try:
            assert it.stdout is not None
            line = b""
            while not re.search(rb"listening|running|port", line, re.IGNORECASE):
                line = it.stdout.readline()
                assert line, "the server did not start"
            yield
        finally:
            it.kill()


@pytest.mark.node
@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; .ci/chromium does")
async def test_an_agent_reads_a_page_in_a_browser(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<title>Tea</title><h1>Tea is served on Friday</h1>")
    with pages(tmp_path) as url:
        plan = Plan(call("browser_navigate", url=url), call("browser_snapshot"))
        options = ["--headless", "--no-sandbox", "--isolated", "--executable-path", str(CHROMIUM)]
        server = {**node_server(PLAYWRIGHT, *options), "cwd": str(tmp_path)}
        async with agent(plan, **{"tools.browser": server}) as (kernel, told):
            await called(kernel, "browser_close")
    assert "Tea is served on Friday" in told


@contextmanager
def pages(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(folder))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
