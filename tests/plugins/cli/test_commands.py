"""The commands that only look: each in words and as one JSON document."""

import subprocess
import sys
from pathlib import Path

import pytest

from aoskernel.plugins.cli.exits import ExitCode

from .conftest import Aosk


def test_help_documents_every_exit_code(aosk: Aosk) -> None:
    told = " ".join(aosk("--help").out.split())
    for code in ExitCode:
        assert f"{code.value} {code.meaning}" in told


def test_no_command_is_wrong_usage(aosk: Aosk) -> None:
    assert aosk().code == ExitCode.USAGE


def test_an_unknown_command_is_wrong_usage_in_json_too(aosk: Aosk) -> None:
    told = aosk("rum", "--json")
    assert (told.code, told.document["exit_code"]) == (2, 2)
    assert "rum" in told.document["error"]["message"]
    assert "rum" in told.err


def test_version_also_as_a_module() -> None:
    command = [sys.executable, "-m", "aoskernel", "version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("aoskernel 0.")


def test_version_in_json(aosk: Aosk) -> None:
    document = aosk("version", "--json").document
    assert document["aoskernel"] in aosk("version").out


def test_drivers_are_listed_by_kind(aosk: Aosk) -> None:
    drivers = {(d["kind"], d["name"]): d for d in aosk("drivers", "--json").document["drivers"]}
    assert drivers["llm", "scripted"]["class"] == "aoskernel.drivers.llm.scripted:Scripted"
    assert all(driver["error"] is None for driver in drivers.values())
    assert "scripted" in aosk("drivers").out


@pytest.mark.usefixtures("workspace")
def test_services_are_those_of_a_kernel_that_ran(aosk: Aosk) -> None:
    services = {s["address"]: s for s in aosk("services", "--json").document["services"]}
    assert {s["state"] for s in services.values()} == {"up"}
    assert "llm.complete" in services["llm.other"]["handles"]
    assert "llm.other" in aosk("services").out


@pytest.mark.usefixtures("no_weights")
def test_services_need_the_model(aosk: Aosk) -> None:
    told = aosk("services", "--json")
    assert told.code == ExitCode.MODEL_MISSING
    assert "aosk models fetch" in told.document["error"]["message"]


# config check


@pytest.mark.usefixtures("workspace")
def test_check_shows_the_guards_in_order(aosk: Aosk) -> None:
    document = aosk("config", "check", "--json").document
    routes = {route["topic"]: route for route in document["routes"]}
    assert document["file"] == "aosk.toml"
    guards = [
        *("policy", "failover", "retry", "scheduler"),
        *("quota", "limiter", "breaker", "journal"),
    ]
    assert routes["llm.complete"]["guards"] == guards
    assert " -> ".join([*guards, "llm.default"]) in aosk("config", "check").out


def test_check_without_a_file_checks_the_defaults(aosk: Aosk) -> None:
    assert aosk("config", "check", "--json").document["file"] is None
    assert "The default configuration" in aosk("config", "check").out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[kernal]\n", "did you mean 'kernel'?"),
        ("[services.pager]\nresidents = 3\n", "did you mean 'resident'?"),
        ('[services."llm.default"]\ndriver = "scriptd"\n', "did you mean 'scripted'?"),
        ('[services.mine]\nuse = "poet"\n', "poet"),
        ('[routes."llm.complete"]\nguards = ["police"]\n', "did you mean 'policy'?"),
        ('[routes."llm.complete"]\ndefault = "llm.defualt"\n', "did you mean 'llm.default'?"),
        ("= 1", "cannot read aosk.toml"),
    ],
)
def test_check_names_what_is_wrong_and_what_was_meant(
    aosk: Aosk, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "aosk.toml").write_text(text, "utf-8")
    result = aosk("config", "check", "--json")
    assert result.code == ExitCode.CONFIG
    assert told in result.document["error"]["message"]
    assert told in result.err


@pytest.mark.parametrize(
    "command", [("config", "check", "no.toml"), ("services", "-c", "no.toml"), ("run", "x", "-c", "no.toml")]
)  # fmt: skip
def test_a_named_file_that_is_not_there_is_an_error(aosk: Aosk, command: tuple[str, ...]) -> None:
    told = aosk(*command, "--json")
    assert told.code == ExitCode.CONFIG
    assert "no config file no.toml; `aosk init` writes one" in told.err


# models


@pytest.mark.usefixtures("workspace")
def test_models_lists_what_is_configured(aosk: Aosk) -> None:
    configured = aosk("models", "list", "--json").document["configured"]
    assert [(c["address"], c["default"]) for c in configured] == [
        ("llm.default", True),
        ("llm.other", False),
    ]
    assert "llm.other" in aosk("models", "list").out


@pytest.mark.usefixtures("no_weights")
def test_models_says_which_files_are_not_here_and_under_which_licence(aosk: Aosk) -> None:
    known = {k["name"]: k for k in aosk("models", "list", "--json").document["known"]}
    assert known["smollm2-135m-instruct"]["here"] is False
    assert known["smollm2-135m-instruct"]["licence"] == "Apache-2.0"
    assert "not here" in aosk("models", "list").out


@pytest.mark.usefixtures("no_weights")
def test_a_file_with_another_checksum_is_not_kept(aosk: Aosk, tmp_path: Path) -> None:
    (tmp_path / "fake.gguf").write_bytes(b"GGUF" + bytes(1000))
    told = aosk("models", "fetch", "--from", "fake.gguf", "--json")
    assert told.code == ExitCode.MODEL_MISSING
    assert "SHA-256" in told.document["error"]["message"]
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_an_unknown_model_cannot_be_fetched(aosk: Aosk) -> None:
    told = aosk("models", "fetch", "smollm3")
    assert told.code == ExitCode.USAGE
    assert "smollm2-135m-instruct" in told.err


@pytest.mark.model
def test_what_is_here_is_not_fetched_again(aosk: Aosk) -> None:
    fetched = aosk("models", "fetch", "--json")
    assert fetched.document["fetched"] is False
    assert Path(fetched.document["path"]).stat().st_size == fetched.document["size"]
    assert "Apache-2.0" in fetched.err
