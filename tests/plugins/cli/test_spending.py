"""`aosk cost` and `aosk quota`: what a database says was used, and what may be."""

from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from daemons import configure, leave, run
from errands import brief, look_up

from aoskernel import Kernel
from aoskernel.kernel.config import Config, build
from aoskernel.plugins.cli.exits import ExitCode
from aoskernel.subsystems.quota.messages import NANO
from aoskernel.subsystems.storage.messages import Charge, Commit, Pid, Spend

from .conftest import Aosk, Durable

QUOTA = """
[services.quota]
max_tokens = 200
namespace = { tokens = 100_000 }

[services.quota.tenants.default]
calls = 1000
action = "ask"
models = { "llm.default" = { calls = 10 } }
"""


def commit(config: Path, write: Spend) -> None:
    """Behind the back of whoever else has the database."""

    async def put() -> None:
        storage = build("storage", Config.load(config).services["storage"])
        with anyio.fail_after(30):
            async with Kernel(storage) as kernel:
                await kernel.request(Commit(pid=Pid(0), epoch=0, writes=(write,)))

    anyio.run(put)


@pytest.fixture(scope="module")
def _spent(server_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    config = configure(tmp_path_factory.mktemp("spent"), server_folder)
    config.write_text(config.read_text() + QUOTA)
    return config, list(run(config, brief(topic="it"), look_up(path="notes.txt")))


@pytest.fixture
def pids(_spent: tuple[Path, list[int]], tmp_path: Path) -> list[int]:
    """Two processes that have run, in the working directory's configuration."""
    config, pids = _spent
    (tmp_path / "aosk.toml").write_text(config.read_text())
    return pids


def test_cost_tells_what_each_agent_has_used(aosk: Aosk, pids: list[int]) -> None:
    told = aosk("cost", "--json")
    assert told.code == 0
    agents = {int(one["agent"]): one for one in told.document["spent"] if one["calls"]}
    assert set(agents) == set(pids)
    assert agents[pids[0]]["program"] == "brief"
    assert agents[pids[0]]["prompt"] > agents[pids[0]]["completion"] > 0
    assert agents[pids[0]]["money"] is None  # nobody knows the price
    shown = aosk("cost").out
    assert f"brief[{pids[0]}]" in shown
    assert "unknown" in shown


@pytest.mark.parametrize(
    ("by", "whose"),
    [("tenant", "default"), ("model", "scripted"), ("day", f"{datetime.now(UTC):%Y-%m-%d}")],
)
def test_cost_is_summed_as_asked(aosk: Aosk, pids: list[int], by: str, whose: str) -> None:
    found = aosk("cost", "--by", by, "--json").document["spent"]
    assert whose in {one[by] for one in found}
    assert sum(one["calls"] for one in found) >= len(pids)


def test_cost_since_a_day_to_come_is_nothing(aosk: Aosk, pids: list[int]) -> None:
    assert aosk("cost", "--since", "2999-01-01", "--json").document["spent"] == []
    told = aosk("cost", "--since", "tomorrow")
    assert told.code == ExitCode.USAGE
    assert "2026-11-27" in told.err


def test_quota_shows_the_accounts_and_what_is_left(aosk: Aosk, pids: list[int]) -> None:
    found = aosk("quota", "--json").document["quotas"]
    by_scope = {(one["scope"], one["what"]): one for one in found}
    whole = by_scope["all", "tokens"]
    assert 0 < whole["used"] < whole["ceiling"] == 100_000
    assert by_scope["model:llm.default tenant:default", "calls"]["ceiling"] == 10
    assert by_scope["tenant:default", "calls"]["action"] == "ask"
    shown = aosk("quota").out
    assert shown.index("all") < shown.index("tenant:default")


def test_a_quota_is_set_and_lifted(aosk: Aosk, durable: Durable) -> None:
    durable()
    aosk("db", "migrate")
    assert "No quotas" in aosk("quota").err
    money = ("--money", "2.5", "--currency", "EUR", "--action", "degrade", "--instead", "llm.x")
    assert aosk("quota", "set", "tenant:acme", *money).code == 0
    assert aosk("quota", "set", "tenant:acme", "--calls", "5", "--model", "llm.y").code == 0
    assert aosk("quota", "set", "all", "--tokens", "10").code == 0
    found = {one["scope"]: one for one in aosk("quota", "--json").document["quotas"]}
    acme = found["tenant:acme"]
    assert (acme["what"], acme["ceiling"], acme["instead"]) == ("EUR", 2.5, "llm.x")
    assert found["model:llm.y tenant:acme"]["ceiling"] == 5
    assert aosk("quota", "set", "all", "--lift", "tokens", "--json").document["ok"]
    found = {one["scope"]: one for one in aosk("quota", "--json").document["quotas"]}
    assert found["all"]["ceiling"] is None


def test_quota_tells_by_how_much_one_is_overdrawn(aosk: Aosk, durable: Durable) -> None:
    config = durable()
    (pid,) = leave(config, brief(topic="it"))
    charge = Charge(scope=f"process:{pid}", what="EUR", amount=3 * NANO)
    spend = Spend(tenant="t", model="m", day="2026-11-27", spent=None, charges=(charge,))
    aosk("quota", "set", str(pid), "--money", "2.5", "--currency", "EUR")
    commit(config, spend)
    shown = aosk("quota").out
    assert f"brief[{pid}]" in shown
    assert "overdrawn by 0.5 EUR" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("all",), "say how much"),
        (("everybody", "--tokens", "5"), "tenant:NAME"),
        (("all", "--tokens", "-5"), "greater than or equal to 0"),
        (("all", "--money", "5", "--currency", "XBT"), "no currency"),
        (("all", "--money", "5"), "go together"),
        (("all", "--model", "llm.x", "--calls", "1"), "--model is for tenants"),
        (("tenant:acme", "--wall-s", "5"), "for processes"),
    ],
)
def test_a_quota_that_makes_no_sense_is_not_set(
    aosk: Aosk, durable: Durable, arguments: tuple[str, ...], told: str
) -> None:
    durable()
    result = aosk("quota", "set", *arguments)
    assert result.code == ExitCode.USAGE
    assert told in result.err


def test_a_quota_of_a_process_that_is_not_there_is_not_set(aosk: Aosk, durable: Durable) -> None:
    durable()
    aosk("db", "migrate")
    result = aosk("quota", "set", "999999999", "--tokens", "5")
    assert result.code == ExitCode.FAILED
    assert "no process" in result.err
