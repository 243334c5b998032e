"""Counters and histograms that cost little where something happens; they are laid out when read.

A busy kernel moves a dozen of them with each turn, in one thread, and is read every few seconds:
the client library's own take a lock at each bucket.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Counter(Collector):
    """How often, or how much, by labels; one without labels begins at 0."""

    def __init__(self, name: str, told: str, labels: Labels) -> None:
        self._name, self._told, self._labels = name, told, labels
        self._counts: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        self._counts[labels] = self._counts.get(labels, 0) + by

    def collect(self) -> Iterator[Metric]:
        metric = CounterMetricFamily(self._name, self._told, labels=self._labels)
        for labels, count in self._counts.items():
            metric.add_metric(labels, count)
        yield metric


class Spread:
    """How many fell into each bucket, the last of which has no bound, and their sum."""

    __slots__ = ("buckets", "sum")

    def __init__(self, bounds: int) -> None:
        self.buckets, self.sum = [0] * (bounds + 1), 0.0


class Histogram(Collector):
    """How long, by labels; one without labels begins empty."""

    def __init__(self, name: str, told: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self._name, self._told, self._labels, self._bounds = name, told, labels, bounds
        self._ends = (*map(floatToGoString, bounds), "+Inf")
        self._spreads: dict[Labels, Spread] = {} if labels else {(): Spread(len(bounds))}

    def add(self, seconds: float, *labels: str) -> None:
        spread = self._spreads.get(labels)
        if spread is None:
            spread = self._spreads[labels] = Spread(len(self._bounds))
        spread.buckets[bisect_left(self._bounds, seconds)] += 1
        spread.sum += seconds

    def collect(self) -> Iterator[Metric]:
        metric = HistogramMetricFamily(self._name, self._told, labels=self._labels)
        for labels, spread in self._spreads.items():
            cumulated = zip(self._ends, accumulate(spread.buckets), strict=True)
            metric.add_metric(labels, list(cumulated), spread.sum)
        yield metric
