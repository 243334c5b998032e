"""What a call has used, on its meter as it is used."""

from ...subsystems.llm.driver import Meter, Usage

METERED = (
    ("llm.prompt_tokens", "prompt"),
    ("llm.cached_tokens", "cached"),
    ("llm.completion_tokens", "completion"),
    ("llm.cache_written_tokens", "cache_written"),
    ("llm.reasoning_tokens", "reasoning"),
)


class Bill:
    """Keeps a call's meter at what was used so far."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._settled = Usage(prompt=0, completion=0)

    def settle(self, used: Usage) -> None:
        """This much was used, all in all."""
        before, self._settled = self._settled, used
        if used is before:
            return
        for name, value in METERED:
            if change := getattr(used, value) - getattr(before, value):
                self._meter.add(name, change)
