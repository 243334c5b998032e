"""Storage that several kernels share: in memory, and in a real PostgreSQL."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from one_storage import OneStorage

from aoskernel.drivers.storage.embedded import Embedded


def embedded(folder: Path) -> OneStorage:
    namespace = uuid4().hex
    return OneStorage(
        lambda: Embedded(
            folder=str(folder), namespace=namespace, settings={"fsync": "off"}, lease_s=2.0
        )
    )


MAKERS: dict[str, Callable[[Path], OneStorage]] = {
    "memory": lambda folder: OneStorage(),
    "embedded": embedded,
}


@pytest.fixture(params=sorted(MAKERS))
def one(request: pytest.FixtureRequest, server_folder: Path) -> OneStorage:
    """Of each kind."""
    return MAKERS[request.param](server_folder)
