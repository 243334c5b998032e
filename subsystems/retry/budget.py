"""The retry budget: how many repetitions an address may be sent besides its calls."""

from collections import deque

PARTS = 10
"""Into so many the window is cut; it moves on by one of them at a time."""


class RetryBudget:
    """Retries are at most a `share` of the calls of the last `window_s` seconds, and `spare`.

    So an address that is in trouble gets hardly more calls than before, and somebody who calls
    rarely may repeat all the same.
    """

    def __init__(self, share: float, spare: int, window_s: float) -> None:
        self.share, self.spare = share, spare
        self._part_s = window_s / PARTS
        self._parts: deque[list[int]] = deque()  # its number, calls and retries in it
        self._calls = self._retries = 0

    def count(self, now: float) -> None:
        """There is a call."""
        self._part(now)[1] += 1
        self._calls += 1

    def spend(self, now: float) -> bool:
        """Take one retry, if there is one."""
        part = self._part(now)
        if self._retries + 1 > self.spare + self.share * self._calls:
            return False
        part[2] += 1
        self._retries += 1
        return True

    def _part(self, now: float) -> list[int]:
        """The part of the window that is now; what is older than the window is forgotten."""
        number, parts = int(now // self._part_s), self._parts
        if parts and parts[-1][0] == number:
            return parts[-1]
        while parts and parts[0][0] <= number - PARTS:
            _, calls, retries = parts.popleft()
            self._calls -= calls
            self._retries -= retries
        parts.append([number, 0, 0])
        return parts[-1]
