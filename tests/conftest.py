"""What every suite may use."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from system import System, scripted_kernel

from aoskernel.drivers.storage._embedded_cluster import Cluster


@pytest.fixture
def system() -> System:
    return scripted_kernel


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Of an embedded server that runs as long as the tests; each has a namespace of its own.

    It is none of pytest's: those let nobody else in, and a server started by root is another
    user.
    """
    folder = Path(tempfile.mkdtemp(prefix="aosk-tests-"))
    folder.chmod(0o711)
    cluster = anyio.run(partial(Cluster.attach, folder / "data", settings={"fsync": "off"}))
    yield folder / "data"
    anyio.run(cluster.detach)
    shutil.rmtree(folder, ignore_errors=True)  # the server may still be writing its last
