"""What only the real model can show: its threads, its listener, its file."""

import importlib.abc
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from aoskernel.drivers.llm import weights
from aoskernel.drivers.llm.llamacpp import LlamaCpp
from aoskernel.subsystems.llm.driver import (
    BadPrompt,
    ChatMessage,
    Complete,
    Completion,
    Meter,
    ModelMissing,
    ModelUnavailable,
    Sampling,
)

PATIENCE_S = 60
LONG = " ".join(f"Line {number}: the fox number {number * 7} jumps." for number in range(80))


@asynccontextmanager
async def started(**config: object) -> AsyncIterator[LlamaCpp]:
    driver = LlamaCpp(**config)  # pyright: ignore[reportArgumentType]
    with anyio.fail_after(PATIENCE_S):
        try:
            await driver.start()
            yield driver
        finally:
            await driver.stop()


def question(text: str, most: int = 16) -> Complete:
    messages = (ChatMessage(role="user", text=text),)
    return Complete(messages=messages, sampling=Sampling(max_tokens=most))


async def ignore(piece: str, kind: str = "text", /) -> None:
    pass


async def answer(driver: LlamaCpp, ask: Complete) -> Completion:
    return await driver.complete(ask, ignore, Meter())


class Watched(Meter):
    """Tells when the first tokens were counted."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = anyio.Event()

    def add(self, name: str, amount: float) -> None:
        super().add(name, amount)
        if amount:
            self.moved.set()


@pytest.mark.model
async def test_a_call_cut_while_it_reads_the_prompt_ends_and_was_metered_so_far() -> None:
    async with started() as driver:
        ask, meter = question(LONG), Watched()
        whole = await driver.count(ask.messages, ())
        async with anyio.create_task_group() as group:
            group.start_soon(driver.complete, ask, ignore, meter)
            await meter.moved.wait()
            group.cancel_scope.cancel()
        assert 0 < meter["llm.prompt_tokens"] < whole
        assert meter["llm.completion_tokens"] == 0
        assert (await answer(driver, question("Hello."))).text


@pytest.mark.model
async def test_a_repeated_prompt_comes_from_the_cache() -> None:
    async with started() as driver:
        ask = question("Count from one to ten.")
        await answer(driver, ask)
        again = await answer(driver, ask)
        assert again.usage.cached == again.usage.prompt - 1


@pytest.mark.model
async def test_without_a_cache_the_same_prompt_has_the_same_answer() -> None:
    async with started(prompt_cache_mib=0) as driver:
        ask = question("Tell a story about a fox.", most=40)
        first = await answer(driver, ask)
        await answer(driver, question("Tell a story about a fish."))
        assert await answer(driver, ask) == first
        assert first.usage.cached == 0


@pytest.mark.model
async def test_two_slots_answer_two_calls_at_once() -> None:
    async with started(slots=2, context_window=1024) as driver:
        begun, both = 0, anyio.Event()

        async def emit(piece: str, kind: str = "text", /) -> None:
            nonlocal begun
            begun += 1
            if begun == 2:
                both.set()
            await both.wait()

        async with anyio.create_task_group() as group:
            for text in ("Say one.", "Say two."):
                group.start_soon(driver.complete, question(text), emit, Meter())
        assert driver.card().context_window == 1024


@pytest.mark.model
async def test_counting_does_not_wait_for_a_slot() -> None:
    async with started() as driver:
        begun = anyio.Event()

        async def hold(piece: str, kind: str = "text", /) -> None:
            begun.set()
            await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            group.start_soon(driver.complete, question("Hello."), hold, Meter())
            await begun.wait()
            assert await driver.count(question("Hello.").messages, ()) > 0
            group.cancel_scope.cancel()


@pytest.mark.model
async def test_stopping_ends_running_and_waiting_calls_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    failures: list[ModelUnavailable] = []
    begun = anyio.Event()

    async def emit(piece: str, kind: str = "text", /) -> None:
        begun.set()

    async def call(driver: LlamaCpp) -> None:
        try:
            await driver.complete(question("Tell a long story.", most=2000), emit, Meter())
        except ModelUnavailable as failure:
            failures.append(failure)

    async with started() as driver, anyio.create_task_group() as group:
        group.start_soon(call, driver)
        group.start_soon(call, driver)
        await begun.wait()
        await driver.stop()
    assert len(failures) == 2
    assert set(threading.enumerate()) <= before
    with pytest.raises(ModelUnavailable, match="not started"):
        await driver.count((), ())


@pytest.mark.model
async def test_the_listener_is_on_loopback_and_wants_a_key() -> None:
    async with started() as driver:
        assert driver._engine
        address = str(driver._engine._http.base_url)
        assert address.startswith("http://127.0.0.1:")
        async with httpx.AsyncClient(trust_env=False, base_url=address) as stranger:
            for path in ("/props", "/slots", "/v1/models", "/"):
                assert (await stranger.get(path)).status_code in (401, 404)
            refused = await stranger.post("/tokenize", json={"content": "x"})
        assert refused.status_code == 401


@pytest.mark.model
async def test_the_signal_handlers_of_the_process_stay() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        async with started():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


@pytest.mark.model
async def test_a_conversation_that_ends_with_the_assistant_is_continued() -> None:
    async with started() as driver:
        messages = (
            ChatMessage(role="user", text="Count to five."),
            ChatMessage(role="assistant", text="One, two,"),
        )
        ask = Complete(messages=messages, sampling=Sampling(max_tokens=8))
        assert "three" in (await answer(driver, ask)).text
        with pytest.raises(BadPrompt, match="last message"):
            await answer(driver, ask.model_copy(update={"json_schema": {"type": "object"}}))


@pytest.mark.model
@pytest.mark.parametrize("size", [0, 2000, 1_000_000])
async def test_a_damaged_file_is_missing_weights_not_a_crash(tmp_path: Path, size: int) -> None:
    with weights.locate(weights.SMOLLM2.name).open("rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(size))
    with pytest.raises(ModelMissing, match=r"cut\.gguf"):
        async with started(model=str(tmp_path / "cut.gguf")):
            pass


async def test_missing_weights_name_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOSKERNEL_CACHE", str(tmp_path))
    known = weights.Known(weights.SMOLLM2, "x==1", "no_such_package_of_weights", "x.gguf")
    monkeypatch.setitem(weights.KNOWN, weights.SMOLLM2.name, known)
    with pytest.raises(ModelMissing, match="aosk models fetch smollm2-135m-instruct"):
        await LlamaCpp().start()


async def test_a_missing_library_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hidden(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "xllamacpp":
                raise ModuleNotFoundError(name=name)

    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ModelMissing, match=r"pip install 'aoskernel\[local\]'"):
        await LlamaCpp(model=str(file)).start()
