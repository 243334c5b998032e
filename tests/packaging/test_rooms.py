"""The import rules that import-linter cannot say: what a room may import, and nothing else.

The contracts in pyproject.toml name what is forbidden; here, what is allowed is named.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOUNDATION = {"anyio", "pydantic", "pydantic_core", "structlog"}
ARITHMETIC = {("subsystems/processes/schedule.py", "cronsim")}
"""Calculates and no more: it speaks with nobody."""


def imported(path: Path) -> Iterator[str]:
    """The top-level packages of all absolute imports, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("room", ["kernel", "subsystems"])
def test_the_inner_rooms_import_the_standard_library_and_the_foundation_only(room: str) -> None:
    files = list(ROOT.glob(f"{room}/**/*.py"))
    foreign = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in files
        for name in imported(path)
        if name not in sys.stdlib_module_names | FOUNDATION
    }
    assert files
    assert not foreign - ARITHMETIC


@pytest.mark.parametrize("room", ["kernel", "subsystems", "drivers", "plugins"])
def test_the_library_imports_itself_relatively(room: str) -> None:
    absolute = [p for p in ROOT.glob(f"{room}/**/*.py") if "aoskernel" in set(imported(p))]
    assert not absolute
