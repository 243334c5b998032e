"""Secrets: known from the configuration on, and shown by nothing that is meant to be read."""

import json
import logging
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from aoskernel.kernel import ConfigError
from aoskernel.kernel.config import build, construct
from aoskernel.kernel.log import Line, log
from aoskernel.kernel.secrets import HIDDEN, Safe, Sensitive, is_sensitive, keep, redacted
from aoskernel.kernel.service import Service


class Lock(Service, name="lock"):
    """Holds what its table says."""

    def __init__(self, words: dict[str, Any] | None = None, code: SecretStr | None = None) -> None:
        self.words, self.code = words, code


LOCK = f"{__name__}:Lock"


@pytest.mark.parametrize(
    "table", [{"a": {"env": "OPEN_SESAME"}}, {"a": {"b": {"env": "OPEN_SESAME"}}}]
)
def test_whatever_comes_from_the_environment_is_a_secret(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_SESAME", "simsala-bim-1")
    build("lock", {"use": LOCK, "words": table})
    assert redacted("the words are simsala-bim-1.") == f"the words are {HIDDEN}."


def test_a_secret_field_is_one_wherever_its_value_comes_from() -> None:
    construct(Lock, "services.lock", {"code": SecretStr("simsala-bim-2")})
    assert redacted("simsala-bim-2") == HIDDEN


def test_the_password_of_an_address_is_a_secret_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN_SESAME", "postgresql://me:simsala-bim-3@db/x")
    build("lock", {"use": LOCK, "words": {"dsn": {"env": "OPEN_SESAME"}}})
    assert "simsala" not in redacted(
        "me at db, by simsala-bim-3, by postgresql://me:simsala-bim-3@db/x"
    )


def test_what_is_too_short_to_be_a_secret_garbles_nothing() -> None:
    keep("5432")
    assert redacted("port 5432") == "port 5432"


@given(secret=st.text(min_size=6, max_size=40))
@settings(max_examples=50)
def test_a_secret_is_not_shown_in_json_either(secret: str) -> None:
    safe = Safe()
    safe.keep(secret)
    for ascii_only in (True, False):
        shown = safe.redacted(json.dumps([f"<{secret}>"], ensure_ascii=ascii_only))
        assert json.loads(shown) == [f"<{HIDDEN}>"]
    assert safe.redacted(f"<{secret}>") == f"<{HIDDEN}>"


def test_a_line_of_the_log_says_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    keep('simsala "bim" 4')
    with caplog.at_level(logging.INFO, logger="aoskernel"):
        log.warning("door.opened", words='it was simsala "bim" 4', where="cave")
    assert f'event=door.opened words="it was {HIDDEN}" where=cave' in caplog.text
    assert "simsala" not in caplog.text


def test_a_line_is_data_for_a_handler_that_wants_it() -> None:
    line = Line(event="door.opened", where="cave")
    assert (line["where"], str(line)) == ("cave", "event=door.opened where=cave")


@dataclass
class Wire:
    key: SecretStr


def test_a_secret_in_plain_text_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigError) as refused:
        construct(Wire, "services.wire", {"key": "simsala-bim-5"})
    assert "simsala" not in str(refused.value)


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (SecretStr, True),
        (SecretStr | None, True),
        (Annotated[str, Sensitive], True),
        (str, False),
        (Annotated[str, "Sensitive"], False),
    ],
)
def test_what_is_sensitive_is_told_by_its_type(hint: Any, *, expected: bool) -> None:
    assert is_sensitive(hint) is expected
