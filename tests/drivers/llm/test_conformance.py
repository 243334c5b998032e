"""Every model driver passes the conformance kit, against servers that nobody here wrote."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
import servers

from aoskernel.drivers.llm.anthropic import Anthropic
from aoskernel.drivers.llm.llamacpp import LlamaCpp
from aoskernel.drivers.llm.ollama import Ollama
from aoskernel.drivers.llm.openai import OpenAI
from aoskernel.drivers.llm.scripted import Scripted
from aoskernel.subsystems.llm.conformance import CHECKS, Check, Subject, script
from aoskernel.subsystems.llm.driver import LLM, ModelCard

pytestmark = pytest.mark.asyncio(loop_scope="module")
every_check = pytest.mark.parametrize("check", CHECKS, ids=str)

DROPPED = "the template of this model drops the tools, and the server counts what is left"
PROXY = "the proxy counts words, and says that every reply has stopped"
HISTORY = "the proxy hands calls on in Ollama's shape, which the server behind it refuses"

SMALL = {"context_window": 512}
ONE_SLOT = {"slots": 1}


@every_check
async def test_the_scripted_driver_conforms(check: Check) -> None:
    await check(
        Subject(
            make=lambda **config: Scripted(script=script, **config),
            nature="told",
            small_window=SMALL,
            one_slot=ONE_SLOT,
        )
    )


# The real model, in this process: loaded once


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded() -> AsyncIterator[Subject]:
    subject = Subject(make=LlamaCpp, small_window=SMALL, one_slot=ONE_SLOT, cache_from=100)
    async with subject.model() as model:
        yield replace(subject, running=model.driver)


@pytest.mark.model
@every_check
async def test_the_llamacpp_driver_conforms(check: Check, loaded: Subject) -> None:
    await check(loaded)


# The real model, behind servers


@pytest.fixture(scope="module")
def llamacpp_url() -> Iterator[str]:
    with servers.llamacpp() as url:
        yield url


@pytest.fixture(scope="module")
def ollama_url(llamacpp_url: str) -> Iterator[str]:
    with servers.ollama(f"{llamacpp_url}/v1") as url:
        yield url


def cached(card: ModelCard) -> ModelCard:
    """With what the table cannot know: llama.cpp reads a prompt's beginning from its cache."""
    can = card.can.model_copy(update={"prefix_cache": True})
    return card.model_copy(update={"can": can})


class CachedOpenAI(OpenAI):
    def card(self) -> ModelCard:
        return cached(super().card())


class CachedAnthropic(Anthropic):
    def card(self) -> ModelCard:
        return cached(super().card())


def served(driver: Callable[..., LLM], url: str, **own: Any) -> Subject:
    """A driver before a server with the real model, greedy."""
    own = {"vendor": "llamacpp", "model": "smollm2", **own}
    return Subject(
        make=lambda **config: driver(
            base_url=url, context_window=4096, temperature=0, **own, **config
        ),
        one_slot=ONE_SLOT,
        cache_from=100,
    )


@pytest.mark.model
@every_check
async def test_the_openai_driver_conforms_before_llamacpp(check: Check, llamacpp_url: str) -> None:
    await check(served(CachedOpenAI, f"{llamacpp_url}/v1"))


@pytest.mark.model
@every_check
async def test_the_anthropic_driver_conforms_before_llamacpp(
    check: Check, llamacpp_url: str
) -> None:
    subject = served(CachedAnthropic, llamacpp_url, counting="provider")
    await check(replace(subject, exempt={"tools_cost_tokens_and_their_order_does_not": DROPPED}))


@pytest.mark.slow
@pytest.mark.model
@every_check
async def test_the_ollama_driver_conforms_before_a_proxy(check: Check, ollama_url: str) -> None:
    exempt = {
        "the_token_limit_ends_an_answer": PROXY,
        "a_schema_does_not_lift_the_token_limit": PROXY,
        "a_count_is_near_what_is_reported": PROXY,
        "a_repeated_beginning_is_read_from_the_cache": "the proxy tells of no cache",
        "a_conversation_with_calls_goes_on": HISTORY,
        "a_later_call_has_a_new_id": HISTORY,
    }
    subject = served(Ollama, ollama_url, vendor="ollama", model="local/smollm2")
    await check(replace(subject, exempt=exempt))
