"""What is wrong at boot is said at boot; start and stop keep their order."""

import asyncio
import threading

import anyio
import pytest

from aoskernel.kernel import (
    BootError,
    Event,
    Kernel,
    KernelConfig,
    KernelFailed,
    KernelStopped,
    Request,
    Service,
    StartTimeout,
    Unavailable,
    WouldDeadlock,
    handles,
    subscribes,
)
from aoskernel.kernel.testing import run_virtual


class A(Request[str], topic="x.a"):
    pass


class B(Request[str], topic="x.b"):
    pass


class C(Request[str], topic="x.c"):
    pass


class Noted(Event, topic="x.noted"):
    n: int


class Logged(Service, name="logged"):
    """Writes down when it starts and stops."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary

    async def start(self) -> None:
        self.diary.append(f"+{self.address}")

    async def stop(self) -> None:
        self.diary.append(f"-{self.address}")


class HasA(Logged, name="a", needs_at_start=[B]):
    @handles(A)
    async def a(self, request: A) -> str:
        return "a"


class HasB(Logged, name="b", needs_at_start=[C]):
    @handles(B)
    async def b(self, request: B) -> str:
        return "b"


class HasC(Logged, name="c"):
    @handles(C)
    async def c(self, request: C) -> str:
        return "c"


class Fails(Logged, name="fails", needs_at_start=[A]):
    async def start(self) -> None:
        raise OSError("port taken")


async def test_two_handlers_of_one_request_refuse_to_boot_naming_both() -> None:
    with pytest.raises(BootError, match=r"'one' and 'two' both handle x.c"):
        async with Kernel(HasC([]).named("one"), HasC([]).named("two")):
            pass


async def test_two_services_of_one_name_refuse_to_boot() -> None:
    with pytest.raises(BootError, match=r"two services are named 'logged'.*named\(\)"):
        async with Kernel(Logged([]), Logged([])):
            pass


async def test_a_need_nobody_handles_refuses_to_boot() -> None:
    with pytest.raises(BootError, match=r"'b' needs x.c \(C\): no service handles that"):
        async with Kernel(HasB([])):
            pass


async def test_a_circle_of_start_needs_refuses_to_boot_naming_the_path() -> None:
    class Circular(Logged, name="c", needs_at_start=[A]):
        @handles(C)
        async def c(self, request: C) -> str:
            return "c"

    with pytest.raises(BootError, match=r"need each other at start: (. -> ){3}"):
        async with Kernel(HasA([]), HasB([]), Circular([])):
            pass


async def test_a_circle_of_other_needs_is_fine() -> None:
    class Ping(Service, name="ping", needs=[B]):
        @handles(A)
        async def a(self, request: A) -> str:
            return await self.request(B())

    class Pong(Service, name="pong", needs=[A]):
        @handles(B)
        async def b(self, request: B) -> str:
            return "b"

    async with Kernel(Ping(), Pong()) as kernel:
        assert await kernel.request(A()) == "b"


async def test_services_start_in_the_order_of_their_needs_and_stop_in_reverse() -> None:
    diary: list[str] = []
    async with Kernel(HasA(diary), HasB(diary), HasC(diary)):
        assert diary == ["+c", "+b", "+a"]
    assert diary[3:] == ["-a", "-b", "-c"]


async def test_a_failed_start_stops_those_already_started_in_reverse() -> None:
    diary: list[str] = []
    with pytest.raises(OSError, match="port taken"):
        async with Kernel(HasA(diary), HasB(diary), HasC(diary), Fails(diary)):
            pytest.fail("the body must not run")
    assert diary == ["+c", "+b", "+a", "-fails", "-a", "-b", "-c"]


async def test_a_service_may_ask_what_it_needs_while_starting() -> None:
    class Early(Service, name="early", needs_at_start=[C]):
        async def start(self) -> None:
            self.answer = await self.request(C())

    early = Early()
    async with Kernel(early, HasC([])):
        assert early.answer == "c"


async def test_a_slow_start_is_warned_of_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(Service, name="slow"):
        async def start(self) -> None:
            await self.connect()

        async def connect(self) -> None:
            await anyio.sleep(15)

    async with Kernel(Slow()):
        pass
    assert "service.still_starting service=slow" in caplog.text
    assert "in connect" in caplog.text


async def test_a_start_that_takes_too_long_fails_naming_where_it_stood() -> None:
    class Stuck(Service, name="stuck"):
        async def start(self) -> None:
            await self.connect()

        async def connect(self) -> None:
            await anyio.sleep_forever()

    with pytest.raises(
        StartTimeout, match=r"'stuck' was still starting after 120 s[^$]*in connect"
    ):
        async with Kernel(Stuck()):
            pass


async def test_the_bodys_own_exception_leaves_unwrapped() -> None:
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with Kernel(HasC([])):
            raise error
    assert caught.value is error


async def test_the_kernel_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with Kernel(HasC([])):
        assert asyncio.all_tasks() != before
    assert asyncio.all_tasks() == before


async def open_requests(kernel: Kernel, many: int, ended: list[type[BaseException]]) -> None:
    """So many requests that end only with the kernel."""

    async def one() -> None:
        try:
            await kernel.request(A())
        except BaseException as error:
            ended.append(type(error))
            if not isinstance(error, Unavailable):
                raise

    async with anyio.create_task_group() as group:
        for _ in range(many):
            group.start_soon(one)


class Endless(Service, name="endless"):
    @handles(A)
    async def a(self, request: A) -> str:
        await anyio.sleep_forever()
        return ""

    @subscribes("x.*", size=5)
    async def hear(self, event: Event) -> None:
        await anyio.sleep_forever()


async def test_nothing_is_left_when_the_body_raises_with_a_thousand_open_requests() -> None:
    before, threads = asyncio.all_tasks(), threading.active_count()
    kernel, ended = Kernel(Endless()), list[type[BaseException]]()
    with anyio.fail_after(100):
        async with anyio.create_task_group() as group:
            with pytest.raises(LookupError):
                async with kernel:
                    group.start_soon(open_requests, kernel, 1000, ended)
                    await kernel.publish(Noted(n=1))
                    await anyio.wait_all_tasks_blocked()
                    raise LookupError("mine")
    assert ended == [KernelStopped] * 1000
    assert asyncio.all_tasks() == before
    assert threading.active_count() == threads
    assert kernel.bus.subscriptions == []
    assert all(seat.gate.inside == {} for seat in kernel.services())


async def test_nothing_is_left_when_the_body_is_cancelled_with_a_thousand_open_requests() -> None:
    before = asyncio.all_tasks()
    kernel, ended = Kernel(Endless()), list[type[BaseException]]()
    with anyio.fail_after(100):
        async with anyio.create_task_group() as group:
            with anyio.move_on_after(1) as scope:
                async with kernel:
                    group.start_soon(open_requests, kernel, 1000, ended)
                    await anyio.sleep_forever()
            assert scope.cancelled_caught
    assert len(ended) == 1000
    assert asyncio.all_tasks() == before
    assert kernel.bus.subscriptions == []


async def test_a_kernel_cancelled_from_outside_while_starting_leaves_nothing() -> None:
    diary: list[str] = []

    class Stuck(Logged, name="stuck", needs_at_start=[C]):
        async def start(self) -> None:
            await anyio.sleep_forever()

    before = asyncio.all_tasks()
    with anyio.move_on_after(1) as scope:
        async with Kernel(HasC(diary), Stuck(diary)):
            pytest.fail("the body must not run")
    assert scope.cancelled_caught
    assert diary == ["+c", "-stuck", "-c"]
    assert asyncio.all_tasks() == before


async def test_a_native_cancellation_of_the_body_stays_one() -> None:
    async def main() -> None:
        async with Kernel(HasC([])):
            await anyio.sleep_forever()

    task = asyncio.get_running_loop().create_task(main())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_awaiting_a_kernel_starts_it_and_stop_ends_it_from_another_task() -> None:
    before = asyncio.all_tasks()
    kernel = await Kernel(HasC([]))
    assert await kernel.request(C()) == "c"

    async def stop() -> None:
        await kernel.stop()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(kernel.wait)
            group.start_soon(stop)
            group.start_soon(stop)
    assert asyncio.all_tasks() == before


async def test_awaiting_a_kernel_that_does_not_start_raises_its_error() -> None:
    before = asyncio.all_tasks()
    with pytest.raises(BootError):
        await Kernel(HasB([]))
    assert asyncio.all_tasks() == before


async def test_cancelling_the_await_of_a_starting_kernel_stops_it() -> None:
    diary: list[str] = []

    class Stuck(Logged, name="stuck", needs_at_start=[C]):
        async def start(self) -> None:
            await anyio.sleep_forever()

    before = asyncio.all_tasks()
    with anyio.move_on_after(1):
        await Kernel(HasC(diary), Stuck(diary))
    assert diary == ["+c", "-stuck", "-c"]
    assert asyncio.all_tasks() == before


async def test_stop_ends_a_kernel_in_an_async_with_too() -> None:
    with anyio.fail_after(5):
        async with Kernel(HasC([])) as kernel:
            kernel.stop()
            await anyio.sleep_forever()
        await kernel.stop()


async def test_stopping_a_kernel_that_never_ran_is_refused() -> None:
    with pytest.raises(KernelStopped):
        Kernel(HasC([])).stop()


async def test_stop_from_inside_a_call_cannot_be_awaited() -> None:
    class Suicidal(Service, name="suicidal"):
        kernel: Kernel

        @handles(A)
        async def a(self, request: A) -> str:
            await self.kernel.stop()
            return "never"

    service = Suicidal()
    service.kernel = await Kernel(service)
    with pytest.raises(WouldDeadlock):
        await service.kernel.request(A())
    with anyio.fail_after(20):
        await service.kernel.wait()


async def test_stop_from_inside_a_call_comes_after_it_returns_when_not_awaited() -> None:
    class Suicidal(Service, name="suicidal"):
        kernel: Kernel

        @handles(A)
        async def a(self, request: A) -> str:
            self.kernel.stop()
            await anyio.sleep(1)
            return "returned"

    service = Suicidal()
    service.kernel = await Kernel(service)
    with anyio.fail_after(20):
        assert await service.kernel.request(A()) == "returned"
        await service.kernel.wait()


async def test_stop_from_a_subscriber_cannot_be_awaited() -> None:
    refused = anyio.Event()

    class Suicidal(Service, name="suicidal"):
        kernel: Kernel

        @subscribes(Noted)
        async def hear(self, event: Noted) -> None:
            try:
                await self.kernel.stop()
            except WouldDeadlock:
                refused.set()

    service = Suicidal()
    service.kernel = await Kernel(service)
    await service.kernel.publish(Noted(n=1))
    with anyio.fail_after(20):
        await service.kernel.wait()
    assert refused.is_set()


async def test_stopping_waits_for_calls_inside_up_to_the_grace() -> None:
    class Slow(Service, name="slow"):
        @handles(A)
        async def a(self, request: A) -> str:
            await anyio.sleep(3)
            return "in time"

    kernel = await Kernel(Slow(), config=KernelConfig(drain_s=5))
    replies: list[str] = []

    async def ask() -> None:
        replies.append(await kernel.request(A()))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            await kernel.stop()
    assert replies == ["in time"]


async def test_a_service_that_fails_to_stop_does_not_stop_the_others_from_stopping(
    caplog: pytest.LogCaptureFixture,
) -> None:
    diary: list[str] = []

    class Bad(Logged, name="bad", needs_at_start=[C]):
        async def stop(self) -> None:
            raise OSError("no")

    async with Kernel(HasC(diary), Bad(diary)):
        pass
    assert diary == ["+c", "+bad", "-c"]
    assert "service.stop_failed" in caplog.text


async def test_a_kernel_that_fails_while_starting_says_why() -> None:
    class Dies(Service, name="dies"):
        @handles(A)
        async def a(self, request: A) -> str:
            return "a"

        async def run(self) -> None:
            raise OSError("disk")

    class Waits(Service, name="waits", needs_at_start=[A]):
        async def start(self) -> None:
            await anyio.sleep(60)

    with pytest.raises(KernelFailed, match=r"'dies' is down and waits need it"):
        async with Kernel(Dies(), Waits()):
            pytest.fail("the body must not run")


def test_a_kernel_may_be_made_before_there_is_an_event_loop() -> None:
    kernel = Kernel(HasC([]))

    async def main() -> str:
        async with kernel:
            return await kernel.request(C())

    assert run_virtual(main) == "c"


async def test_a_launch_that_is_cancelled_at_once_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    with anyio.move_on_after(0):
        await Kernel(HasC([]))
    assert asyncio.all_tasks() == before


async def test_a_kernel_runs_once() -> None:
    kernel = Kernel(HasC([]))
    async with kernel:
        pass
    with pytest.raises(RuntimeError):
        async with kernel:
            pass


async def test_wait_raises_why_the_kernel_failed() -> None:
    class Dies(Service, name="dies", restart="never"):
        @handles(C)
        async def c(self, request: C) -> str:
            return "c"

        async def run(self) -> None:
            await anyio.sleep(1)
            raise OSError("disk")

    kernel = await Kernel(Dies(), HasB([]))
    with anyio.fail_after(20), pytest.raises(KernelFailed, match="disk"):
        await kernel.wait()
