"""One warm server for each module of trials."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("chaos.oracle")

from chaos.trial import Ground, ground


@pytest.fixture(scope="module")
def warm() -> Iterator[Ground]:
    """A server that no trial has to start, and that does not wait for its disk."""
    with ground(fsync="off") as kept:
        yield kept
