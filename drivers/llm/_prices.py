"""Prices from the library genai-prices, which knows most vendors' and is renewed often."""

from decimal import Decimal
from typing import TYPE_CHECKING

from ...subsystems.llm.driver import ModelMissing, Price

if TYPE_CHECKING:
    from genai_prices.types import TieredPrices

PROVIDERS = {
    "gemini": "google",
    "kimi": "moonshotai",
    "zhipu": "zhipuai",
    "zhipu@international": "zai",
}
"""What the library calls the vendors whose name there is another one."""


def genai_price(vendor: str, region: str | None, model: str) -> Price:
    """The price as of now, in dollars; where it rises with the prompt, its lowest step.

    Raises ModelMissing.
    """
    try:
        from genai_prices import Usage, __version__, calc_price
    except ImportError as error:
        raise ModelMissing(
            "price = \"genai-prices\" needs that library: pip install 'aoskernel[prices]'"
        ) from error
    provider = PROVIDERS.get(f"{vendor}@{region}") or PROVIDERS.get(vendor, vendor)
    try:
        # It finds a price for a usage only; what is used does not matter here.
        found = calc_price(Usage(input_tokens=1, output_tokens=1), model, provider_id=provider)
    except LookupError as error:
        raise ModelMissing(
            f"genai-prices {__version__} knows no price of {model!r} at {provider!r}; "
            "leave `price` out, or write price = { currency = ..., prompt = ..., completion = ... }"
        ) from error
    rates = found.model_price
    return Price(
        currency="USD",
        prompt=_first(rates.input_mtok) or 0,
        completion=_first(rates.output_mtok) or 0,
        cached=_first(rates.cache_read_mtok),
        cache_written=_first(rates.cache_write_mtok),
        source=f"genai-prices {__version__}",
    )


def _first(rate: "Decimal | TieredPrices | None") -> float | None:
    if rate is None or isinstance(rate, Decimal):
        return None if rate is None else float(rate)
    return float(rate.base)
