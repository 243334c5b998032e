"""The commands on processes while no kernel runs: what is told, and what is changed."""

import inspect
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from daemons import configure, leave, left_in_doubt, run
from errands import Count, brief, choose, fail, family, listen, look_up, order_twice, stray

from aoskernel.plugins.cli.exits import ExitCode
from aoskernel.plugins.cli.syscalls import duration

from .conftest import Aosk, Durable, Result

ELSEWHERE = 999_999_999


class Past(NamedTuple):
    """What a kernel has run, once for all tests that only look at it."""

    config: Path
    briefed: int
    at_length: int
    looked_up: int
    failed: int
    chooses: int


@pytest.fixture(scope="module")
def _run_once(server_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Past:
    config = configure(tmp_path_factory.mktemp("past"), server_folder)
    briefs = brief(topic="it"), brief(topic="very " * 100)
    return Past(config, *run(config, *briefs, look_up(path="notes.txt"), fail(), choose()))


@pytest.fixture
def past(_run_once: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    """It is in the working directory's configuration."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "aosk.toml").write_text(_run_once.config.read_text())
    return _run_once


def pids(told: Result) -> list[int]:
    """Of the processes in a document."""
    return [process["pid"] for process in told.document["processes"]]


# ps


def test_ps_says_that_there_is_nothing(aosk: Aosk, durable: Durable) -> None:
    durable()
    aosk("db", "migrate")
    told = aosk("ps")
    assert (told.code, told.out) == (0, "")
    assert "--all" in told.err
    assert aosk("ps", "--json").document["processes"] == []


def test_ps_says_which_program_is_missing(aosk: Aosk, durable: Durable) -> None:
    (pid,) = leave(durable(), listen())
    told = aosk("ps").out
    assert "stranded" in told
    assert "no kernel that runs has the program 'listen' version '1'" in " ".join(told.split())
    (process,) = aosk("ps", "--json").document["processes"]
    assert (process["pid"], process["stranded"], process["state"]) == (pid, True, "running")


def test_ps_fits_into_80_columns(aosk: Aosk, durable: Durable) -> None:
    leave(durable(), listen(), brief(topic="it"))
    table, _, _ = aosk("ps").out.partition("\n\n")
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80


def test_ps_says_what_a_process_waits_in(aosk: Aosk, past: Past) -> None:
    (process,) = aosk("ps", "--json").document["processes"]
    assert (process["state"], process["waits_in"]) == ("parked", ["ask"])


def test_ps_and_run_tell_for_whom_a_process_works(aosk: Aosk, durable: Durable) -> None:
    leave(durable(), listen())
    assert aosk("run", "Say hello.", "--user", "u-1").code == 0
    users = [one["user"] for one in aosk("ps", "--json", "--all").document["processes"]]
    assert users == ["", "u-1"]


def test_ended_processes_are_shown_when_asked_for(aosk: Aosk, past: Past) -> None:
    assert past.failed not in pids(aosk("ps", "--json"))
    assert {past.failed, past.chooses} < set(pids(aosk("ps", "--json", "--all")))
    assert pids(aosk("ps", "--json", "--state", "failed")) == [past.failed]


def test_states_can_be_chosen(aosk: Aosk, durable: Durable) -> None:
    stopped, other = leave(durable(), listen(), listen())
    aosk("stop", str(stopped))
    for state, pid in (("stopped", stopped), ("stranded", other)):
        assert pids(aosk("ps", "--json", "--state", state)) == [pid]


def test_an_unknown_state_is_wrong_usage(aosk: Aosk, durable: Durable) -> None:
    durable()
    told = aosk("ps", "--state", "asleep")
    assert told.code == ExitCode.USAGE
    assert "stranded" in told.err


def test_processes_of_another_namespace_are_not_there(aosk: Aosk, durable: Durable) -> None:
    (pid,) = leave(durable(), listen())
    durable(namespace="another")
    for command in ("trace", "logs", "wait", "kill", "replay"):
        told = aosk(command, str(pid), "--json")
        assert told.code == ExitCode.FAILED
        assert told.document["error"]["kind"] == "NoSuchProcess"


# trace and logs


def test_trace_shows_each_syscall_with_its_outcome(aosk: Aosk, past: Past) -> None:
    pid = past.looked_up
    *calls, last = aosk("trace", str(pid)).out.splitlines()
    assert [[line.split()[0], line.split("(")[0].split()[-1]] for line in calls] == [
        ["0:0", "think"],
        ["0:1", "call:read_file"],
        ["0:2", "think"],
    ]
    assert '  think("What does notes.txt say?") = read_file(path="notes.txt")' in calls[0]
    assert all(re.match(r"0:\d +[\d.]+ m?s  ", line) for line in calls)
    assert 'call:read_file(path="notes.txt") = "The standup moved' in calls[1]
    assert last.startswith("3 syscalls; 2 of a model, ")
    assert last.endswith("; exited")


def test_trace_counts_the_tokens(aosk: Aosk, past: Past) -> None:
    pid = past.looked_up
    document = aosk("trace", str(pid), "--json").document
    used = [call["tokens"] for call in document["syscalls"] if call["tokens"]]
    assert document["tokens"]["calls"] == len(used) == 2
    assert document["tokens"]["prompt"] == sum(prompt for prompt, _ in used)


def test_trace_shows_a_failure_with_its_error(aosk: Aosk, past: Past) -> None:
    pid = past.failed
    (call,) = aosk("trace", str(pid), "--json").document["syscalls"]
    assert (call["standing"], call["kind"]) == ("failed", "call:write_line")
    assert call["outcome"].startswith("ToolFailed: write_line failed")


def test_a_line_of_the_trace_is_no_wider_than_the_page(aosk: Aosk, past: Past) -> None:
    pid = past.at_length
    assert max(map(len, aosk("trace", str(pid)).out.splitlines())) <= 160


def test_logs_are_what_was_said(aosk: Aosk, past: Past) -> None:
    pid = past.looked_up
    assert aosk("logs", str(pid)).out.splitlines() == [
        "user: What does notes.txt say?",
        'assistant: -> read_file(path="notes.txt")',
        "tool: The standup moved to Friday at ten.",
        "assistant: It moved to Friday.",
    ]


def test_logs_of_one_that_has_said_nothing(aosk: Aosk, durable: Durable) -> None:
    (pid,) = leave(durable(), listen())
    told = aosk("logs", str(pid))
    assert (told.code, told.out) == (0, "")
    assert "has said nothing" in told.err


# wait and attach


@pytest.mark.parametrize("command", ["wait", "attach"])
def test_the_result_is_printed_at_the_end(aosk: Aosk, past: Past, command: str) -> None:
    pid = past.briefed
    assert aosk(command, str(pid)).out == "it: Friday\n"
    assert aosk(command, str(pid), "--json").lines[-1]["result"] == "it: Friday"


@pytest.mark.parametrize("command", ["wait", "attach"])
def test_it_ends_as_the_process_ended(aosk: Aosk, past: Past, command: str) -> None:
    pid = past.failed
    told = aosk(command, str(pid))
    assert told.code == ExitCode.TOOL
    assert "write_line failed" in told.err


# kill, stop, cont


def test_a_process_is_killed_without_its_program(aosk: Aosk, durable: Durable) -> None:
    (pid,) = leave(durable(), listen())
    told = aosk("kill", str(pid), "--signal", "KILL")
    assert (told.code, told.out) == (0, f"{pid} killed: done\n")
    assert aosk("wait", str(pid)).code == ExitCode.FAILED


def test_term_waits_for_a_kernel_that_has_the_program(aosk: Aosk, durable: Durable) -> None:
    (pid,) = leave(durable(), listen())
    assert "TERM is on its way" in aosk("kill", str(pid)).out


def test_what_is_stopped_says_how_it_goes_on(aosk: Aosk, durable: Durable) -> None:
    (pid,) = leave(durable(), listen())
    assert aosk("stop", str(pid)).out == f"{pid} stopped: done\n"
    assert f"`aosk cont {pid}`" in aosk("ps").out
    assert aosk("cont", str(pid)).out == f"{pid} parked: done\n"


def test_what_has_ended_cannot_be_killed(aosk: Aosk, past: Past) -> None:
    pid = past.briefed
    told = aosk("kill", str(pid), "--json")
    assert told.code == ExitCode.FAILED
    assert f"process {pid} has exited already" in told.document["error"]["message"]


def test_where_one_is_not_there_none_is_killed(aosk: Aosk, durable: Durable) -> None:
    (pid,) = leave(durable(), listen())
    told = aosk("kill", str(pid), str(ELSEWHERE), "-s", "KILL")
    assert told.code == ExitCode.FAILED
    assert f"no process {ELSEWHERE}" in told.err
    (process,) = aosk("ps", "--json").document["processes"]
    assert process["pid"] == pid


def test_a_group_is_killed_with_its_descendants(aosk: Aosk, durable: Durable) -> None:
    config = durable()
    (parent,) = run(config, family(deep=2))
    everybody = pids(aosk("ps", "--json"))
    assert len(everybody) == 3
    assert aosk("kill", str(parent), "--group", "-s", "KILL").code == ExitCode.OK
    assert pids(aosk("ps", "--json")) == []
    assert pids(aosk("ps", "--json", "--state", "killed")) == everybody


def test_a_number_is_a_number(aosk: Aosk, durable: Durable) -> None:
    durable()
    assert aosk("kill", "all").code == ExitCode.USAGE


# checkpoint


def test_one_that_no_kernel_has_rests_already(aosk: Aosk, past: Past) -> None:
    pid = str(past.chooses)
    told = aosk("checkpoint", pid).out
    assert f"{pid} parked ask: all it has said is committed, 0 syscalls with " in told
    assert "a resume replays the 0 of step 0" in told
    before = aosk("ps", "--json").document
    assert aosk("checkpoint", pid, "--json").document["waits_in"] == ["ask"]
    assert aosk("ps", "--json").document == before


def test_what_has_ended_comes_to_no_checkpoint(aosk: Aosk, past: Past) -> None:
    told = aosk("checkpoint", str(past.briefed), "--json")
    assert told.code == ExitCode.FAILED
    assert told.document["error"]["kind"] == "ended"


# asks and answer


def test_a_question_is_shown_and_answered_once(aosk: Aosk, durable: Durable) -> None:
    (pid,) = run(durable(), choose())
    (asked,) = aosk("asks", "--json").document["asks"]
    assert (asked["pid"], asked["choices"]) == (pid, ["red", "green"])
    assert "Which one?" in aosk("asks").out
    number = str(asked["number"])
    assert aosk("answer", number, "red").code == ExitCode.OK
    again = aosk("answer", number, "green")
    assert again.code == ExitCode.FAILED
    assert "is answered: 'red'" in again.err
    assert aosk("asks", "--json").document["asks"] == []


def test_an_answer_must_be_one_of_the_choices(aosk: Aosk, past: Past) -> None:
    (asked,) = aosk("asks", "--json").document["asks"]
    told = aosk("answer", str(asked["number"]), "blue")
    assert told.code == ExitCode.FAILED
    assert "wants one of red, green" in told.err


def test_an_unknown_question_cannot_be_answered(aosk: Aosk, durable: Durable) -> None:
    durable()
    aosk("db", "migrate")
    assert "no question" in aosk("answer", str(ELSEWHERE), "yes").err


# resolve


def test_only_a_process_in_doubt_is_resolved(aosk: Aosk, past: Past) -> None:
    pid = past.chooses
    told = aosk("resolve", str(pid), "0:0", "--again")
    assert told.code == ExitCode.FAILED
    assert "in no doubt" in told.err


def test_calls_in_doubt_are_listed_and_resolved_one_by_one(aosk: Aosk, durable: Durable) -> None:
    pid = left_in_doubt(durable(), order_twice(), calls=2)
    doubts = aosk("asks", "--json").document["doubts"]
    assert [(doubt["pid"], doubt["key"]) for doubt in doubts] == [
        (pid, "0:0.0.0"),
        (pid, "0:0.1.0"),
    ]
    for told in aosk("asks").out, aosk("ps").out:
        assert "0:0.0.0" in told
        assert "0:0.1.0" in told
    first = aosk("resolve", str(pid), "0:0.0.0", "--done", '"so"')
    assert first.out == f"0:0.0.0 of process {pid}: done; still in doubt: 0:0.1.0\n"
    assert pids(aosk("ps", "--json", "--state", "stopped")) == [pid]
    last = aosk("resolve", str(pid), "0:0.1.0", "--failed", "no", "--json").document
    assert (last["keys"], last["left"]) == (["0:0.1.0"], [])
    assert pids(aosk("ps", "--json", "--state", "stopped")) == []
    assert aosk("asks", "--json").document["doubts"] == []


def test_all_calls_in_doubt_are_resolved_with_one_command(aosk: Aosk, durable: Durable) -> None:
    pid = left_in_doubt(durable(), order_twice(), calls=2)
    told = aosk("resolve", str(pid), "--all", "--again")
    assert told.out == f"0:0.0.0, 0:0.1.0 of process {pid}: again; it goes on\n"
    assert pids(aosk("ps", "--json", "--state", "stopped")) == []


@pytest.mark.parametrize("which", [[], ["0:0", "--all"]])
def test_what_is_resolved_is_named(aosk: Aosk, which: list[str]) -> None:
    told = aosk("resolve", "1", *which, "--again")
    assert told.code == ExitCode.USAGE
    assert "say --all" in told.err


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ([], "say one of"),
        (["--again", "--failed", "no"], "say one of"),
        (["--done", "so"], "--done takes JSON"),
    ],
)
def test_a_verdict_is_one_and_can_be_read(aosk: Aosk, verdict: list[str], told: str) -> None:
    result = aosk("resolve", "1", "0:0", *verdict)
    assert result.code == ExitCode.USAGE
    assert told in result.err


# replay


def test_a_program_that_is_unchanged_arrives(aosk: Aosk, past: Past) -> None:
    pid = past.looked_up
    told = aosk("replay", str(pid))
    assert told.code == ExitCode.OK
    assert 'agrees with the log, and exited with "It moved to Friday."' in told.out


def test_a_process_that_waits_arrives_there(aosk: Aosk, past: Past) -> None:
    pid = past.chooses
    assert "goes on with 'ask' at 0:0" in aosk("replay", str(pid)).out


def test_a_program_that_says_something_else_is_told(
    aosk: Aosk, past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = past.briefed
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "changed_errands.py").write_text(CHANGED)
    told = aosk("replay", str(pid), "--program", "changed_errands:brief", "--json")
    assert told.code == ExitCode.FAILED
    assert told.document["error"]["kind"] == "diverged"
    assert "at 0:0 the log has 'note', the program 'think'" in told.err


CHANGED = """
from aoskernel import Process, program

@program
async def brief(self: Process, topic: str) -> str:
    return (await self.think(topic)).text
"""


def test_a_replay_writes_nothing(aosk: Aosk, past: Past) -> None:
    pid = past.chooses
    before = aosk("ps", "--json").document
    aosk("replay", str(pid))
    assert aosk("ps", "--json").document == before


def test_a_replay_needs_the_program(aosk: Aosk, past: Past) -> None:
    pid = past.briefed
    told = aosk("replay", str(pid), "--program", "errands:listen")
    assert told.code == ExitCode.FAILED
    assert "runs brief version 1; loaded: listen version 1" in told.err


def test_a_replay_asks_which_program(aosk: Aosk, durable: Durable) -> None:
    durable(programs=())
    told = aosk("replay", "1")
    assert told.code == ExitCode.USAGE
    assert "--program module:name" in told.err


def test_the_step_that_a_process_is_in_is_replayed(
    aosk: Aosk, durable: Durable, tmp_path: Path
) -> None:
    (pid,) = run(durable(), Count(to=2, file=str(tmp_path / "lines")))
    assert json.loads(aosk("replay", str(pid), "--json").out)["ok"]


def test_a_check_names_the_line_that_reads_a_clock(aosk: Aosk, durable: Durable) -> None:
    (pid,) = run(durable(), stray())
    assert aosk("replay", str(pid)).code == ExitCode.OK
    told = aosk("replay", str(pid), "--check", "--json")
    assert told.code == ExitCode.FAILED
    assert told.document["error"]["kind"] == "unjournaled"
    lines, first = inspect.getsourcelines(stray.function)
    line = first + next(n for n, text in enumerate(lines) if "time.time()" in text)
    assert f"errands.py:{line}: time.time is in no log" in told.err
    assert "`await process.now()`" in told.err


def test_a_check_of_a_program_that_keeps_to_its_process_finds_nothing(
    aosk: Aosk, past: Past
) -> None:
    told = aosk("replay", str(past.looked_up), "--check")
    assert told.code == ExitCode.OK
    assert "reads no clock" in told.out


# Where nothing can be seen


@pytest.mark.parametrize(
    "command",
    [["ps"], ["health"], ["wait", "1"], ["asks"], ["up"], ["db", "status"], ["db", "migrate"]],
)
@pytest.mark.usefixtures("workspace")
def test_with_storage_in_memory_it_is_told_what_to_configure(
    aosk: Aosk, command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "aosk.toml").write_text('[services.storage]\ndriver = "memory"\n')
    told = aosk(*command, "--json")
    assert told.code == ExitCode.CONFIG
    assert 'driver = "embedded"' in told.err
    assert told.document["error"]["kind"] == "nothing_outlives"


def test_who_follows_a_process_may_go(durable: Durable) -> None:
    config = durable()
    (pid,) = leave(config, listen())
    command = [sys.executable, "-W", "error", "-m", "aoskernel", "attach", str(pid)]
    with subprocess.Popen(command, cwd=config.parent, stderr=subprocess.PIPE, text=True) as attach:
        assert attach.stderr is not None
        assert "does not go on" in attach.stderr.readline()
        attach.send_signal(signal.SIGINT)
        assert attach.wait(30) == ExitCode.INTERRUPTED
        assert attach.stderr.read() == f"aosk: interrupted; process {pid} goes on\n"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "0.00 ms"),
        (0.00012345, "0.123 ms"),
        (0.0124, "12.4 ms"),
        (0.99951, "1.00 s"),
        (0.83, "830 ms"),
        (12, "12.0 s"),
        (998, "998 s"),
        (7200, "2 h"),
    ],
)
def test_a_duration_has_three_figures(seconds: float, told: str) -> None:
    assert duration(seconds) == told
