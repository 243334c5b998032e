"""`aosk run`: what it prints, what it refuses, what it never does, and how it ends."""

import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aoskernel.plugins.cli.exits import ExitCode

from .conftest import CONFIG, NOTES, Aosk

TASK = "What does notes.txt say about Friday?"

SLOW = """
[services.storage]
driver = "memory"

[services."llm.default"]
driver = "scripted"
token_s = 0.02
rules = [{ say = "%s" }]
""" % ("word " * 2000)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "aoskernel", *arguments]


# What it does


@pytest.mark.usefixtures("workspace")
def test_with_a_file_it_reads_first_and_then_thinks(aosk: Aosk) -> None:
    told = aosk("run", TASK, "--file", "notes.txt")
    assert (told.code, told.out) == (0, "It moved to Friday.\n")
    assert told.err.index("call:read_file") < told.err.index("think")


@pytest.mark.usefixtures("workspace")
def test_without_a_file_the_model_chooses_the_tool(aosk: Aosk) -> None:
    told = aosk("run", TASK)
    assert (told.code, told.out) == (0, "It moved to Friday.\n")
    assert told.err.index("think") < told.err.index("call:read_file")


@pytest.mark.usefixtures("workspace")
def test_json_lines_are_events_and_then_the_result(aosk: Aosk) -> None:
    *events, result = aosk("run", TASK, "-f", "notes.txt", "--json").lines
    assert result["ok"] is True
    assert result["answer"] == "It moved to Friday."
    assert result["usage"]["completion"] > 0
    assert events[0]["event"] == "process.spawned"
    assert events[-1]["event"] == "process.exited"
    pieces = [event["text"] for event in events if event["event"] == "llm.delta"]
    assert "".join(pieces) == result["answer"]


@pytest.mark.usefixtures("workspace")
def test_a_chinese_task_is_answered_in_chinese(aosk: Aosk) -> None:
    told = aosk("run", "星期五有什么事？")
    assert (told.code, told.out) == (0, "星期五十点开会。\n")
    assert aosk("run", "星期五有什么事？", "--json").lines[-1]["answer"] == "星期五十点开会。"


@pytest.mark.usefixtures("workspace")
def test_a_chinese_task_tells_what_the_model_is_and_what_else_there_is(aosk: Aosk) -> None:
    told = aosk("run", "星期五有什么事？", "-f", "notes.txt").err
    assert "answer in Chinese. No model: it says what its script says." in told
    assert "--model llm.other" in told


ALIAS = """
[services."llm.smart"]
use = "alias"
models = ["llm.other", "llm.default"]
"""


@pytest.mark.parametrize("name", ["llm.smart", "smart"])
def test_an_alias_is_named_like_a_model(aosk: Aosk, workspace: Path, name: str) -> None:
    (workspace / "aosk.toml").write_text(CONFIG + ALIAS, "utf-8")
    *_, result = aosk("run", TASK, "--model", name, "--json").lines
    assert result["answer"] == "I am the other."
    configured = aosk("models", "list", "--json").document["configured"]
    assert ("llm.smart", "alias", "llm.other, llm.default") in [
        (c["address"], c["driver"], c["model"]) for c in configured
    ]


CUT = """
[services."llm.default"]
driver = "moody:CutOnce"
script = ["one two three"]

[services.retry]
first_s = 0.001
"""


def test_a_reply_that_was_cut_is_told_apart_from_the_one_that_follows(
    aosk: Aosk, workspace: Path
) -> None:
    (workspace / "aosk.toml").write_text(CUT, "utf-8")
    told = aosk("run", "count")
    assert told.out == "one two \none two three\n"
    assert "The reply was cut and is made again" in told.err


@pytest.mark.parametrize("name", ["llm.other", "other"])
@pytest.mark.usefixtures("workspace")
def test_a_configured_model_is_named_by_its_address(aosk: Aosk, name: str) -> None:
    *_, result = aosk("run", TASK, "--model", name, "--json").lines
    assert (result["answer"], result["model"]) == ("I am the other.", "scripted:other")


def test_files_are_named_from_here_wherever_the_workspace_is(
    aosk: Aosk, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = workspace / "aosk.toml"
    config.write_text(CONFIG + f'[services."tools.files"]\nroot = "{workspace}"\n', "utf-8")
    (workspace / "below").mkdir()
    monkeypatch.chdir(workspace / "below")
    told = aosk("run", TASK, "-c", str(config), "-f", "../notes.txt")
    assert told.out == "It moved to Friday.\n"


def test_on_a_terminal_the_status_moves_and_the_answer_stays(workspace: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("run", TASK, "-f", "notes.txt"),
        cwd=workspace,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = bytearray()
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # what Linux says when the other side has closed
        pass
    assert process.wait(30) == 0
    os.close(ours)
    assert b"\x1b[" in shown
    assert shown.decode().rstrip().endswith("It moved to Friday.")


# What it refuses


def test_a_file_outside_of_the_workspace_is_refused(aosk: Aosk, workspace: Path) -> None:
    (workspace / "inside").mkdir()
    config = workspace / "aosk.toml"
    config.write_text(CONFIG + '[services."tools.files"]\nroot = "inside"\n', "utf-8")
    told = aosk("run", TASK, "--file", "notes.txt", "--json")
    assert told.code == ExitCode.TOOL
    message = told.lines[-1]["error"]["message"]
    assert "outside the workspace" in message
    assert f"The workspace is {workspace / 'inside'}" in message
    assert "copy the file there, or set root" in message
    assert NOTES.strip() not in told.out


@pytest.mark.usefixtures("workspace")
def test_a_file_that_is_not_there_is_named(aosk: Aosk) -> None:
    told = aosk("run", TASK, "-f", "notes.md")
    assert told.code == ExitCode.TOOL
    assert "'notes.md' does not exist" in told.err


def test_what_the_policy_does_not_allow_is_refused_with_the_rule_to_add(
    aosk: Aosk, workspace: Path
) -> None:
    config = workspace / "aosk.toml"
    config.write_text(CONFIG + '[services.policy]\nallow = ["llm.complete:*"]\n', "utf-8")
    told = aosk("run", TASK, "-f", "notes.txt", "--json")
    assert told.code == ExitCode.REFUSED
    assert told.lines[-1]["error"]["kind"] == "Refused"
    assert "tools.call:read_file" in told.err


@pytest.mark.usefixtures("workspace")
def test_an_unknown_model_is_wrong_usage_and_names_the_known(aosk: Aosk) -> None:
    told = aosk("run", TASK, "--model", "gpt")
    assert told.code == ExitCode.USAGE
    assert "llm.default, llm.other" in told.err
    assert "smollm2-135m-instruct" in told.err


@pytest.mark.usefixtures("workspace")
def test_a_model_file_that_is_not_there_is_missing(aosk: Aosk) -> None:
    told = aosk("run", TASK, "--model", "big.gguf", "--json")
    assert told.code == ExitCode.MODEL_MISSING
    assert "big.gguf" in told.document["error"]["message"]


@pytest.mark.usefixtures("no_weights")
def test_missing_weights_name_the_command_that_brings_them(aosk: Aosk) -> None:
    told = aosk("run", TASK)
    assert told.code == ExitCode.MODEL_MISSING
    assert "aosk models fetch smollm2-135m-instruct" in told.err


@pytest.mark.usefixtures("workspace")
def test_a_model_that_fails_is_told_in_a_paragraph(aosk: Aosk) -> None:
    told = aosk("run", "Sing.")
    assert told.code == ExitCode.FAILED
    assert "aosk: the agent failed: no rule matches" in told.err
    assert "Traceback" not in told.err


# Keys


@pytest.mark.usefixtures("workspace")
def test_a_key_in_the_environment_is_never_used(
    aosk: Aosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("somebody connects")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret")
    told = aosk("run", "星期五有什么事？", "--json")
    assert told.lines[-1]["model"] == "scripted:default"
    assert "sk-secret" not in told.out + told.err
    assert "DEEPSEEK_API_KEY is set" in told.err


# How it ends


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_ctrl_c_stops_the_kernel_and_ends_cleanly(tmp_path: Path, json: tuple[str, ...]) -> None:
    (tmp_path / "aosk.toml").write_text(SLOW, "utf-8")
    process = subprocess.Popen(
        command("run", "Speak.", *json),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "word" not in process.stdout.read(5):
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=8)  # less than the kernel's drain
    assert process.returncode == ExitCode.INTERRUPTED
    assert "interrupted; the kernel has stopped" in err
    assert "Traceback" not in err
    assert not json or '"exit_code": 130' in out.splitlines()[-1]


def test_a_closed_pipe_ends_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "aosk.toml").write_text(SLOW, "utf-8")
    process = subprocess.Popen(
        command("run", "Speak."),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.read(4) == "word"
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(8) == ExitCode.FAILED
    assert "Traceback" not in err


def test_debug_shows_the_traceback(workspace: Path) -> None:
    done = subprocess.run(
        command("run", "Sing.", "--debug"),
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == ExitCode.FAILED
    assert "Traceback" in done.stderr
    assert "aosk: the agent failed" in done.stderr


# On the real model


@pytest.mark.model
def test_the_embedded_model_answers_from_a_file(aosk: Aosk) -> None:
    aosk("init")
    *_, result = aosk("run", TASK, "--file", "notes.txt", "--json").lines
    assert result["model"] == "smollm2-135m-instruct"
    assert result["usage"]["prompt"] > result["usage"]["completion"] > 0
    assert "Friday" in result["answer"]
