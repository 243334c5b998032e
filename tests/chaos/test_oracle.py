"""What judges the trials sees what is wrong."""

from typing import Any

import pytest
from chaos.oracle import history_fault


def said(role: str, *calls: str, answers: str | None = None) -> dict[str, Any]:
    asked = [{"id": call} for call in calls]
    return {"role": role, "text": "", "tool_calls": asked, "tool_call_id": answers}


def answer(to: str) -> dict[str, Any]:
    return said("tool", answers=to)


SYSTEM, USER = said("system"), said("user")
VALID = [
    [USER],
    [SYSTEM, USER, said("assistant"), USER],
    [USER, said("assistant", "a", "b"), answer("b"), answer("a")],
    [USER, said("assistant", "a"), answer("a"), said("assistant", "a"), answer("a"), USER],
]
INVALID = {
    "a system message stands behind": [USER, SYSTEM],
    "the user does not begin": [SYSTEM, said("assistant"), USER],
    "the assistant has the last word": [USER, said("assistant")],
    "message 1 answers no call": [USER, answer("a")],
    "message 3 answers no call": [USER, said("assistant", "a"), answer("a"), answer("a")],
    "have no result before message 2": [USER, said("assistant", "a"), USER, answer("a")],
    "have no result at the end": [USER, said("assistant", "a", "b"), answer("a")],
    "uses an id twice": [USER, said("assistant", "a", "a"), answer("a"), answer("a")],
}


@pytest.mark.parametrize("history", VALID)
def test_a_valid_history_has_no_fault(history: list[dict[str, Any]]) -> None:
    assert history_fault(history) is None


@pytest.mark.parametrize("fault", INVALID)
def test_a_fault_of_a_history_is_named(fault: str) -> None:
    assert fault in str(history_fault(INVALID[fault]))
