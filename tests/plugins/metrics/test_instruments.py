"""What the instruments add up, read as a Prometheus would."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Theirs

from aoskernel.plugins.metrics.instruments import Counter, Histogram

BOUNDS = (0.1, 0.5, 1.0, 10)
SECONDS = st.one_of(st.floats(0, 20), st.sampled_from(BOUNDS), st.just(math.inf))


def test_a_counter_without_labels_is_there_from_the_beginning() -> None:
    registry = CollectorRegistry()
    plain, labelled = Counter("plain", "p", ()), Counter("labelled", "l", ("who",))
    registry.register(plain)
    registry.register(labelled)
    assert registry.get_sample_value("plain_total") == 0
    assert registry.get_sample_value("labelled_total", {"who": "a"}) is None
    labelled.add("a", by=3)
    labelled.add("a")
    assert registry.get_sample_value("labelled_total", {"who": "a"}) == 4


@given(st.lists(SECONDS, max_size=20))
def test_a_histogram_shows_what_the_client_librarys_own_would(seconds: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("took_seconds", "How long.", ("who",), BOUNDS)
    ours.register(histogram)
    other = Theirs("took_seconds", "How long.", ["who"], buckets=BOUNDS, registry=theirs)
    for one in seconds:
        histogram.add(one, "a")
        other.labels("a").observe(one)
    lines = generate_latest(theirs).decode().splitlines()
    assert generate_latest(ours).decode().splitlines() == [
        line for line in lines if "_created" not in line
    ]
