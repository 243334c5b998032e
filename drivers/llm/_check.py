"""What cannot work is refused before money is spent."""

from ...subsystems.llm.driver import BadPrompt, Capabilities, Complete, Endpoint, VendorModel


def check_held(ask: Complete, model: str, can: Capabilities) -> None:
    """Can this model be asked with these tools, or this schema? Raises BadPrompt."""
    if ask.tools and ask.json_schema is not None:
        raise BadPrompt("tools and json_schema exclude each other: leave one out")
    if ask.tools and not can.tools:
        raise BadPrompt(f"{model} cannot call tools: leave them out, or take another model")
    if ask.json_schema is not None and not can.json_schema:
        raise BadPrompt(f"{model} cannot be held to a JSON schema: leave it out")
    if ask.json_schema is not None and ask.sampling.stop:
        raise BadPrompt("a stop text would cut the JSON: leave `stop` or `json_schema` out")


def check_sampling(
    ask: Complete,
    model: str,
    known: VendorModel,
    at: Endpoint,
    *,
    title: str,
    temperature: float | None,
) -> None:
    """Will the vendor draw tokens like this? `temperature` is the config's. Raises BadPrompt."""
    sampling, most = ask.sampling, known.max_output
    if most is not None and (sampling.max_tokens or 0) > most:
        raise BadPrompt(f"max_tokens is {sampling.max_tokens}; {model} writes at most {most}")
    heat = temperature if sampling.temperature is None else sampling.temperature
    if known.fixed_sampling and (heat is not None or sampling.top_p is not None):
        raise BadPrompt(
            f"{model} draws as it will: leave temperature and top_p out, here and in "
            "the service's table"
        )
    if heat is not None and not at.min_temperature <= heat <= at.max_temperature:
        least, hottest = at.min_temperature, at.max_temperature
        bound = f"at least {least:g}" if heat < least else f"at most {hottest:g}"
        raise BadPrompt(f"temperature is {heat:g}; {title} takes {bound}")
