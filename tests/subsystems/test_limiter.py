"""Who may call now and who later: rates, places, tokens, what providers say, and bad input."""

import math
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limited import Fetch, Metered, Shop, ask, asking, virtually

from aoskernel import ConfigError, Kernel, KernelError, Service
from aoskernel.kernel import Call, NotNow, Proceed
from aoskernel.kernel.config import build
from aoskernel.kernel.message import R
from aoskernel.subsystems.breaker.circuit import Rules
from aoskernel.subsystems.breaker.messages import CircuitOpen
from aoskernel.subsystems.breaker.service import Breaker
from aoskernel.subsystems.limiter.buckets import Buckets, Subject
from aoskernel.subsystems.limiter.costs import CALL
from aoskernel.subsystems.limiter.limits import Limit, Rate
from aoskernel.subsystems.limiter.messages import Dried, Dry, ReadLimits, TooLarge
from aoskernel.subsystems.limiter.pacer import Pacer
from aoskernel.subsystems.limiter.service import Limiter
from aoskernel.subsystems.llm.driver import ModelUnavailable, RateLimited
from aoskernel.subsystems.llm.messages import Allowance, LimitsTold
from aoskernel.subsystems.tools.messages import CallTool

SHOP = {"shop.fetch": ["limiter"]}
MODEL = {"llm.complete": ["limiter"]}


def limit(**told: Any) -> Limit:
    return Limit.model_validate(told)


async def until(kernel: Kernel, *, to: str | None = None, **who: Any) -> float | None:
    """How long a call has to wait that comes now; None when it was let through."""
    try:
        await ask(kernel, "go", to=to, **who)
    except Dry as dry:
        return round(dry.until - kernel.bus.time(), 6)
    return None


@given(
    each_s=st.floats(0.001, 100),
    burst=st.integers(1, 20),
    pauses=st.lists(st.floats(0, 300), max_size=60),
)
def test_within_any_window_a_pacer_gives_no_more_than_its_rate_and_its_burst(
    each_s: float, burst: int, pauses: list[float]
) -> None:
    pacer, now, given_at = Pacer(each_s, burst), 1000.0, list[float]()
    for pause in pauses:
        now += pause * each_s / 20
        while not pacer.wait_s(1, now):
            pacer.draw(1, now)
            given_at.append(now)
    for first in range(len(given_at)):
        for last in range(first, len(given_at)):
            window_s = given_at[last] - given_at[first]
            assert last - first + 1 <= window_s / each_s + burst + 1e-3


@given(lateness=st.lists(st.floats(0, 0.9), min_size=50, max_size=50))
def test_a_pacer_loses_nothing_by_those_who_come_late(lateness: list[float]) -> None:
    pacer, now = Pacer(1.0, 2), 0.0
    pacer.draw(2, now)
    for late in lateness:
        now += pacer.wait_s(1, now) + late
        now = max(now, pacer.full_at - 1)
        pacer.draw(1, now)
    assert now < len(lateness) + 1


def test_a_call_beyond_the_rate_is_told_when_there_is_one_left() -> None:
    async def scenario() -> None:
        limits = (limit(of="llm", requests="1/s burst 2"),)
        async with Kernel(Metered(), Limiter(limits), routes=MODEL) as kernel:
            assert [await until(kernel) for _ in range(3)] == [None, None, 1.0]
            await anyio.sleep(0.5)
            assert await until(kernel) == 0.5
            await anyio.sleep(0.5)
            assert [await until(kernel) for _ in range(2)] == [None, 1.0]

    virtually(scenario)


def test_models_of_one_account_share_a_bucket_and_others_do_not() -> None:
    async def scenario() -> None:
        models = [
            Metered("acme-1").named("llm.a"),
            Metered("acme-1").named("llm.b"),
            Metered("acme-2").named("llm.c"),
        ]
        limits = (limit(of="llm.*", requests="1/min burst 1"),)
        async with Kernel(*models, Limiter(limits), routes=MODEL) as kernel:
            assert await until(kernel, to="llm.a") is None
            assert await until(kernel, to="llm.b") == 60
            assert await until(kernel, to="llm.c") is None

    virtually(scenario)


def test_tenants_have_a_bucket_each_and_the_key_s_is_drawn_from_by_both_or_none() -> None:
    async def scenario() -> None:
        limits = (
            limit(per="tenant", requests="1/min burst 1"),
            limit(per="account", requests="1/min burst 2"),
        )
        async with Kernel(Metered("k"), Limiter(limits), routes=MODEL) as kernel:
            assert await until(kernel, tenant="a") is None
            assert await until(kernel, tenant="a") == 60
            assert await until(kernel, tenant="b") is None
            assert await until(kernel, tenant="c") == 60

    virtually(scenario)


def test_users_have_a_bucket_each_and_those_of_two_tenants_are_not_the_same() -> None:
    async def scenario() -> None:
        limits = (limit(per="user", requests="1/min burst 1"),)
        async with Kernel(Metered("k"), Limiter(limits), routes=MODEL) as kernel:
            for tenant, user in (("a", "x"), ("a", "y"), ("b", "x"), ("a/b", "c"), ("a", "b/c")):
                assert await until(kernel, tenant=tenant, user=user) is None
                assert await until(kernel, tenant=tenant, user=user) == 60

    virtually(scenario)


def test_calls_of_no_user_are_not_limited_per_user() -> None:
    async def scenario() -> None:
        limits = (limit(per="user", requests="1/min burst 1"),)
        async with Kernel(Metered("k"), Limiter(limits), routes=MODEL) as kernel:
            for _ in range(3):
                assert await until(kernel) is None
                assert await until(kernel, tenant="a") is None

    virtually(scenario)


def test_a_user_and_the_tenant_are_drawn_from_by_both_or_none() -> None:
    async def scenario() -> None:
        limits = (
            limit(per="user", requests="1/min burst 1"),
            limit(per="tenant", requests="1/h burst 2"),
        )
        async with Kernel(Metered("k"), Limiter(limits), routes=MODEL) as kernel:
            assert await until(kernel, tenant="a", user="x") is None
            assert await until(kernel, tenant="a", user="x") == 60  # takes none of the tenant's
            assert await until(kernel, tenant="a", user="y") is None
            assert await until(kernel, tenant="a", user="z") == 3600
            await anyio.sleep(3600)
            assert await until(kernel, tenant="a", user="z") is None  # it took none of its own

    virtually(scenario)


def test_a_tool_and_a_host_may_have_limits() -> None:
    async def scenario() -> None:
        limits = (
            limit(per="tool", requests="1/min burst 1"),
            limit(per="host", requests="1/h burst 1"),
        )
        limiter = Limiter(limits)
        async with Kernel(limiter) as kernel:

            def call(name: str, **arguments: Any) -> Call[Any]:
                told = CallTool(name=name, arguments=arguments)
                return Call(told, "tools.web", None, "app", 0.0, None, None)

            async def proceed(call: Call[Any]) -> str:
                return "page"

            async def get(name: str, **arguments: Any) -> bool:
                try:
                    return bool(await limiter.guard(call(name, **arguments), proceed))
                except Dry:
                    return False

            assert kernel.services()
            assert await get("get", url="https://a.example/1")
            assert not await get("get", url="https://b.example/1")
            assert await get("put", url="https://b.example/1")
            assert not await get("head", url="https://A.example:443/2")

    virtually(scenario)


def test_no_more_calls_are_under_way_than_may_be() -> None:
    async def scenario() -> None:
        model = Metered(takes_s=5)
        limits = (limit(concurrency=2),)
        async with Kernel(model, Limiter(limits), routes=MODEL) as kernel:
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(ask, kernel, "slow")
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(Dry, match="2 calls under way"):
                    await ask(kernel, "third")
            assert await ask(kernel, "later") == "ok"

    virtually(scenario)


def test_tokens_are_reserved_on_estimate_and_settled_on_use() -> None:
    async def scenario() -> None:
        model = Metered()
        model.prompt, model.completion = 1, 100
        limits = (limit(output_tokens="1000/min burst 1000"),)
        async with Kernel(model, Limiter(limits), routes=MODEL) as kernel:
            for _ in range(6):  # a reservation of 500 fits as long as 500 are left
                await kernel.request(asking(max_tokens=500))
            with pytest.raises(Dry) as caught:
                await kernel.request(asking(max_tokens=500))
            assert caught.value.until - kernel.bus.time() == pytest.approx(6.0)

    virtually(scenario)


def test_a_call_that_used_more_than_it_reserved_is_paid_by_those_after_it() -> None:
    async def scenario() -> None:
        model = Metered()
        model.completion = 1600
        limits = (limit(output_tokens="1000/min burst 1000"),)
        async with Kernel(model, Limiter(limits), routes=MODEL) as kernel:
            await kernel.request(asking(max_tokens=100))
            with pytest.raises(Dry) as caught:
                await kernel.request(asking(max_tokens=100))
            assert caught.value.until - kernel.bus.time() == pytest.approx(0.7 * 60)

    virtually(scenario)


def test_a_call_that_was_cancelled_pays_for_what_it_had_used() -> None:
    async def scenario() -> None:
        model = Metered(takes_s=100)
        model.prompt = 700
        limits = (limit(tokens="1000/min burst 1000"),)
        async with Kernel(model, Limiter(limits), routes=MODEL) as kernel:
            with anyio.move_on_after(0):
                await kernel.request(asking(max_tokens=200))
            (bucket, *_) = await kernel.request(ReadLimits())
            assert [level.left for level in bucket.levels] == pytest.approx([300])
            assert bucket.inside == 0

    virtually(scenario)


def test_a_call_that_a_guard_below_did_not_let_through_costs_nothing() -> None:
    async def scenario() -> None:
        shop = Shop()
        shop.error = ModelUnavailable("down")
        limits = (limit(of="shop", per="address", requests="1/h burst 3"),)
        breaker = Breaker(Rules(least_calls=2, open_s=5))
        routes = {"shop.fetch": ["limiter", "breaker"]}
        async with Kernel(shop, breaker, Limiter(limits), routes=routes) as kernel:
            for expected in (ModelUnavailable, ModelUnavailable, CircuitOpen, CircuitOpen):
                with pytest.raises(expected):
                    await kernel.request(Fetch())
            await anyio.sleep(5)
            shop.error = None
            assert await kernel.request(Fetch()) == "goods"

    virtually(scenario)


class Shut(Service, name="shut"):
    """A guard that lets nothing through for now."""

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        raise NotNow(self.bus.time() + 1, "shut")


def test_tokens_of_a_call_that_never_began_are_not_used() -> None:
    async def scenario() -> None:
        limiter = Limiter((limit(requests="1/h burst 2", output_tokens="100/h burst 100"),))
        routes = {"llm.complete": ["limiter", "shut"]}
        async with Kernel(Metered(), limiter, Shut(), routes=routes) as kernel:
            for _ in range(5):
                with pytest.raises(NotNow, match="shut"):
                    await kernel.request(asking(max_tokens=60))

    virtually(scenario)


def test_a_call_that_could_never_be_let_through_is_refused_and_says_what_to_do() -> None:
    async def scenario() -> None:
        limits = (limit(output_tokens="1000/min burst 100"),)
        async with Kernel(Metered(), Limiter(limits), routes=MODEL) as kernel:
            with pytest.raises(TooLarge, match=r"ask for less \(max_tokens\)"):
                await kernel.request(asking(max_tokens=500))

    virtually(scenario)


def test_a_swapped_limiter_knows_what_is_drawn_and_who_is_inside() -> None:
    async def scenario() -> None:
        model = Metered(takes_s=5)
        before = (limit(requests="1/min burst 4", concurrency=9),)
        after = (limit(requests="1/s burst 4", concurrency=1),)
        async with Kernel(model, Limiter(before), routes=MODEL) as kernel:
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(ask, kernel, "slow")
                await anyio.wait_all_tasks_blocked()
                await kernel.swap("limiter", Limiter(after))
                assert await until(kernel) == pytest.approx(
                    1, abs=0.01
                )  # the rate: four are still drawn
                await anyio.sleep(3)
                with pytest.raises(Dry, match="4 calls under way"):
                    await ask(kernel, "next")
            assert await ask(kernel, "last") == "ok"

    virtually(scenario)


# What providers say


async def held_s(kernel: Kernel) -> float:
    return max([bucket.held_s for bucket in await kernel.request(ReadLimits())], default=0.0)


@pytest.mark.parametrize(
    ("retry_after_s", "held"),
    [
        (7.5, 7.5),
        (0.0, 0.0),
        (None, 1.0),
        (365 * 86400.0, 900.0),
        (math.inf, 1.0),
        (math.nan, 1.0),
        (-3.0, 1.0),
        ("soon", 1.0),
    ],
)
def test_a_key_that_was_refused_is_left_alone_as_long_as_it_said_within_reason(
    retry_after_s: Any, held: float
) -> None:
    async def scenario() -> None:
        a, b = Metered("key").named("llm.a"), Metered("key").named("llm.b")
        async with Kernel(a, b, Limiter(), routes=MODEL) as kernel:
            a.error = RateLimited("no", retry_after_s=retry_after_s)
            with pytest.raises(RateLimited):
                await ask(kernel, "go", to="llm.a")
            assert await held_s(kernel) == held
            if held:
                with pytest.raises(Dry):
                    await ask(kernel, "go", to="llm.b")
                await anyio.sleep(held)
            assert await ask(kernel, "go", to="llm.b") == "ok"

    virtually(scenario)


def test_refusals_without_a_time_double_the_pause_until_one_goes_well() -> None:
    async def scenario() -> None:
        model = Metered("key")
        async with Kernel(model, Limiter(), routes=MODEL) as kernel:
            held = []
            for _ in range(4):
                model.error = RateLimited("no")
                with pytest.raises(RateLimited):
                    await ask(kernel, "go")
                held.append(await held_s(kernel))
                await anyio.sleep(held[-1])
            assert held == [1, 2, 4, 8]

    virtually(scenario)


def test_what_a_provider_s_headers_say_is_left_is_not_exceeded() -> None:
    async def scenario() -> None:
        async with Kernel(Metered("key"), Limiter(), routes=MODEL) as kernel:
            told = Allowance(what="requests", limit=60, remaining=2, reset_s=58)
            await kernel.publish(LimitsTold(address="llm", allowances=(told,)))
            await anyio.wait_all_tasks_blocked()
            assert [await until(kernel) for _ in range(2)] == [None, None]
            assert await until(kernel) == pytest.approx(1.0, abs=0.2)
            fresh = told.model_copy(update={"remaining": 60})
            await kernel.publish(LimitsTold(address="llm", allowances=(fresh,)))
            await anyio.wait_all_tasks_blocked()
            assert await until(kernel) is None

    virtually(scenario)


@pytest.mark.parametrize(
    "garbage",
    [
        Allowance(what="requests", limit=0, remaining=0, reset_s=10),
        Allowance(what="requests", limit=10, remaining=-1, reset_s=10),
        Allowance(what="requests", limit=10, remaining=99, reset_s=10),
        Allowance(what="requests", limit=10, remaining=0, reset_s=math.nan),
        Allowance(what="requests", limit=10, remaining=0, reset_s=-1),
        Allowance(what="requests", remaining=0),
    ],
)
def test_headers_that_make_no_sense_are_passed_over(garbage: Allowance) -> None:
    async def scenario() -> None:
        async with Kernel(Metered("key"), Limiter(), routes=MODEL) as kernel:
            await kernel.publish(LimitsTold(address="llm", allowances=(garbage,)))
            await anyio.wait_all_tasks_blocked()
            assert await until(kernel) is None

    virtually(scenario)


def test_a_reset_in_a_year_is_believed_for_a_quarter_of_an_hour() -> None:
    async def scenario() -> None:
        async with Kernel(Metered("key"), Limiter(), routes=MODEL) as kernel:
            year = Allowance(what="requests", limit=10, remaining=0, reset_s=3e7)
            await kernel.publish(LimitsTold(address="llm", allowances=(year,)))
            await anyio.wait_all_tasks_blocked()
            assert await until(kernel) == pytest.approx(90, abs=0.2)

    virtually(scenario)


def test_a_limiter_that_is_not_to_learn_does_not() -> None:
    async def scenario() -> None:
        model = Metered("key")
        async with Kernel(model, Limiter(learn=False), routes=MODEL) as kernel:
            model.error = RateLimited("no", retry_after_s=99)
            with pytest.raises(RateLimited):
                await ask(kernel, "go")
            model.error = None
            assert await ask(kernel, "go") == "ok"

    virtually(scenario)


# Bad input


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0/s", "must be more than 0"),
        ("-5/s", "must be more than 0"),
        ("50", "is no rate"),
        ("fast", "is no rate"),
        (50, "is no rate"),
        ("50/sec", "unknown unit 'sec'; there are s, min, h, d"),
        ("50/s burst 0", "a burst below one call"),
        ("50/s burst -1", "a burst below one call"),
        ("1e999/s", "leave the limit out"),
    ],
)
def test_a_rate_that_cannot_be_is_refused_and_says_why(text: Any, said: str) -> None:
    table = {
        "use": "aoskernel.subsystems.limiter.service:Limiter",
        "limits": [{"of": "llm.*", "requests": text}],
    }
    with pytest.raises(ConfigError, match=said) as caught:
        build("limiter", table)
    assert "services.limiter.limits.0.requests" in str(caught.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"of": "llm.*"}, "limits nothing; give it one of requests"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"shared": True, "requests": "50/s burst 1"}, "need a burst of at least 5"),
        ({"per": "users", "requests": "1/s"}, "limits.0.per"),
        ({"requests": "1/s", "bursts": 3}, "unknown key"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(table: dict[str, Any], said: str) -> None:
    where = {"use": "aoskernel.subsystems.limiter.service:Limiter", "limits": [table]}
    with pytest.raises(ConfigError, match=said):
        build("limiter", where)


def test_two_limits_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two limits of llm per account; make them one"):
        Limiter((limit(of="llm", requests="1/s"), limit(of="llm", tokens="1/s")))


def test_a_rate_reads_as_it_is_written() -> None:
    for text in ("50/s", "40000/min", "1.5/h burst 3"):
        assert str(Rate.parse(text)) == text


def test_a_shared_limit_without_storage_says_what_is_missing() -> None:
    async def scenario() -> None:
        limits = (limit(requests="100/s", shared=True),)
        with pytest.raises(KernelError, match=r"storage\.draw_rate"):
            async with Kernel(Metered(), Limiter(limits), routes=MODEL) as kernel:
                await ask(kernel, "go")

    virtually(scenario)


def test_dryness_is_told() -> None:
    async def scenario() -> None:
        limits = (limit(of="llm", requests="2/s burst 1"),)
        async with Kernel(Metered("k"), Limiter(limits), routes=MODEL) as kernel:
            async with kernel.listen("limiter.*") as events:
                assert [await until(kernel) for _ in range(2)] == [None, 0.5]
                told = await anext(events)
        assert isinstance(told, Dried)
        assert (told.bucket, told.addresses, told.every_s) == ("llm per account k", ("llm",), 0.5)

    virtually(scenario)


def test_ten_thousand_hosts_do_not_stay_in_memory() -> None:
    async def scenario() -> None:
        now = 0.0
        buckets = Buckets([limit(per="key", requests="1/s")], lambda: now)
        for number in range(10_000):
            now += 1
            (bucket,) = buckets.of(Subject("x", key=str(number)))
            bucket.enter(CALL, now)
            bucket.leave(CALL, CALL, now)
        assert len(list(buckets)) < 5000

    virtually(scenario)
