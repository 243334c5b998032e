"""The wheel and the sdist hold what they should."""

import re
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.package

ROOT = Path(__file__).parents[2]
ROOMS = ("kernel", "subsystems", "drivers", "plugins")


def test_the_wheel_is_the_library_and_nothing_else(distribution: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distribution[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        f"aoskernel/{path.relative_to(ROOT).as_posix()}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    root = {f"aoskernel/{n}" for n in ("__init__.py", "__main__.py", "py.typed", "defaults.toml")}
    assert names == expected | root


def test_the_sdist_can_be_worked_on(distribution: tuple[Path, Path]) -> None:
    with tarfile.open(distribution[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"Makefile", "LICENSE", "README.md", "hatch_build.py", "tests/conftest.py"} <= names
    left_behind = (".venv", ".hatch", ".cache", "dist/")
    assert not [n for n in names if n.startswith(left_behind) or "_cache/" in n]


def test_the_metadata_is_complete(distribution: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distribution[1]) as wheel:
        (path,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
        metadata = wheel.read(path).decode()
    version = re.search(r'__version__ = "(.+)"', (ROOT / "__init__.py").read_text("utf-8"))
    assert version is not None
    assert f"\nVersion: {version[1]}\n" in metadata
    extras = {"local", "mcp", "metrics", "otlp", "prices", "signing", "socks", "traces", "uvloop"}
    assert set(re.findall(r"Provides-Extra: (\w+)", metadata)) == extras
    assert "License-Expression: MIT" in metadata
    assert "# AOS Kernel" in metadata
