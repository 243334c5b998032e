"""The vendor table is sound, and the drivers make of a row what it says."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from aoskernel.drivers._vendors import table
from aoskernel.drivers.llm.openai import OpenAI
from aoskernel.kernel import Config, ConfigError
from aoskernel.subsystems.llm.driver import (
    BadPrompt,
    ChatMessage,
    Complete,
    Meter,
    ModelMissing,
    Sampling,
    Vendor,
)

FIXTURES = Path(__file__).parent / "vendors"
VENDORS = [pytest.param(vendor, id=name) for name, vendor in table().items()]

each_vendor = pytest.mark.parametrize("vendor", VENDORS)

NAMES = {
    "openai": "gpt-6-sol gpt-6-luna gpt-5.5 gpt-5 gpt-4o gpt-4.1 o3 o4-mini",
    "anthropic": "claude-opus-5-5 claude-sonnet-5-5 claude-haiku-5-5 claude-sonnet-4-5",
    "deepseek": "deepseek-flash deepseek-v4-pro deepseek-chat deepseek-reasoner",
    "kimi": "kimi-k3 kimi-k2.6 kimi-k2.5 moonshot-v1-8k moonshot-v1-32k moonshot-v1-128k",
    "qwen": "qwen3.8-max qwen3.8-flash qwen-turbo qwen-plus qwen-max qwen-long",
    "minimax": "MiniMax-M3 MiniMax-M2.7 abab6.5-chat abab6.5s-chat",
    "zhipu": "glm-5.3 glm-5.3-flash glm-4.7 glm-4.5-air glm-4-plus",
    "groq": "openai/gpt-oss-120b llama-3.3-70b-versatile moonshotai/kimi-k2-instruct",
    "openrouter": "anthropic/claude-sonnet-4.5 openai/gpt-6-sol",
    "mistral": "mistral-large-4 mistral-small-latest codestral-latest ministral-8b-2512",
    "gemini": "gemini-4-argon gemini-3.8-flash gemini-2.5-pro",
    "ollama": "",
    "vllm": "",
    "llamacpp": "",
}
"""What people call by name, gone or not."""

RETIRED = (
    "deepseek-chat deepseek-reasoner qwen-turbo qwen-max kimi-k2.5 moonshot-v1-8k abab6.5-chat"
)


# The facts


def test_the_vendors_are_those_that_are_promised() -> None:
    assert set(table()) == set(NAMES)


@each_vendor
def test_names_that_the_field_knows_are_listed(vendor: Vendor) -> None:
    missing = [name for name in NAMES[vendor.name].split() if vendor.model(name) is None]
    assert not missing


@pytest.mark.parametrize("name", RETIRED.split())
def test_names_that_are_gone_are_marked(name: str) -> None:
    found = [model for row in table().values() if (model := row.model(name))]
    assert [bool(model.retired) for model in found] == [True]


@each_vendor
def test_what_is_gone_names_a_day_and_what_took_its_place(vendor: Vendor) -> None:
    for model in vendor.models:
        if model.retired:
            told = re.fullmatch(r"(before )?20\d\d-\d\d(-\d\d)?: use (\S+)", model.retired)
            assert told is not None, model.name
            successor = vendor.model(told[3])
            assert successor is not None, model.name
            assert not successor.retired, model.name


@each_vendor
def test_a_row_says_when_it_was_checked_and_where(vendor: Vendor) -> None:
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", vendor.checked)
    assert vendor.source
    assert all(url.startswith("https://") for url in vendor.source)


@each_vendor
def test_every_price_says_who_says_so(vendor: Vendor) -> None:
    prices = [p for m in vendor.models for p in (m.price, *m.regional.values()) if p]
    assert all(price.source for price in prices)
    assert all(price.cached is None or price.cached < price.prompt for price in prices)


@each_vendor
def test_a_key_has_a_variable_unless_the_server_is_ones_own(vendor: Vendor) -> None:
    urls = [endpoint.base_url for endpoint in vendor.endpoints.values()]
    is_local = all(url.startswith("http://127.0.0.1:") for url in urls)
    assert bool(vendor.key) != is_local
    assert not vendor.key or re.fullmatch(r"[A-Z]+_API_KEY", vendor.key)
    assert is_local or all(url.startswith("https://") for url in urls)


@each_vendor
def test_the_first_region_is_the_one_without_a_word(vendor: Vendor) -> None:
    for endpoint in vendor.endpoints.values():
        assert next(iter(endpoint.regions.values()), endpoint.base_url) == endpoint.base_url
        assert all(url.startswith("https://") for url in endpoint.regions.values())
    known = set().union(*(endpoint.regions for endpoint in vendor.endpoints.values()))
    assert all(set(model.regional) <= known for model in vendor.models)


@each_vendor
def test_a_vendor_that_takes_no_schema_has_no_model_that_can(vendor: Vendor) -> None:
    spoken = vendor.endpoints.get("openai")
    if spoken is not None and spoken.schema_as == "none":
        assert not any(model.can.json_schema for model in vendor.models)


def test_no_two_makers_have_a_model_of_one_name() -> None:
    makers = [vendor for vendor in table().values() if not vendor.open]
    names = Counter(model.name.lower() for vendor in makers for model in vendor.models)
    assert [name for name, count in names.items() if count > 1] == []


# Names


@each_vendor
def test_every_model_is_found_by_its_own_name(vendor: Vendor) -> None:
    assert [vendor.model(model.name) for model in vendor.models] == list(vendor.models)


@pytest.mark.parametrize(
    ("vendor", "name", "known"),
    [
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("anthropic", "claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("qwen", "qwen-plus-latest", "qwen-plus"),
        ("qwen", "qwen3.8-max-0902", "qwen3.8-max"),
        ("mistral", "mistral-large-latest", "mistral-large-latest"),
    ],
)
def test_a_dated_name_means_the_model_of_that_day(vendor: str, name: str, known: str) -> None:
    found = table()[vendor].model(name)
    assert found is not None
    assert found.name == known


@pytest.mark.parametrize("name", ["gpt-6-sol-mini", "gpt-40", "gpt-4o-12345", "gpt-4o-"])
def test_a_longer_name_is_another_model(name: str) -> None:
    assert table()["openai"].model(name) is None


# What a driver makes of a row


def test_a_price_is_that_of_the_region() -> None:
    at_home = OpenAI(vendor="zhipu", model="glm-5.3").card().price
    abroad = OpenAI(vendor="zhipu", model="glm-5.3", region="international").card().price
    assert at_home is not None
    assert abroad is not None
    assert (at_home.currency, abroad.currency) == ("CNY", "USD")


def test_a_region_whose_price_is_not_known_has_none() -> None:
    assert OpenAI(vendor="qwen", model="qwen-plus").card().price is not None
    assert OpenAI(vendor="qwen", model="qwen-plus", region="us").card().price is None


@pytest.mark.parametrize(
    ("vendor", "model", "sampling", "why"),
    [
        ("openai", "gpt-6-sol", {"temperature": 0.0}, "leave temperature and top_p out"),
        ("kimi", "kimi-k3", {"top_p": 0.5}, "leave temperature and top_p out"),
        ("minimax", "MiniMax-M3", {"temperature": 0.0}, "takes at least 0.01"),
        ("zhipu", "glm-5.3", {"temperature": 1.5}, "takes at most 1"),
    ],
)
async def test_sampling_that_a_row_refuses_is_refused_before_it_is_sent(
    vendor: str, model: str, sampling: dict[str, float], why: str
) -> None:
    driver = OpenAI(vendor=vendor, model=model)
    ask = Complete(
        messages=(ChatMessage(role="user", text="Hi."),),
        sampling=Sampling.model_validate(sampling),
    )

    async def emit(*_: str) -> None: ...

    with pytest.raises(BadPrompt, match=why):
        await driver.complete(ask, emit, Meter())


# Prices from a library


def configured(model: str, vendor: str = "deepseek") -> Config:
    price = {"driver": "openai", "vendor": vendor, "model": model, "price": "genai-prices"}
    return Config.model_validate({"services": {"llm.default": price}})


def test_genai_prices_is_a_source_that_the_config_can_name() -> None:
    library = pytest.importorskip("genai_prices")
    configured("deepseek-flash").build()
    price = OpenAI(vendor="deepseek", model="deepseek-flash", price="genai-prices").card().price
    assert price is not None
    assert price.currency == "USD"
    assert price.source == f"genai-prices {library.__version__}"
    assert price.cached is not None
    assert 0 < price.cached < price.prompt < price.completion


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ModelMissing, match=r"pip install 'aoskernel\[prices\]'"):
        configured("deepseek-flash").build()


def test_a_model_that_the_library_does_not_know_is_named() -> None:
    pytest.importorskip("genai_prices")
    with pytest.raises(ModelMissing, match="no price of 'qwen-long'"):
        configured("qwen-long", "qwen").build()


def test_another_word_for_a_price_is_refused() -> None:
    table = {"driver": "openai", "vendor": "deepseek", "model": "deepseek-flash", "price": "cheap"}
    with pytest.raises(ConfigError, match="genai-prices"):
        Config.model_validate({"services": {"llm.default": table}}).build()


# The fixtures


@pytest.mark.parametrize("file", sorted(FIXTURES.glob("*.json")), ids=lambda file: file.stem)
def test_a_fixture_says_where_it_is_from_and_holds_two_refusals(file: Path) -> None:
    told = json.loads(file.read_text("utf-8"))
    assert file.stem == f"{told['vendor']}.{told['wire']}"
    assert told["wire"] in table()[told["vendor"]].endpoints
    assert told["made"] in ("transcribed", "recorded")
    assert all(url.startswith("https://") for url in told["source"])
    refusals = [refusal["what"] for refusal in told["errors"]]
    assert len(refusals) >= 2
    assert set(told.get("unchecked", ())) <= {"reply", *refusals}
