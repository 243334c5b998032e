"""`aosk health` and `aosk db`: how the database is; and what is said where there is none."""

import os
import re
import tomllib
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import anyio
import asyncpg
import pytest
from daemons import leave
from errands import listen
from postgres import free_port

from aoskernel.drivers.storage._embedded_cluster import Cluster
from aoskernel.plugins.cli.exits import ExitCode

from .conftest import Aosk, Durable

POSTGRES = """
[services.storage]
driver = "postgres"
dsn = { env = "TEST_DSN" }
patience_s = 1
"""


def test_a_database_without_stranded_processes_is_in_health(aosk: Aosk, durable: Durable) -> None:
    durable()
    aosk("db", "migrate")
    told = aosk("health")
    assert told.code == ExitCode.OK
    assert "none runs" in told.out
    assert aosk("health", "--json").document["ok"] is True


def test_stranded_processes_are_amiss(aosk: Aosk, durable: Durable) -> None:
    (pid,) = leave(durable(), listen())
    told = aosk("health", "--json")
    assert told.code == ExitCode.FAILED
    assert told.document["stranded"] == [pid]
    assert told.document["states"] == {"running": 1}


def test_status_names_the_migrations(aosk: Aosk, durable: Durable) -> None:
    durable()
    aosk("db", "migrate")
    document = aosk("db", "status", "--json").document
    assert document["up_to_date"] is True
    assert document["applied"][0] == "0001_log"
    assert "0001_log" in aosk("db", "status").out


def test_no_command_but_migrate_makes_a_database(
    aosk: Aosk, durable: Durable, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    config = durable()
    lines = config.read_text().splitlines()
    config.write_text(
        "\n".join(f'folder = "{folder}"' if line.startswith("folder") else line for line in lines)
    )
    for command in (["ps"], ["health"], ["db", "status"]):
        told = aosk(*command)
        assert told.code != ExitCode.OK
        assert f"the database in {folder} is not made yet" in told.err
    assert not folder.exists()


@pytest.fixture
def fresh(server_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of a schema that nobody has made."""
    cluster = anyio.run(Cluster.attach, server_folder)
    where = urlencode({"host": cluster.socket_dir, "port": cluster.port})
    user = f"{cluster.user}:{cluster.password}"
    monkeypatch.setenv("TEST_DSN", f"postgresql://{user}@/{cluster.database}?{where}")
    anyio.run(cluster.detach)
    (tmp_path / "aosk.toml").write_text(f'{POSTGRES}schema_name = "s{uuid4().hex}"\n')
    return tmp_path / "aosk.toml"


@pytest.mark.usefixtures("fresh")
def test_a_schema_that_is_behind_is_not_touched_but_by_migrate(aosk: Aosk) -> None:
    for command in (["db", "status"], ["health"], ["ps"]):
        told = aosk(*command)
        assert told.code != ExitCode.OK
        assert "is not made yet: `aosk db migrate` makes it" in told.err
    assert aosk("db", "migrate", "--json").document["applied_now"][0] == "0001_log"
    assert aosk("db", "migrate").out == "up to date; nothing to apply\n"
    assert aosk("db", "status").code == ExitCode.OK


def test_a_database_of_a_newer_version_is_left_alone(aosk: Aosk, fresh: Path) -> None:
    aosk("db", "migrate")
    anyio.run(newer, tomllib.loads(fresh.read_text())["services"]["storage"]["schema_name"])
    told = aosk("db", "status", "--json")
    assert told.code == ExitCode.FAILED
    assert told.document["unknown"] == ["9999_future"]
    assert "cannot work with" in told.document["fault"]
    for command in (["ps"], ["db", "migrate"]):
        assert "cannot work with" in aosk(*command).err


async def newer(schema: str) -> None:
    """A later version has been here."""
    connection = await asyncpg.connect(os.environ["TEST_DSN"])
    try:
        await connection.execute(
            f'insert into "{schema}".migration (number, name, checksum, breaking) '
            "values (9999, 'future', '', true)"
        )
    finally:
        await connection.close()


def test_what_up_would_apply_is_told(aosk: Aosk, fresh: Path) -> None:
    with fresh.open("a") as config:
        config.write('[services.processes]\nprograms = ["errands:brief"]\n')
    assert "applies 0001_log" in aosk("up", "--check").out
    assert aosk("db", "status").code == ExitCode.FAILED


def test_a_wrong_password_cannot_be_used(
    aosk: Aosk, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = os.environ["TEST_DSN"]
    monkeypatch.setenv("TEST_DSN", re.sub(r":[^:@]+@", ":wrong@", right))
    told = aosk("ps")
    assert told.code == ExitCode.CONFIG
    assert "does not let us in" in told.err
    assert "wrong" not in told.err


@pytest.mark.parametrize("command", [["ps"], ["db", "status"], ["db", "migrate"], ["health"]])
def test_a_server_that_is_not_there_is_told(
    aosk: Aosk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("TEST_DSN", f"postgresql://me:secret@127.0.0.1:{free_port()}/mine")
    (tmp_path / "aosk.toml").write_text(POSTGRES)
    told = aosk(*command)
    assert told.code == ExitCode.FAILED
    assert "nothing listens there" in told.err
    assert "secret" not in told.err


def test_a_dsn_that_is_none_cannot_be_used(
    aosk: Aosk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_DSN", "mysql://me:secret@127.0.0.1/mine")
    (tmp_path / "aosk.toml").write_text(POSTGRES)
    told = aosk("ps")
    assert told.code == ExitCode.CONFIG
    assert "secret" not in told.err
