"""What every suite may use."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from system import System, scripted_kernel

from aoskernel.drivers.storage._embedded_cluster import Cluster
from aoskernel.kernel import KernelError


@pytest.fixture
def system() -> System:
    return scripted_kernel


class _Unseen(logging.Handler):
    """What asyncio says of errors of ours that nobody has looked at; a library has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info and record.exc_info[1]
        if isinstance(error, KernelError):
            self.said.append(record.getMessage())


@pytest.fixture(autouse=True)
def _no_error_goes_unseen() -> Iterator[None]:
    """An error in a future that nobody awaits is one that somebody should have been told of."""
    logger, unseen = logging.getLogger("asyncio"), _Unseen()
    logger.addHandler(unseen)
    yield
    logger.removeHandler(unseen)
    assert not unseen.said, unseen.said


@pytest.fixture(scope="session", autouse=True)
def _data() -> Iterator[Path]:
    """Where the default storage keeps its data, here and in what tests start.

    It is none of pytest's folders: those let nobody else in, and a server started by root is
    another user.
    """
    folder = Path(tempfile.mkdtemp(prefix="aosk-tests-"))
    folder.chmod(0o711)
    os.environ["AOSKERNEL_DATA"] = str(folder / "data")
    yield folder / "data"
    del os.environ["AOSKERNEL_DATA"]
    shutil.rmtree(folder, ignore_errors=True)  # the server may still be writing its last


@pytest.fixture(scope="session")
def server_folder(_data: Path) -> Iterator[Path]:
    """Of an embedded server that runs as long as the tests; each has a namespace of its own."""
    cluster = anyio.run(partial(Cluster.attach, _data, settings={"fsync": "off"}))
    yield _data
    anyio.run(cluster.detach)
