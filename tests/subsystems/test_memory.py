"""Words to find a text by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoskernel.subsystems.memory.terms import terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Friday meeting", ("the", "friday", "meeting")),
        ("星期五 Friday", ("星期", "期五", "friday")),
        ("foo星期bar", ("foo", "星期", "bar")),
        ("Straße ＡＢＣ", ("strasse", "abc")),
        ("一", ("一",)),
        ("don_t 42!", ("don_t", "42")),
        ("", ()),
    ],
)
def test_terms(text: str, expected: tuple[str, ...]) -> None:
    assert terms(text) == expected


@given(st.text())
def test_terms_are_distinct_and_a_query_finds_its_own_text(text: str) -> None:
    found = terms(text)
    assert len(found) == len(set(found))
    assert terms(text) == found
    assert set(found) <= set(terms(f"{text} and more"))
