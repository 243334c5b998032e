"""A kernel inside a web app, without a web framework: ASGI's lifespan starts and stops it.

`await Kernel(...)` and `await kernel.stop()` are for frameworks with callbacks. Any ASGI
server runs `app`; here `main` drives it by hand, so that nothing needs to be installed.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from aoskernel import Kernel, assistant, spawn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MODEL = {"driver": "scripted", "rules": [{"when": r"about (\w+)", "say": "All about {1}."}]}


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The app; every GET is a task for an agent."""
    if scope["type"] == "lifespan":
        await lifespan(scope["state"], receive, send)
    else:
        await answer(scope["state"]["kernel"], scope["path"], send)


async def lifespan(state: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()  # lifespan.startup
    kernel = state["kernel"] = await Kernel.from_config(services={"llm.default": MODEL})
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown
    await kernel.stop()
    await send({"type": "lifespan.shutdown.complete"})


async def answer(kernel: Kernel, path: str, send: Send) -> None:
    task = f"Tell me about {path.strip('/')}"
    agent = await spawn(kernel, assistant(task=task), process_class="interactive")
    body = (await agent).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def main() -> None:
    """What a server does: start up, serve a few requests at once, shut down."""
    state: dict[str, Any] = {}
    to_app, from_server = anyio.create_memory_object_stream[dict[str, Any]](1)
    to_server, from_app = anyio.create_memory_object_stream[dict[str, Any]](1)

    async def get(path: str) -> None:
        sent: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            sent.append(message)

        await app({"type": "http", "path": path, "state": state}, from_server.receive, keep)
        print(f"GET {path} -> {sent[0]['status']} {sent[1]['body'].decode()}")

    async with anyio.create_task_group() as server, to_app, from_server, to_server, from_app:
        scope = {"type": "lifespan", "state": state}
        server.start_soon(app, scope, from_server.receive, to_server.send)
        await to_app.send({"type": "lifespan.startup"})
        print((await from_app.receive())["type"])

        async with anyio.create_task_group() as requests:
            for path in ("/kernels", "/agents"):
                requests.start_soon(get, path)

        await to_app.send({"type": "lifespan.shutdown"})
        print((await from_app.receive())["type"])


if __name__ == "__main__":
    anyio.run(main)
