"""`aosk up` as a supervisor runs it: killed, told to end, beside another, beside commands."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from daemons import Daemon, configure, dies, leave, lines, run, up
from errands import Count, brief, choose, listen, order, patience, wait_for_nothing

from aoskernel.plugins.cli.daemon import ALLOCATED
from aoskernel.plugins.cli.exits import ExitCode
from aoskernel.subsystems.storage.messages import Pid

from .conftest import Aosk, Durable

COUNTED = 12


def test_what_a_killed_daemon_began_the_next_one_finishes(
    aosk: Aosk, durable: Durable, tmp_path: Path
) -> None:
    config, file = durable(), tmp_path / "lines"
    (pid,) = leave(config, Count(to=COUNTED, file=str(file)))
    with up(config) as first:
        lines(file, 3)
        first.send(signal.SIGKILL)
        first.ended()
    with up(config):
        assert aosk("wait", str(pid), "--json").document["result"] == COUNTED
    done = [step for _, step, _ in lines(file, COUNTED)]
    assert list(dict.fromkeys(done)) == [str(step) for step in range(COUNTED)]
    assert len(done) <= COUNTED + 1  # the one that the kill cut, with the same key


def test_term_suspends_what_is_at_work(aosk: Aosk, durable: Durable, tmp_path: Path) -> None:
    config, file = durable(), tmp_path / "lines"
    (pid,) = leave(config, Count(to=1000, file=str(file)))
    with up(config) as daemon:
        lines(file, 2)
        daemon.send(signal.SIGTERM)
        assert daemon.told() == "STOPPING=1"
        assert daemon.ended() == ExitCode.OK
    (process,) = aosk("ps", "--json").document["processes"]
    assert (process["pid"], process["state"]) == (pid, "parked")


def test_a_second_signal_ends_it_at_once(durable: Durable, tmp_path: Path) -> None:
    config, file = durable(drain_s=600), tmp_path / "lines"
    leave(config, wait_for_nothing(file=str(file)))
    with up(config) as daemon:
        lines(file, 1)
        daemon.send(signal.SIGINT)
        assert daemon.told() == "STOPPING=1"
        assert daemon.ended_by(signal.SIGINT) == ExitCode.INTERRUPTED


@pytest.mark.slow
def test_signals_that_come_together_are_one(aosk: Aosk, durable: Durable, tmp_path: Path) -> None:
    config, file = durable(), tmp_path / "lines"
    leave(config, Count(to=1000, file=str(file)))
    with up(config) as daemon:
        lines(file, 1)
        daemon.send(signal.SIGTERM)
        daemon.send(signal.SIGINT)
        assert daemon.ended() == ExitCode.OK


def test_what_one_of_two_daemons_leaves_the_other_goes_on_with(
    aosk: Aosk, durable: Durable, tmp_path: Path
) -> None:
    config, file = durable(), tmp_path / "lines"
    with up(config) as one, up(config) as other:
        pids = leave(config, *[Count(to=COUNTED, file=str(file))] * 3)
        daemons = {str(daemon.pid): daemon for daemon in (one, other)}
        *_, first = lines(file, 1)[0]
        daemons[first].send(signal.SIGTERM)
        assert daemons[first].ended() == ExitCode.OK
        for pid in pids:
            assert aosk("wait", str(pid), "--json").document["result"] == COUNTED
    written = lines(file, 3 * COUNTED)
    assert {writer for *_, writer in written} == set(daemons)
    assert set(Counter((pid, step) for pid, step, _ in written).values()) == {1}


@pytest.mark.slow
def test_it_looks_for_garbage_rarely(aosk: Aosk, durable: Durable) -> None:
    config = durable()
    (pid,) = leave(config, patience())
    with up(config):
        assert aosk("wait", str(pid), "--json").document["result"] == ALLOCATED


def test_an_answer_of_before_is_there_when_it_starts(aosk: Aosk, durable: Durable) -> None:
    config = durable()
    (pid,) = run(config, choose())
    aosk("answer", question(aosk, pid), "red")
    with up(config):
        assert aosk("wait", str(pid)).out == "chosen: red\n"


@pytest.mark.slow
def test_a_call_in_doubt_waits_for_a_human(aosk: Aosk, durable: Durable, tmp_path: Path) -> None:
    config = durable()
    (pid,) = leave(config, order(file=str(tmp_path / "ordered")))
    dies(config)
    with up(config) as daemon:
        daemon.logs("process.parked")
        assert f"`aosk resolve {pid} KEY...`" in shown(aosk, pid)["reason"]
        (call,) = aosk("trace", str(pid), "--json").document["syscalls"]
        assert (call["key"], call["standing"]) == ("0:0", "unknown")
        aosk("resolve", str(pid), "0:0", "--done", '"it was"')
        assert aosk("wait", str(pid)).out == "it was\n"


# Beside the commands


class Running(NamedTuple):
    """A daemon that several tests share, and where its log is."""

    config: Path
    daemon: Daemon


@pytest.fixture(scope="module")
def _shared(server_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    programs = "errands:brief", "errands:choose", "errands:Count"
    config = configure(tmp_path_factory.mktemp("daemon"), server_folder, programs)
    with up(config) as daemon:
        yield Running(config, daemon)


@pytest.fixture
def running(_shared: Running, tmp_path: Path) -> Running:
    """Its configuration is that of the working directory."""
    (tmp_path / "aosk.toml").write_text(_shared.config.read_text())
    return _shared


def shown(aosk: Aosk, pid: Pid) -> dict[str, Any]:
    """As `ps` has it."""
    processes = aosk("ps", "--all", "--json").document["processes"]
    return next(process for process in processes if process["pid"] == pid)


def question(aosk: Aosk, pid: Pid) -> str:
    """The number of what it asks."""
    asked = aosk("asks", "--json").document["asks"]
    return next(str(one["number"]) for one in asked if one["pid"] == pid)


def test_what_it_has_no_program_for_stays(aosk: Aosk, running: Running) -> None:
    mine, other = leave(running.config, brief(topic="it"), listen())
    assert aosk("wait", str(mine)).out == "it: Friday\n"
    assert shown(aosk, other)["stranded"] is True
    assert "no kernel that runs has the program 'listen'" in shown(aosk, other)["reason"]


def test_its_log_has_keys_and_values(aosk: Aosk, running: Running) -> None:
    (pid,) = leave(running.config, brief(topic="it"))
    aosk("wait", str(pid))
    running.daemon.logs(f"event=process.exited pid={pid} program=brief state=exited")
    assert all(re.match(r"time=\S+ level=\w+ event=", line) for line in running.daemon.lines)


def test_an_answer_reaches_it(aosk: Aosk, running: Running) -> None:
    (pid,) = run(running.config, choose())
    aosk("answer", question(aosk, pid), "green")
    assert aosk("wait", str(pid)).out == "chosen: green\n"


def test_what_it_runs_is_seen_and_killed(aosk: Aosk, running: Running, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    (pid,) = leave(running.config, Count(to=100_000, file=str(file)))
    lines(file, 3)
    kernels = aosk("health", "--json").document["kernels"]
    (kernel,) = (one for one in kernels if one["os_pid"] == running.daemon.pid)
    assert (kernel["lives"], kernel["processes"]) == (True, 1)
    assert ["count", "1"] in kernel["programs"]
    process = shown(aosk, pid)
    assert (process["kernel"], process["reason"]) == (kernel["number"], None)
    assert "call:write_line" in aosk("trace", str(pid)).out
    assert aosk("kill", str(pid)).out == f"{pid} killed: done\n"


def test_a_stopped_process_goes_on_in_it(aosk: Aosk, running: Running, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    (pid,) = leave(running.config, Count(to=COUNTED, file=str(file)))
    aosk("stop", str(pid))
    running.daemon.logs(f"event=process.parked pid={pid}")
    assert shown(aosk, pid)["state"] == "stopped"
    aosk("cont", str(pid))
    assert aosk("wait", str(pid), "--json").document["result"] == COUNTED


def test_attach_follows_what_is_committed(aosk: Aosk, running: Running, tmp_path: Path) -> None:
    (pid,) = leave(running.config, Count(to=COUNTED, file=str(tmp_path / "lines"), pause_s=0.1))
    *events, end = aosk("attach", str(pid), "--json").lines
    kinds = [event["kind"] for event in events if event["event"] == "syscall"]
    assert kinds.count("call:write_line") > 1
    assert end["result"] == COUNTED


@contextmanager
def attached(config: Path, pid: Pid) -> Iterator[Iterator[Any]]:
    """What `aosk attach` tells, document by document, while it goes on."""
    command = [sys.executable, "-W", "error", "-m", "aoskernel", "attach", str(pid), "--json"]
    with subprocess.Popen(command, cwd=config.parent, stdout=subprocess.PIPE, text=True) as attach:
        assert attach.stdout is not None
        late = threading.Timer(20, attach.kill)  # the next look would be later
        late.start()
        try:
            told = map(json.loads, attach.stdout)
            assert next(told)["event"] == "state"
            yield told
        finally:
            late.cancel()
            attach.kill()


def test_attach_is_called_and_does_not_look(aosk: Aosk, running: Running, tmp_path: Path) -> None:
    (pid,) = leave(running.config, Count(to=100_000, file=str(tmp_path / "lines")))
    with attached(running.config, pid) as told:
        calls = (one["key"] for one in told if one["event"] == "syscall")
        seen = [next(calls) for _ in range(8)]
        assert len(set(seen)) == 8
        aosk("kill", str(pid))
        assert next(one for one in told if "ok" in one)["error"]["kind"] == "killed"


def test_attach_hears_that_a_parked_process_goes_on(aosk: Aosk, running: Running) -> None:
    (pid,) = run(running.config, choose())
    with attached(running.config, pid) as told:
        aosk("answer", question(aosk, pid), "green")
        *events, end = told
    (asked,) = [event for event in events if event["event"] == "syscall"]
    assert (asked["kind"], asked["outcome"]) == ("ask", '"green"')
    assert end["result"] == "chosen: green"


def test_checkpoint_brings_to_rest_what_works_and_it_goes_on(
    aosk: Aosk, running: Running, tmp_path: Path
) -> None:
    (pid,) = leave(running.config, Count(to=COUNTED, file=str(tmp_path / "lines"), pause_s=0.1))
    lines(tmp_path / "lines", 2)
    epoch = shown(aosk, pid)["epoch"]
    rest = aosk("checkpoint", str(pid), "--json").document
    assert rest["replays"] <= rest["syscalls"]
    assert rest["step"] > 0
    assert rest["bytes"] > 0
    assert aosk("wait", str(pid), "--json").document["result"] == COUNTED
    assert shown(aosk, pid)["epoch"] in (epoch, epoch + 1)  # it was parked in its sleep, or cut


# Before it starts


def test_check_tells_what_it_would_do(aosk: Aosk, durable: Durable) -> None:
    config = durable(programs=("errands:brief",))
    mine, other = leave(config, brief(topic="it"), listen())
    told = aosk("up", "--check", "--json").document
    assert told["programs"] == [{"name": "brief", "version": "1"}]
    assert (told["takes_over"], told["leaves"]) == ([mine], [other])
    assert "whose programs it lacks" in aosk("up", "--check").out
    assert [p["state"] for p in aosk("ps", "--json").document["processes"]] == ["running"] * 2


@pytest.mark.parametrize(
    ("programs", "told"),
    [((), "no programs are named"), (("errands:nothing",), "cannot load 'errands:nothing'")],
)
def test_without_programs_it_does_not_start(
    aosk: Aosk, durable: Durable, programs: tuple[str, ...], told: str
) -> None:
    durable(programs=programs)
    result = aosk("up", "--check")
    assert result.code == ExitCode.CONFIG
    assert told in result.err
