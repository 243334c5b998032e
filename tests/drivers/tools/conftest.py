"""A workspace to read from."""

from pathlib import Path

import pytest
from workspace import SECRET


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace, with a secret beside it and a sibling whose name begins like its own."""
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "root-x").mkdir()
    (tmp_path / "root-x" / "secret.txt").write_text(SECRET)
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "notes.txt").write_text("Monday\nFriday: tea\n")
    (root / "sub" / "plan.md").write_text("# Plan\n\nbuy tea\n")
    (root / "sub" / "deep" / "last.txt").write_text("the end")
    return root
