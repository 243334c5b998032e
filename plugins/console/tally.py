"""What models have used, by process and by address; bounded."""

from collections import Counter
from typing import Any

from ...subsystems.llm.messages import Price, Usage
from ...subsystems.storage.messages import Pid

MOST = 4096
"""Processes whose use is remembered, those that were at a model last."""


class Use:
    """Calls, tokens, and money where prices are known; one unpriced call makes the sum unknown."""

    __slots__ = ("calls", "completion", "failed", "money", "prompt", "unpriced")

    def __init__(self) -> None:
        self.calls = self.failed = self.prompt = self.completion = self.unpriced = 0
        self.money: Counter[str] = Counter()

    def add(self, usage: Usage, price: Price | None, *, failed: bool) -> None:
        self.calls += 1
        self.failed += failed
        self.prompt += usage.prompt
        self.completion += usage.completion
        if price is None:
            self.unpriced += 1
        else:
            self.money[price.currency] += price.of(usage)  # type: ignore[assignment]

    def told(self) -> dict[str, Any]:
        """As JSON; `money` by currency, None where some of it is not known."""
        return {
            "calls": self.calls,
            "failed": self.failed,
            "prompt": self.prompt,
            "completion": self.completion,
            "money": None if self.unpriced else dict(self.money),
        }


class Tally:
    """The uses of processes and of addresses."""

    def __init__(self) -> None:
        self.addresses: dict[str, Use] = {}
        self._processes: dict[Pid, Use] = {}

    def of_address(self, address: str) -> Use:
        return self.addresses.setdefault(address, Use())

    def of_process(self, pid: Pid) -> Use:
        """Of the process, which is thereby the last that was at a model."""
        use = self._processes[pid] = self._processes.pop(pid, Use())
        if len(self._processes) > MOST:
            del self._processes[next(iter(self._processes))]
        return use

    def known(self, pid: Pid) -> Use | None:
        return self._processes.get(pid)
