"""The reference says what the code says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_is_up_to_date(tmp_path: Path) -> None:
    """`make docs` writes it anew."""
    script = ROOT / "docs" / "reference.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=60)
    written = {page.name: page.read_text("utf-8") for page in tmp_path.glob("*.md")}
    stored = {
        page.name: page.read_text("utf-8")
        for page in (ROOT / "docs" / "reference" / "api").glob("*.md")
    }
    assert stored == written
