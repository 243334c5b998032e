"""The driver `postgres`: what its DSN may say, and what nobody gets to read of it."""

import logging
import os
import pwd
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from certificates import self_signed
from postgres import (
    PASSWORD,
    QUOTED,
    Line,
    Server,
    debian,
    opened,
    postgres,
    roomy,
    serving,
)
from stored import born, put

from aoskernel import Kernel
from aoskernel.drivers.storage.postgres import Postgres
from aoskernel.kernel.config import Config, build
from aoskernel.kernel.errors import ConfigError
from aoskernel.subsystems.storage.driver import (
    AddPage,
    Page,
    Pid,
    ReadPages,
    StorageDriver,
    StorageError,
    StorageRefused,
    StorageUnavailable,
)
from aoskernel.subsystems.storage.messages import Commit, NewPid
from aoskernel.subsystems.storage.service import Storage

CONFIG = """
[services.storage]
driver = "postgres"
dsn = { env = "DATABASE_URL" }
namespace = "of the test"
"""


@pytest.fixture
async def tls(server: Server, tmp_path: Path) -> AsyncIterator[tuple[Line, Path]]:
    """A line with TLS to a server, and the authority it is certified by."""
    certificate, key = self_signed(tmp_path, "ours")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with Line(server.port, context).laid() as line:
        yield line, certificate


async def works(driver: StorageDriver) -> None:
    async with opened(driver):
        pid = await born(driver)
        await put(driver, pid, AddPage(page=Page(role="user", text="hello")))
        assert [page.text for page in await driver.read(ReadPages(pid=pid))] == ["hello"]


async def refused(dsn: str, **more: Any) -> str:
    """What is said when there is no starting."""
    driver = postgres(dsn, **{"patience_s": 1.0, **more})
    with anyio.fail_after(30), pytest.raises(StorageError) as caught:
        async with opened(driver):
            pass
    return str(caught.value)


async def test_the_dsn_comes_from_the_environment(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", server.dsn(database))
    (tmp_path / "aosk.toml").write_text(CONFIG)
    with anyio.fail_after(30):
        config = Config.load(tmp_path / "aosk.toml")
        async with Kernel(build("storage", config.services["storage"])) as kernel:
            assert await kernel.request(NewPid()) > 0
    (row,) = await server.ask("select count(*) from aoskernel.process", database=database)
    assert row[0] == 0


def test_a_dsn_in_the_config_itself_is_refused(tmp_path: Path) -> None:
    text = CONFIG.replace('{ env = "DATABASE_URL" }', '"postgresql://u:hunter2@h/d"')
    (tmp_path / "aosk.toml").write_text(text)
    with pytest.raises(ConfigError, match="is a secret") as caught:
        Kernel.from_config(tmp_path / "aosk.toml")
    assert "hunter2" not in str(caught.value)


async def test_a_server_is_reached_over_tcp_with_a_password(server: Server, database: str) -> None:
    rows = await server.ask("select setting from pg_settings where name = 'password_encryption'")
    assert rows[0][0] == "scram-sha-256"
    await works(postgres(server.dsn(database)))


async def test_tables_stand_in_a_schema_of_any_name(server: Server, database: str) -> None:
    first, second = (postgres(server.dsn(database), schema_name=s) for s in ('odd "name"', "other"))
    await works(first)
    await works(second)
    rows = await server.ask(
        "select table_schema from information_schema.tables where table_name = 'entry'",
        database=database,
    )
    assert {row[0] for row in rows} == {'odd "name"', "other"}


async def test_pgvector_may_stand_in_any_schema(server: Server, database: str) -> None:
    await server.ask("create schema extensions", database=database)
    await server.ask("create extension vector schema extensions", database=database)
    await works(postgres(server.dsn(database)))


async def test_tls_is_used_where_the_dsn_requires_it(
    tls: tuple[Line, Path], server: Server, database: str
) -> None:
    line, authority = tls
    await works(postgres(server.dsn(database, port=line.port, sslmode="require")))
    verified: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": str(authority)}
    await works(postgres(server.dsn(database, port=line.port, **verified)))


async def test_a_certificate_of_another_authority_is_refused(
    tls: tuple[Line, Path], server: Server, database: str, tmp_path: Path
) -> None:
    line, _ = tls
    other, _ = self_signed(tmp_path, "theirs")
    dsn = server.dsn(database, port=line.port, sslmode="verify-full", sslrootcert=str(other))
    told = await refused(dsn)
    assert "certificate is not to be trusted" in told
    assert "sslrootcert" in told


async def test_a_server_without_tls_is_refused_where_it_is_required(
    server: Server, database: str
) -> None:
    assert "does not speak TLS" in await refused(server.dsn(database, sslmode="require"))


async def test_an_authority_that_is_not_there_is_named(server: Server, database: str) -> None:
    dsn = server.dsn(database, sslmode="verify-full", sslrootcert="/no/such.crt")
    assert "look at sslrootcert" in await refused(dsn)


@pytest.mark.slow
@pytest.mark.debian
async def test_debians_server_speaks_tls(tmp_path: Path) -> None:
    with roomy() as folder:
        certificate, key = self_signed(folder, "debian")
        if os.geteuid() == 0:
            os.chown(key, pwd.getpwnam("nobody").pw_uid, -1)
        files = {"ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        with serving(debian(), ssl="on", **files) as server:
            await works(postgres(server.dsn("postgres", sslmode="require")))
            ours: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": str(certificate)}
            await works(postgres(server.dsn("postgres", **ours)))
            other, _ = self_signed(tmp_path, "theirs")
            theirs: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": str(other)}
            assert "not to be trusted" in await refused(server.dsn("postgres", **theirs))


# What nobody gets to read

SECRET = "hunter2"
MALFORMED = (
    f"postgresql://u:{SECRET}/x@h/d",
    f"postgresql://u:x@{SECRET}@h/d",
    f"postgresql://u:x#{SECRET}@h/d",
    f"postgresql://u:x?{SECRET}@h/d",
    f"postgresql://u:{SECRET}:5432/d",
    f"postgresql://u:{SECRET}[@h/d",
    f"postgresql://u:p@h:{SECRET}/d",
    f"postgresql://u:p@h:99999/d?password={SECRET}",
    f"postgresql://u:p@h/d?{SECRET}",
    f"mysql://u:{SECRET}@h/d",
    f"host=h user=u password={SECRET}",
    f"{SECRET}",
    "",
)


@pytest.mark.parametrize("dsn", MALFORMED)
def test_a_dsn_that_is_none_is_refused_without_being_repeated(dsn: str) -> None:
    with pytest.raises(ValueError, match="should look like postgresql://") as caught:
        postgres(dsn)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__


def test_a_dsn_that_is_none_is_an_error_of_the_config(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", MALFORMED[0])
    (tmp_path / "aosk.toml").write_text(CONFIG)
    with pytest.raises(ConfigError, match=r"services\.storage.*the DSN cannot be used") as caught:
        Kernel.from_config(tmp_path / "aosk.toml")
    assert SECRET not in repr(caught.value)


def everything_said(error: BaseException, driver: Postgres, log: str) -> str:
    said = [log, repr(driver), repr(driver._database.settings)]
    seen: BaseException | None = error
    while seen is not None:
        said.append(f"{seen!r} {seen}")
        seen = seen.__cause__ or seen.__context__
    return "\n".join(said)


@pytest.mark.parametrize("fault", ["password", "port", "host", "database", "tls", "option"])
async def test_no_error_and_no_log_has_the_password(
    server: Server, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    wrong: dict[str, Any] = {
        "password": {"password": SECRET},
        "port": {"port": 1},
        "host": {"host": "no-such-host.invalid"},
        "database": {},
        "tls": {"sslmode": "require"},
        "option": {"no_such_option": "1"},
    }[fault]
    driver = postgres(server.dsn("no_such_database", **wrong), patience_s=0.3)
    with anyio.fail_after(30), caplog.at_level(logging.DEBUG):
        with pytest.raises(StorageError) as caught:
            await driver.start()
        await driver.stop()
    said = everything_said(caught.value, driver, caplog.text)
    for secret in (PASSWORD, QUOTED, SECRET):
        assert secret not in said


async def test_the_service_says_what_it_is_that_fails(server: Server) -> None:
    told = await refused(server.dsn("no_such_database"))
    assert told.startswith(f"the database no_such_database at 127.0.0.1:{server.port}: ")
    assert "create it, or name another one in the DSN" in told


async def test_a_driver_that_was_never_started_says_so() -> None:
    driver = postgres("postgresql://u:p@h/d")
    with anyio.fail_after(20):
        with pytest.raises(StorageUnavailable, match="not started"):
            await driver.read(ReadPages(pid=Pid(1)))
        await driver.stop()


async def test_a_driver_may_be_started_again(server: Server, database: str) -> None:
    driver = postgres(server.dsn(database))
    await works(driver)
    await works(driver)


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"connections": 0}, {"lease_s": 0.0}, {"patience_s": -1.0}, {"schema_name": ""}):
        with pytest.raises(ValueError, match=next(iter(wrong)).partition("_name")[0]):
            postgres("postgresql://u:p@h/d", **wrong)


async def test_a_commit_that_is_too_large_is_refused_before_it_is_sent(
    server: Server, database: str
) -> None:
    driver = postgres(server.dsn(database))
    service = Storage(driver)
    async with opened(driver):
        pid = await born(driver)
        large = AddPage(page=Page(role="user", text="x" * (50 << 20)))
        small = AddPage(page=Page(role="user", text="x"))
        with pytest.raises(StorageRefused, match=r"50\.0 MiB is more than the limit of 16 MiB"):
            await service.commit(Commit(pid=pid, epoch=0, writes=(small, large)))
        assert await driver.read(ReadPages(pid=pid)) == ()
        await driver.commit(Commit(pid=pid, epoch=0, writes=(small,)))
        assert len(await driver.read(ReadPages(pid=pid))) == 1
