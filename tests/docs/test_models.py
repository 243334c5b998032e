"""The page about models says what the vendor table says."""

import re
from pathlib import Path

from aoskernel.drivers._vendors import table

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "models.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| (.+) \|$", re.MULTILINE)


def test_every_vendor_is_on_the_page_with_its_key_and_its_drivers() -> None:
    told = {
        name: (key, re.findall(r"`(\w+)`", drivers)) for name, key, drivers in ROW.findall(PAGE)
    }
    assert told == {row.name: (row.key, list(row.endpoints)) for row in table().values()}
