"""Learns what a provider's counts say, by recursive least squares.

A count is a sum of known quantities, each times a factor that is not known well. What is known of
the factors is their value and covariance; each report narrows it. Plain lists: at a dozen factors
a matrix library would cost more than it saves.
"""

from collections.abc import Sequence
from math import sqrt
from operator import mul

STEADY = 5e-4
"""The share of its first variance that a factor gains back with each report: providers change."""
OUTLIER = 3.0
"""Deviations beyond which a report moves the factors no further."""
SURE = 0.01
"""A report within this of the estimate teaches nothing once enough has been seen."""
CHANGED = 5
"""So many outliers in a row on one side are no accident: what was known is doubted anew."""
ENOUGH = 10
MEMORY = 20
"""Reports over which the spread is averaged."""
SPREAD_LEAST, SPREAD_MOST = 0.02, 0.5


class Learner:
    """`factors` and their standard deviations `doubts`, within `least` and `most`.

    `spread`: how far counts lie from any such sum, as a share of it.
    """

    def __init__(
        self,
        factors: Sequence[float],
        doubts: Sequence[float],
        least: Sequence[float],
        most: Sequence[float],
        *,
        spread: float,
    ) -> None:
        self.factors = list(factors)
        self.seen = 0
        self._outliers = 0
        self._least, self._most = tuple(least), tuple(most)
        self._first = [doubt * doubt for doubt in doubts]
        self._first_spread = spread
        self._forget()

    def estimate(self, quantities: Sequence[float]) -> float:
        """The sum, by what is known."""
        return float(sum(map(mul, self.factors, quantities)))

    def deviation(self, quantities: Sequence[float]) -> float:
        """The standard deviation of the count from the estimate."""
        doubt = sum(map(mul, self._against(quantities), quantities))
        return sqrt(max(doubt, 0.0) + self._noise(self.estimate(quantities)))

    def learn(self, quantities: Sequence[float], count: float) -> None:
        """The count of these quantities was this."""
        estimate = self.estimate(quantities)
        error = count - estimate
        self.seen += 1
        if self.seen > ENOUGH and abs(error) < SURE * estimate:
            self._outliers = 0
            self._widen(0.0)
            return
        if abs(self._outliers) >= CHANGED:
            self._forget()
        against = self._against(quantities)
        doubt = max(sum(map(mul, against, quantities)), 0.0)
        variance = doubt + self._noise(estimate)
        deviations = error / sqrt(variance)
        self._notice(deviations)
        self._move(against, max(-OUTLIER, min(OUTLIER, deviations)) / sqrt(variance))
        self._narrow(against, variance)
        self._widen(min(deviations**2, OUTLIER**2))

    def _forget(self) -> None:
        """Keep the factors, and trust them no more than at first."""
        size = range(len(self._first))
        self._covariance = [[self._first[i] if i == j else 0.0 for j in size] for i in size]
        self.spread = self._first_spread
        self._outliers = 0

    def _notice(self, deviations: float) -> None:
        """Count the outliers in a row, those below as negative."""
        if abs(deviations) <= OUTLIER:
            self._outliers = 0
            return
        side = 1 if deviations > 0 else -1
        self._outliers = self._outliers + side if self._outliers * side >= 0 else side

    def _against(self, quantities: Sequence[float]) -> list[float]:
        return [sum(map(mul, row, quantities)) for row in self._covariance]

    def _noise(self, estimate: float) -> float:
        return (self.spread * estimate) ** 2 + 4.0

    def _move(self, against: Sequence[float], step: float) -> None:
        moved = (f + a * step for f, a in zip(self.factors, against, strict=True))
        self.factors = [
            max(least, min(most, f))
            for f, least, most in zip(moved, self._least, self._most, strict=True)
        ]

    def _narrow(self, against: Sequence[float], variance: float) -> None:
        """Each entry is computed as its mirror image is, so the matrix stays symmetric."""
        for i, row in enumerate(self._covariance):
            share = against[i]
            row[:] = [c - share * a / variance for c, a in zip(row, against, strict=True)]
            first = self._first[i]
            row[i] = min(max(row[i], 1e-9 * first) + STEADY * first, first)

    def _widen(self, surprise: float) -> None:
        """The spread is right when surprises, in deviations squared, are 1 on average."""
        grown = self.spread * sqrt(1 + (surprise - 1) / MEMORY)
        self.spread = max(SPREAD_LEAST, min(SPREAD_MOST, grown))
