"""Models that use one provider's key say so, and say nothing of the key."""

import pytest
from pydantic import SecretStr

from aoskernel.drivers.llm.anthropic import Anthropic
from aoskernel.drivers.llm.openai import OpenAI

KEY, OTHER = SecretStr("sk-0123456789abcdef"), SecretStr("sk-fedcba9876543210")


def test_models_of_one_key_have_one_account_and_those_of_another_have_not() -> None:
    accounts = [
        OpenAI(model=model, api_key=key).card().account
        for model, key in (("gpt-5", KEY), ("gpt-5-mini", KEY), ("gpt-5", OTHER))
    ]
    assert accounts[0] == accounts[1] != accounts[2]
    assert Anthropic(model="claude-sonnet-4-5", api_key=KEY).card().account not in accounts


def test_an_account_tells_nothing_of_its_key() -> None:
    account = OpenAI(model="gpt-5", api_key=KEY).card().account
    assert account.startswith("openai-")
    assert not any(KEY.get_secret_value()[n : n + 6] in account for n in range(13))


def test_a_key_from_the_environment_is_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY.get_secret_value())
    assert (
        OpenAI(model="gpt-5").card().account
        == OpenAI(model="gpt-5-mini", api_key=KEY).card().account
    )


def test_without_a_key_the_address_is_the_account() -> None:
    here, there = (
        OpenAI(model="m", base_url=f"http://127.0.0.1:{port}/v1").card().account
        for port in (8080, 8081)
    )
    assert here != there
