"""What the official conformance suite runs: a kernel with its server as a toolset.

The suite appends the server's URL, and tells scenario and context in the environment. Every tool
that is offered is called once, with the arguments that the context names or its schema suggests.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio

from aoskernel import Kernel
from aoskernel.drivers.tools.mcp import Mcp
from aoskernel.subsystems.tools.messages import (
    CallTool,
    ListTools,
    Tool,
    ToolAsks,
    ToolError,
)
from aoskernel.subsystems.tools.service import Toolbox, Toolset

SCENARIO = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
CONTEXT: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
BROWSER = (sys.executable, str(Path(__file__).with_name("browser.py")))
METADATA = "https://conformance-test.local/client-metadata.json"
SAMPLES = {"integer": 5, "number": 5, "boolean": True, "string": "text", "array": [], "object": {}}


def driver(url: str) -> Mcp:
    options: dict[str, Any] = {"asks": True, "call_s": 20, "start_s": 20}
    if SCENARIO.startswith("auth/"):
        options |= credentials()
    return Mcp(url=url, **options)


def credentials() -> dict[str, Any]:
    from pydantic import SecretStr

    known: dict[str, Any] = {"client_id": CONTEXT.get("client_id")}
    if secret := CONTEXT.get("client_secret"):
        known["client_secret"] = SecretStr(secret)
    if key := CONTEXT.get("private_key_pem"):
        known["client_key"] = SecretStr(key)
        known["client_key_algorithm"] = CONTEXT.get("signing_algorithm", "ES256")
    if SCENARIO.startswith("auth/client-credentials"):
        return {"oauth": "client_credentials", **known}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    back = {"redirect_port": port, "browser": BROWSER, "client_metadata_url": METADATA}
    return {"oauth": "code", **back, **known}


def calls(tools: tuple[Tool, ...]) -> list[tuple[str, dict[str, Any]]]:
    if "toolCalls" in CONTEXT:
        return [(call["name"], call["arguments"]) for call in CONTEXT["toolCalls"]]
    return [(tool.name, arguments(tool, tools)) for tool in tools]


def arguments(tool: Tool, tools: tuple[Tool, ...]) -> dict[str, Any]:
    """What its schema suggests; who wants a schema gets another tool's."""
    wanted: Any = tool.spec.parameters.get("properties", {})
    if list(wanted) == ["schema"]:
        return {"schema": next(t.spec.parameters for t in tools if t is not tool)}
    return {name: sample(schema) for name, schema in wanted.items()}


def sample(schema: Any) -> Any:
    if "default" in schema:
        return schema["default"]
    return schema["enum"][0] if "enum" in schema else SAMPLES.get(schema.get("type"), "text")


async def accept(question: ToolAsks) -> None:
    """What a human does who is asked and wants to go on."""
    question.answer = "accept" if not question.choices else question.choices[0]


async def main(url: str) -> None:
    toolset = Toolset(driver(url)).named("tools.tested")
    with anyio.fail_after(25):
        async with Kernel(toolset, Toolbox()) as kernel:
            for name, arguments in calls(await kernel.request(ListTools())):
                call = CallTool(name=name, arguments=arguments, key=f"1/{name}")
                try:
                    print(name, await kernel.request(call, sink=accept), file=sys.stderr)
                except ToolError as error:
                    print(name, repr(error), file=sys.stderr)


anyio.run(main, sys.argv[1])
