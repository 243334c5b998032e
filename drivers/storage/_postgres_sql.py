"""The statements, each in a file of its own."""

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("sql")
INSERTED = re.compile(r"\{(\w+)\}")

SEALING = 0x0A05_0002
"""The advisory lock of whoever seals, one kernel at a time; who claims shares it."""


@cache
def sql(name: str) -> str:
    """The statement in `sql/NAME.sql`; where it says `{OTHER}`, that statement stands."""
    text = (FOLDER / f"{name}.sql").read_text("utf-8")
    return INSERTED.sub(lambda found: sql(found[1]).strip(), text)
