"""`aosk db forget`: first it says what is over, and only with --yes that is gone."""

import pytest
from daemons import leave, run
from errands import brief, fail, listen

from aoskernel.plugins.cli.exits import ExitCode

from .conftest import Aosk, Durable

RETENTION = """
[services.retention]
ended_after_days = 0
states = { failed = 1 }
"""


def test_what_is_over_is_told_and_with_yes_it_is_gone(aosk: Aosk, durable: Durable) -> None:
    config = durable()
    done, failed = run(config, brief(topic="tea"), fail())
    (alive,) = leave(config, listen())

    told = aosk("db", "forget", "--days", "0")
    assert told.out.splitlines()[-1] == "2 processes would be forgotten; --yes does it"
    assert "brief" in told.out
    assert "listen" not in told.out
    document = aosk("db", "forget", "--days", "0", "--json").document
    assert document["forgotten"] is False
    assert [one["pid"] for one in document["processes"]] == [done, failed]
    assert len(aosk("ps", "--all", "--json").document["processes"]) == 3

    assert aosk("db", "forget", "--days", "1").out == "No process is over.\n"
    gone = aosk("db", "forget", "--days", "0", "--yes")
    assert gone.out.splitlines()[-1] == "2 processes forgotten"
    (left,) = aosk("ps", "--all", "--json").document["processes"]
    assert left["pid"] == alive
    assert f"there is no process {done}" in aosk("trace", str(done)).err


def test_the_configured_retention_is_what_counts(aosk: Aosk, durable: Durable) -> None:
    config = durable()
    done, failed = run(config, brief(topic="tea"), fail())
    told = aosk("db", "forget")
    assert told.code == ExitCode.USAGE
    assert "no retention is configured, so everything is kept" in told.err

    config.write_text(config.read_text() + RETENTION)
    document = aosk("db", "forget", "--yes", "--json").document
    assert (document["forgotten"], [one["pid"] for one in document["processes"]]) == (True, [done])
    (left,) = aosk("ps", "--all", "--json").document["processes"]
    assert left["pid"] == failed


def test_of_a_process_with_a_key_it_says_that_the_record_is_left(
    aosk: Aosk, durable: Durable
) -> None:
    config = durable()
    (pid,) = run(config, brief(topic="tea"), key="invoice-42")
    (told,) = aosk("db", "forget", "--days", "0", "--json").document["processes"]
    assert (told["key"], told["whole"]) == ("invoice-42", False)
    aosk("db", "forget", "--days", "0", "--yes")
    (left,) = aosk("ps", "--all", "--json").document["processes"]
    assert (left["pid"], left["key"], left["bare"]) == (pid, "invoice-42", True)
    assert aosk("wait", str(pid)).out == "tea: Friday\n"
    for command in ("trace", "logs", "replay"):
        told = aosk(command, str(pid))
        assert told.code == ExitCode.FAILED
        assert "only the record is left" in told.err


@pytest.mark.usefixtures("workspace")
def test_what_is_in_memory_is_gone_anyway(aosk: Aosk) -> None:
    assert aosk("db", "forget", "--days", "0").code == ExitCode.CONFIG
