"""The statements, each in a file of its own."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("sql")

SEALING = 0x0A05_0002
"""The advisory lock of whoever seals, one kernel at a time; who claims shares it."""


@cache
def sql(name: str) -> str:
    """The statement in `sql/NAME.sql`."""
    return (FOLDER / f"{name}.sql").read_text("utf-8")
