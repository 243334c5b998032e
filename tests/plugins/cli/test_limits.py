"""`aosk limits`: what is configured, what is left of what is shared, and what it cannot see."""

from pathlib import Path

import anyio
import pytest

from aoskernel import Kernel
from aoskernel.kernel.config import Config, build
from aoskernel.plugins.cli.exits import ExitCode
from aoskernel.subsystems.storage.messages import DrawRate, HoldSeats

from .conftest import Aosk, Durable, Result

LIMITS = """
[[services.limiter.limits]]
of = "llm.*"
requests = "50/s burst 20"
shared = true

[[services.limiter.limits]]
of = "tools.*"
per = "tool"
concurrency = 2
"""


def limited(config: Path, limits: str = LIMITS) -> Path:
    config.write_text(config.read_text("utf-8") + limits, "utf-8")
    return config


async def draw(config: Path, name: str) -> None:
    """As a limiter does."""
    storage = build("storage", Config.load(config).services["storage"])
    async with Kernel(storage) as kernel:
        await kernel.request(DrawRate(name=name, least=5, most=5, each_s=60, burst=10))


def test_what_is_left_of_a_shared_limit_is_read_from_the_database(
    aosk: Aosk, durable: Durable
) -> None:
    config = limited(durable())
    aosk("db", "migrate")
    assert aosk("limits", "--json").document["shared"] == []
    anyio.run(draw, config, "llm.* per account acme requests")
    document = aosk("limits", "--json").document
    assert [one["of"] for one in document["limits"]] == ["llm.*", "tools.*"]
    (rate,) = document["shared"]
    assert rate["name"] == "llm.* per account acme requests"
    assert rate["left"] == pytest.approx(5, abs=0.5)
    told = aosk("limits")
    assert "50/s burst 20" in told.out
    assert "llm.* per account acme requests" in told.out
    assert "cannot be seen from here" in told.err


def test_places_that_kernels_hold_are_read_from_the_database(aosk: Aosk, durable: Durable) -> None:
    config = limited(durable(), LIMITS.replace('requests = "50/s burst 20"', "concurrency = 4"))

    async def held() -> tuple[Result, Result]:
        storage = build("storage", Config.load(config).services["storage"])
        async with Kernel(storage) as kernel:
            whose = {"name": "llm.* per account acme concurrency", "holder": "h", "turn": 1}
            await kernel.request(HoldSeats(**whose, places=4, used=0, wants=True, most=3))
            told = await anyio.to_thread.run_sync(aosk, "limits")
            return told, await anyio.to_thread.run_sync(aosk, "limits", "--json")

    told, document = anyio.run(held)
    (seats,) = document.document["places"]
    name = "llm.* per account acme concurrency"
    assert seats == {"name": name, "places": 4, "held": 3, "waiting": 0}
    assert name in told.out


@pytest.mark.usefixtures("workspace")
def test_without_limits_it_says_what_holds(aosk: Aosk) -> None:
    told = aosk("limits")
    assert told.code == ExitCode.OK
    assert "No limits; a provider that refuses its key for a while is believed." in told.err


def test_with_storage_in_memory_it_says_that_nothing_is_to_be_seen(
    aosk: Aosk, workspace: Path
) -> None:
    limited(workspace / "aosk.toml")
    told = aosk("limits")
    assert told.code == ExitCode.OK
    assert "50/s burst 20" in told.out
    assert "Of the shared ones nothing can be seen" in told.err


def test_a_limit_that_cannot_be_is_an_error_of_the_configuration(
    aosk: Aosk, workspace: Path
) -> None:
    limited(workspace / "aosk.toml", '\n[[services.limiter.limits]]\nrequests = "0/s"\n')
    told = aosk("limits")
    assert told.code == ExitCode.CONFIG
    assert "must be more than 0" in told.err
