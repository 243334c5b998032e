"""A canary in every place where a user may put a secret, and a search of all that can be read."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import anyio
import asyncpg
import httpx
import pytest
from collector import collecting
from one_storage import OneStorage, until
from pydantic import SecretStr

from aoskernel import Kernel, Process, ProcessFailed, Sensitive, attach, program, spawn, tool
from aoskernel.drivers.llm.scripted import call
from aoskernel.drivers.storage._embedded_cluster import Cluster
from aoskernel.drivers.storage.embedded import Embedded, _address
from aoskernel.plugins.cli.lines import Json, Text
from aoskernel.plugins.metrics.service import Metrics
from aoskernel.subsystems.llm.driver import Unauthorized
from aoskernel.subsystems.processes.messages import Inspect, Send
from aoskernel.subsystems.processes.syscall import fingerprint
from aoskernel.subsystems.storage.messages import Pid
from aoskernel.subsystems.tools.messages import FindTools, ToolFailed

CONFIGURED, TOKEN, GIVEN, MARKED, NESTED = (f"canary-{n}-of-a-mine" for n in range(5))
CANARIES = (CONFIGURED, TOKEN, GIVEN, MARKED, NESTED)
OUTSIDE: list[Any] = []
"""What a device was really told."""


@tool(effect="once")
def log_in(user: str, password: SecretStr, pin: Annotated[str, Sensitive] = "") -> str:
    """Log in somewhere."""
    OUTSIDE.append((user, password.get_secret_value(), pin))
    return f"welcome, {user}"


@tool(effect="once")
def be_turned_away(password: SecretStr, pin: Annotated[str, Sensitive]) -> str:
    """Fail, and say more than is good."""
    raise ToolFailed(f"no {password.get_secret_value()} here, no {pin} either, nor {CONFIGURED}")


@program
async def visitor(self: Process) -> str:
    told = await self.call("log_in", user="ann", password=SecretStr(GIVEN), pin=SecretStr(MARKED))
    try:
        await self.call("be_turned_away", password=SecretStr(NESTED), pin=SecretStr(MARKED))
    except ToolFailed as error:
        await self.note(f"{told}, but {error}")  # the same again when it is resumed
    await self.receive()
    return (await self.think("go on")).text


@program
async def unlucky(self: Process) -> None:
    raise RuntimeError(f"no connection with {CONFIGURED}")


def script(ask: Any) -> Any:
    raise Unauthorized(f"401 for Authorization: Bearer {CONFIGURED}")


def kernel(storage: OneStorage, collector: str) -> Kernel:
    return storage.kernel(
        script,
        **{
            "metrics": {"port": 0, "token": {"env": "CANARY_TOKEN"}},
            "traces": {"endpoint": collector, "authorization": {"env": "CANARY_KEY"}},
            "console": {"every_s": 0.05},
            "processes": {"programs": (f"{__name__}:visitor",)},
            "tools.doors": {"driver": "python", "functions": [log_in, be_turned_away]},
        },
    )


@pytest.fixture
def log_files(tmp_path: Path) -> Any:
    """The log of everything, in both formats."""
    root, files = logging.getLogger(), {}
    before = (root.handlers, root.level)
    root.handlers, root.level = [], logging.DEBUG
    for form in (Text, Json):
        files[form] = tmp_path / form.__name__
        handler = logging.FileHandler(files[form])
        handler.setFormatter(form())
        root.addHandler(handler)
    yield files
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = before


TABLES = """
select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables
where schemaname not in ('pg_catalog', 'information_schema')
"""


async def dump(folder: Path) -> str:
    """Every row of every table, with its bytes as text."""
    cluster = await Cluster.attach(folder, settings={"fsync": "off"})
    connection = await asyncpg.connect(**_address(cluster))
    try:
        tables = [name for (name,) in await connection.fetch(TABLES)]
        rows = [row for name in tables for row in await connection.fetch(f"table {name}")]
    finally:
        await connection.close()
        await cluster.detach()
    return "\n".join(_text(value) for row in rows for value in row.values())


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "embedded"])
async def test_no_canary_sings(
    log_files: Any, monkeypatch: pytest.MonkeyPatch, server_folder: Path, *, on_disk: bool
) -> None:
    OUTSIDE.clear()
    monkeypatch.setenv("CANARY_KEY", CONFIGURED)
    monkeypatch.setenv("CANARY_TOKEN", TOKEN)
    namespace = uuid4().hex
    settings = {"fsync": "off"}
    make = partial(
        Embedded, folder=str(server_folder), namespace=namespace, settings=settings, lease_s=1.0
    )
    storage, pages = OneStorage(make if on_disk else None), []
    with collecting() as collector, anyio.fail_after(30):
        async with kernel(storage, collector.address) as first:
            agent = await spawn(first, visitor())
            await until(partial(_waits, first, agent.pid))
            with pytest.raises(ProcessFailed):
                await (await spawn(first, unlucky()))
            logging.getLogger("httpcore").debug("headers %s", {"authorization": CONFIGURED})
            pages.append(await _scraped(first))
        async with kernel(storage, collector.address) as second:  # by replay, up to the letter
            await second.request(Send(to=agent.pid, body="go on"))
            with pytest.raises(ProcessFailed, match="Unauthorized"):
                await (await attach(second, agent.pid))
            pages.append(await _scraped(second))
    stored = await dump(server_folder) if on_disk else repr(storage.memory)
    logs = "".join(file.read_text() for file in log_files.values())
    sent = b"".join(collector.bodies).decode("latin-1")
    assert OUTSIDE == [("ann", GIVEN, MARKED)]  # told once, although the program ran twice
    for what, text in {
        "log": logs,
        "metrics": "".join(pages),
        "traces": sent,
        "store": stored,
    }.items():
        assert len(text) > 500, what
        assert [c for c in CANARIES if c in text] == [], what
    assert "be_turned_away" in stored
    assert "welcome, ann" in stored
    for line in log_files[Json].read_text().splitlines():
        assert {"time", "level", "event"} <= json.loads(line).keys()


async def _waits(running: Kernel, pid: Pid) -> bool:
    return (await running.request(Inspect(pid=pid))).doing is not None


async def _scraped(running: Kernel) -> str:
    metrics = next(s.service for s in running.services() if isinstance(s.service, Metrics))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://127.0.0.1:{metrics.port}/metrics", headers=headers)).text


async def test_a_model_is_not_asked_for_what_is_sensitive() -> None:
    with anyio.fail_after(20):
        tables: dict[str, Any] = {"tools.doors": {"driver": "python", "functions": [log_in]}}
        async with OneStorage().kernel(lambda ask: call("log_in"), **tables) as running:
            (found,) = await running.request(FindTools(names=("log_in",)))
    assert set(found.spec.parameters["properties"]) == {"user"}  # type: ignore[arg-type]
    assert found.spec.parameters["required"] == ["user"]


async def test_a_fingerprint_does_not_depend_on_the_secret() -> None:
    """Else a password that was changed could not be told from a program that was."""
    marks = {fingerprint("call:log_in", {"password": SecretStr(p)}) for p in (GIVEN, MARKED)}
    assert len(marks) == 1
    assert marks != {fingerprint("call:log_in", {"password": "**********"} | {"user": "ann"})}


@pytest.mark.parametrize("hint", [SecretStr, SecretStr | None, Annotated[str, Sensitive]])
def test_a_program_cannot_be_given_a_secret(hint: Any) -> None:
    async def keeper(self: Process, password: Any) -> None: ...

    keeper.__annotations__["password"] = hint
    with pytest.raises(TypeError, match="'password' is a secret, and what a program is given"):
        program(keeper)
