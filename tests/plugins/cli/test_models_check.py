"""`aosk models check`: the conformance kit on a configured model."""

from pathlib import Path

import pytest

from aoskernel.plugins.cli.exits import ExitCode

from .conftest import Aosk

TOLD = """\
from aoskernel.drivers.llm.scripted import Scripted
from aoskernel.subsystems.llm.conformance import script
from aoskernel.subsystems.llm.driver import Price

class Told(Scripted):
    def __init__(self, slots: int = 4, context_window: int = 8192) -> None:
        super().__init__(script=script, slots=slots, context_window=context_window)

class Dear(Told):
    def card(self):
        price = Price(currency="EUR", prompt=1, completion=1000)
        return super().card().model_copy(update={"price": price})

class Deaf(Told):
    async def complete(self, ask, emit, meter):
        async def nothing(text, kind="text"):
            pass
        return await super().complete(ask, nothing, meter)
"""
CONFIG = """\
[services."llm.default"]
driver = "told_models:Told"
[services."llm.dear"]
driver = "told_models:Dear"
[services."llm.deaf"]
driver = "told_models:Deaf"
[services."llm.far"]
driver = "openai"
model = "tiny"
context_window = 4096
base_url = "http://models.invalid/v1"
[services."llm.near"]
driver = "openai"
model = "tiny"
context_window = 4096
base_url = "http://127.0.0.1:9/v1"
[services."llm.own"]
driver = "openai"
vendor = "llamacpp"
model = "tiny"
"""


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "told_models.py").write_text(TOLD, "utf-8")
    (tmp_path / "aosk.toml").write_text(CONFIG, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_driver_that_conforms_passes(aosk: Aosk) -> None:
    told = aosk("models", "check")
    assert told.code == ExitCode.OK
    assert "failed" not in told.out
    assert "passed" in told.out
    assert "the card of scripted says: no reasoning" in told.out


def test_every_check_is_in_the_document(aosk: Aosk) -> None:
    document = aosk("models", "check", "default", "--json").document
    assert document["ok"]
    assert document["address"] == "llm.default"
    assert document["card"]["model"] == "scripted"
    assert {check["outcome"] for check in document["checks"]} == {"passed", "not applicable"}
    assert all(check["says"].endswith(".") for check in document["checks"])
    assert sum(document["counts"].values()) == len(document["checks"])


def test_a_driver_that_does_not_conform_ends_with_1(aosk: Aosk) -> None:
    told = aosk("models", "check", "llm.deaf", "--json")
    assert told.code == ExitCode.FAILED
    assert not told.document["ok"]
    failed = {c["check"]: c["reason"] for c in told.document["checks"] if c["outcome"] == "failed"}
    assert "emitted: ''" in failed["an_answer_comes_in_pieces"]


def test_some_checks_can_be_chosen(aosk: Aosk) -> None:
    document = aosk("models", "check", "--only", "schema", "--json").document
    assert len(document["checks"]) > 1
    assert all("schema" in check["check"] for check in document["checks"])


def test_a_model_with_a_price_is_asked_for_first(aosk: Aosk) -> None:
    told = aosk("models", "check", "dear")
    assert told.code == ExitCode.USAGE
    assert "calls" in told.err
    assert "EUR at the most" in told.err
    assert "--yes" in told.err
    assert not told.out
    assert aosk("models", "check", "dear", "--yes").code == ExitCode.OK


def test_a_model_on_another_machine_is_asked_for_first(aosk: Aosk) -> None:
    told = aosk("models", "check", "far")
    assert told.code == ExitCode.USAGE
    assert "--yes" in told.err


@pytest.mark.parametrize("address", ["near", "own"])
def test_a_model_on_this_machine_is_not(address: str, aosk: Aosk) -> None:
    told = aosk("models", "check", address, "--only", "exclude_each_other")
    assert told.code == ExitCode.OK
    assert "1 passed" in told.out


def test_an_unknown_model_names_those_that_are_configured(aosk: Aosk) -> None:
    told = aosk("models", "check", "other")
    assert told.code == ExitCode.USAGE
    assert "llm.deaf" in told.err


def test_an_unknown_check_names_those_that_there_are(aosk: Aosk) -> None:
    told = aosk("models", "check", "--only", "teapot")
    assert told.code == ExitCode.USAGE
    assert "a_schema_makes_the_answer_json" in told.err
