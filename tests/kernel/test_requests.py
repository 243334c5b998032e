import asyncio
import math

import anyio
import pytest

from aoskernel.kernel import (
    BootError,
    Call,
    Kernel,
    KernelStopped,
    Request,
    Service,
    Unroutable,
    Value,
    handles,
)
from aoskernel.kernel.call import here


class Add(Request[int], topic="sum.add", effect="none"):
    a: int
    b: int


class Double(Request[int], topic="sum.double", effect="none"):
    a: int


class Name(Request[str], topic="who.name", effect="none", addressed=True):
    pass


class Seen(Value):
    sender: str
    origin: object
    trace: str
    cause: str | None
    span: str
    deadline: float


class Sum(Service, name="sum"):
    @handles(Add)
    async def add(self, request: Add) -> int:
        if request.a < 0:
            raise ValueError("no negative numbers")
        return request.a + request.b


class Doubler(Service, name="doubler", needs=[Add]):
    @handles(Double)
    async def double(self, request: Double) -> int:
        return await self.request(Add(a=request.a, b=request.a))


class Named(Service, name="named"):
    @handles(Name)
    async def name_(self, request: Name) -> str:
        return self.address


async def test_a_request_is_answered_by_its_handler() -> None:
    async with Kernel(Sum()) as kernel:
        assert await kernel.request(Add(a=1, b=2)) == 3


async def test_a_service_asks_another() -> None:
    async with Kernel(Doubler(), Sum()) as kernel:
        assert await kernel.request(Double(a=4)) == 8


async def test_the_handlers_error_reaches_the_caller() -> None:
    async with Kernel(Sum()) as kernel:
        with pytest.raises(ValueError, match="no negative numbers"):
            await kernel.request(Add(a=-1, b=0))


async def test_a_handlers_error_is_no_crash() -> None:
    async with Kernel(Sum()) as kernel:
        with pytest.raises(ValueError, match="no negative"):
            await kernel.request(Add(a=-1, b=0))
        assert [seat.state for seat in kernel.services()] == ["up"]
        assert await kernel.request(Add(a=1, b=0)) == 1


async def test_an_undeclared_need_is_refused_where_it_is_sent() -> None:
    class Careless(Service, name="careless"):
        @handles(Double)
        async def double(self, request: Double) -> int:
            return await self.request(Add(a=1, b=1))

    async with Kernel(Careless(), Sum()) as kernel:
        with pytest.raises(BootError, match=r"add Add to the needs= of Careless"):
            await kernel.request(Double(a=1))


async def test_a_request_nobody_handles_says_so() -> None:
    async with Kernel(Sum()) as kernel:
        with pytest.raises(Unroutable, match=r"no handler for sum.double \(Double\)"):
            await kernel.request(Double(a=1))


async def test_a_single_service_is_the_default_of_an_addressed_request() -> None:
    async with Kernel(Named()) as kernel:
        assert await kernel.request(Name()) == "named"


async def test_to_chooses_among_several() -> None:
    async with Kernel(Named().named("a"), Named().named("b")) as kernel:
        assert await kernel.request(Name(), to="b") == "b"


async def test_without_default_and_to_the_error_names_the_choices() -> None:
    async with Kernel(Named().named("a"), Named().named("b")) as kernel:
        with pytest.raises(Unroutable, match=r"pass to= one of a, b"):
            await kernel.request(Name())


async def test_the_configured_default_answers() -> None:
    routes = {"who.name": {"default": "b"}}
    async with Kernel(Named().named("a"), Named().named("b"), routes=routes) as kernel:
        assert await kernel.request(Name()) == "b"


async def test_a_misspelt_address_gets_a_hint() -> None:
    async with Kernel(Named().named("llm.fast"), Named().named("llm.slow")) as kernel:
        with pytest.raises(Unroutable, match=r"nobody at 'llm.fats'.* did you mean 'llm.fast'"):
            await kernel.request(Name(), to="llm.fats")


async def test_a_service_sees_all_addresses() -> None:
    service = Named().named("b")
    async with Kernel(service, Named().named("a")):
        assert service.addresses(Name) == ("a", "b")


async def test_cancelling_the_requester_cancels_the_handler() -> None:
    cut = anyio.Event()

    class Slow(Service, name="slow"):
        @handles(Double)
        async def double(self, request: Double) -> int:
            try:
                await anyio.sleep_forever()
            finally:
                cut.set()
            return 0

    async with Kernel(Slow()) as kernel:
        with anyio.fail_after(20):
            with anyio.move_on_after(1):
                await kernel.request(Double(a=1))
            assert cut.is_set()
            assert kernel.services()[0].gate.inside == {}


class Peek(Service, name="peek"):
    """Tells what the kernel knows of the call that reaches it."""

    @handles(Add)
    async def add(self, request: Add) -> int:
        call = here()
        assert isinstance(call, Call)
        self.seen = Seen(
            sender=call.sender,
            origin=call.origin,
            trace=call.trace_id,
            cause=call.cause,
            span=call.span_id,
            deadline=call.deadline,
        )
        self.call = call
        if call.sink is not None:
            await call.sink("piece")
        return 0


class Relay(Service, name="relay", needs=[Add]):
    @handles(Double)
    async def double(self, request: Double) -> int:
        call = here()
        assert call is not None
        self.call = call
        return await self.request(Add(a=0, b=0), origin=f"for {request.a}")


async def test_the_deadline_crosses_two_hops() -> None:
    peek = Peek()
    async with Kernel(peek, Doubler()) as kernel:
        with anyio.fail_after(7) as scope:
            await kernel.request(Double(a=1))
        assert peek.seen.deadline == scope.deadline


async def test_without_a_timeout_there_is_no_deadline() -> None:
    peek = Peek()
    async with Kernel(peek) as kernel:
        await kernel.request(Add(a=1, b=1))
        assert peek.seen.deadline == math.inf


async def test_sender_cause_trace_and_origin_are_carried() -> None:
    peek, relay = Peek(), Relay()
    async with Kernel(peek, relay) as kernel:
        await kernel.request(Double(a=3))
    assert peek.seen.sender == "relay"
    assert peek.seen.origin == "for 3"
    assert peek.seen.trace == relay.call.trace_id
    assert peek.seen.cause == relay.call.span_id
    assert relay.call.cause is None


async def test_an_origin_is_inherited_by_calls_underneath() -> None:
    peek = Peek()

    class Starter(Service, name="starter", needs=[Double]):
        async def go(self) -> None:
            await self.request(Double(a=1), origin="pid 7")

    starter = Starter()
    async with Kernel(peek, Doubler(), starter):
        await starter.go()
    assert peek.seen.origin == "pid 7"


async def test_a_sink_takes_the_pieces() -> None:
    pieces: list[str] = []

    async def sink(piece: str) -> None:
        pieces.append(piece)

    async with Kernel(Peek()) as kernel:
        await kernel.request(Add(a=1, b=1), sink=sink)
    assert pieces == ["piece"]


async def test_the_envelope_is_gone_after_the_call() -> None:
    async with Kernel(Sum()) as kernel:
        await kernel.request(Add(a=1, b=1))
        assert here() is None


async def test_at_most_as_many_as_declared_run_at_once() -> None:
    class Narrow(Service, name="narrow", concurrency=3):
        inside = most = 0

        @handles(Double)
        async def double(self, request: Double) -> int:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await anyio.sleep(1)
            self.inside -= 1
            return request.a

    narrow = Narrow()
    async with Kernel(narrow) as kernel:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(kernel.request, Double(a=number))
    assert narrow.most == 3


async def test_those_who_wait_for_a_permit_enter_in_the_order_of_asking() -> None:
    order: list[int] = []

    class One(Service, name="one", concurrency=1):
        @handles(Double)
        async def double(self, request: Double) -> int:
            order.append(request.a)
            await anyio.sleep(0.001 * (request.a % 3))
            return 0

    async with Kernel(One()) as kernel:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(kernel.request, Double(a=number))
    assert order == list(range(50))


async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    class One(Service, name="one", concurrency=1):
        @handles(Double)
        async def double(self, request: Double) -> int:
            await anyio.sleep(10)
            return request.a

    async with Kernel(One()) as kernel:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(kernel.request, Double(a=0))
                await anyio.wait_all_tasks_blocked()
                with anyio.move_on_after(10):  # cut in the very turn in which it would enter
                    await kernel.request(Double(a=1))
                assert await kernel.request(Double(a=2)) == 2


async def test_requests_after_the_end_raise_kernel_stopped() -> None:
    async with Kernel(Sum()) as kernel:
        pass
    with pytest.raises(KernelStopped):
        await kernel.request(Add(a=1, b=1))


async def test_requests_before_the_start_raise_kernel_stopped() -> None:
    with pytest.raises(KernelStopped):
        await Kernel(Sum()).request(Add(a=1, b=1))


async def test_a_service_that_outlives_its_kernel_cannot_speak() -> None:
    service = Doubler()
    async with Kernel(service, Sum()):
        pass
    with pytest.raises(KernelStopped):
        await service.request(Add(a=1, b=1))


async def test_two_kernels_live_in_one_process() -> None:
    async with Kernel(Named().named("a")) as one, Kernel(Named().named("b")) as two:
        assert await one.request(Name()) == "a"
        assert await two.request(Name()) == "b"


async def test_a_task_of_a_service_begins_a_chain_of_its_own_in_the_same_trace() -> None:
    seen: list[tuple[bool, bool, str]] = []

    class Spawner(Service, name="spawner"):
        @handles(Double)
        async def double(self, request: Double) -> int:
            call = here()
            assert call is not None
            self.start_soon(self.work, call.trace_id, call.span_id, name="work")
            return 0

        async def work(self, trace: str, span: str) -> None:
            root = here()
            assert root is not None
            assert not isinstance(root, Call)
            seen.append((root.trace_id == trace, root.cause == span, root.sender))

    async with Kernel(Spawner()) as kernel:
        await kernel.request(Double(a=1))
        await anyio.wait_all_tasks_blocked()
    assert seen == [(True, True, "spawner")]


async def test_a_task_of_a_service_survives_its_spawners_cancellation() -> None:
    done = anyio.Event()

    class Spawner(Service, name="spawner"):
        @handles(Double)
        async def double(self, request: Double) -> int:
            self.start_soon(self.work, name="work")
            await anyio.sleep_forever()
            return 0

        async def work(self) -> None:
            await anyio.sleep(5)
            done.set()

    async with Kernel(Spawner()) as kernel:
        with anyio.fail_after(60):
            with anyio.move_on_after(1):
                await kernel.request(Double(a=1))
            await done.wait()


async def test_ten_thousand_open_requests_leave_nothing_behind() -> None:
    class Slow(Service, name="slow"):
        @handles(Double)
        async def double(self, request: Double) -> int:
            await anyio.sleep(1)
            return request.a

    before = asyncio.all_tasks()
    async with Kernel(Slow()) as kernel:
        with anyio.fail_after(600):
            async with anyio.create_task_group() as group:
                for number in range(10_000):
                    group.start_soon(kernel.request, Double(a=number))
        assert kernel.services()[0].gate.inside == {}
    assert asyncio.all_tasks() == before
