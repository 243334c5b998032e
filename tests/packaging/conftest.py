"""Distributions built once, and empty environments to install them into."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINUTES = 10


def run(
    command: Sequence[str | Path],
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    *,
    fails: bool = False,
) -> str:
    """What a command prints; it sees nothing of this checkout or environment."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "AOSKERNEL")) and name[-8:] != "_API_KEY"
    }
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=clean | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MINUTES * 60,
        check=False,
    )
    assert bool(done.returncode) == fails, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@dataclass
class Environment:
    """A virtual environment without even pip, an empty directory to work in, and where data may lie."""

    folder: Path
    home: Path
    data: Path

    def install(self, *what: str | Path) -> None:
        """With the pip that runs the tests; what is not imported need not be compiled."""
        pip = [sys.executable, "-m", "pip", "--python", self.folder / "bin" / "python"]
        quiet = ("--quiet", "--disable-pip-version-check", "--no-compile")
        run([*pip, "install", *quiet, *what], self.home)

    def python(self, *arguments: str | Path, **environment: str) -> str:
        command = [self.folder / "bin" / "python", *arguments]
        return run(command, self.home, {"AOSKERNEL_DATA": str(self.data), **environment})

    def aosk(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        command = [self.folder / "bin" / "aosk", *arguments]
        at = {"AOSKERNEL_DATA": str(self.data), **environment}
        return run(command, self.home, at, fails=fails)


Dist = Callable[[Path], tuple[Path, Path]]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Dist:
    """Builds a source tree: the sdist, and from it the wheel."""

    def make(source: Path) -> tuple[Path, Path]:
        out = tmp_path_factory.mktemp("dist")
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source], out)
        (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
        return sdist, wheel

    return make


@pytest.fixture(scope="session")
def distribution(build: Dist) -> tuple[Path, Path]:
    return build(ROOT)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], tmp_path)
    (tmp_path / "home").mkdir()
    data = Path(tempfile.mkdtemp(prefix="aosk-installed-", dir="/tmp"))
    data.chmod(0o711)  # a server that root starts is another user, and must pass
    yield Environment(tmp_path / "venv", tmp_path / "home", data / "data")
    shutil.rmtree(data, ignore_errors=True)  # the server may still be writing its last
