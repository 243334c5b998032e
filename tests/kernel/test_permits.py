"""What could wait for itself: chains that come back, chains that wait for long."""

import anyio
import pytest

from aoskernel.kernel import Kernel, Request, Service, SwapFailed, handles


class A(Request[str], topic="x.a"):
    pass


class B(Request[str], topic="x.b"):
    pass


class Back(Request[str], topic="x.back"):
    pass


class Delegate(Request[int], topic="deep.delegate"):
    depth: int


class Await(Request[int], topic="deep.await"):
    depth: int


class Left(Service, name="left", needs=[B], concurrency=1):
    @handles(A)
    async def a(self, request: A) -> str:
        return "a" + await self.request(B())

    @handles(Back)
    async def back(self, request: Back) -> str:
        return "!"


class Right(Service, name="right", needs=[Back], concurrency=1):
    @handles(B)
    async def b(self, request: B) -> str:
        await anyio.sleep(1)
        return "b" + await self.request(Back())


async def test_a_chain_may_come_back_to_a_service_of_concurrency_one() -> None:
    async with Kernel(Left(), Right()) as kernel:
        with anyio.fail_after(20):
            assert await kernel.request(A()) == "ab!"


async def test_many_such_chains_take_turns() -> None:
    replies: list[str] = []
    async with Kernel(Left(), Right()) as kernel:

        async def ask() -> None:
            replies.append(await kernel.request(A()))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(ask)
    assert replies == ["ab!"] * 20


class Processes(Service, name="processes", needs=[Await, Delegate], concurrency=4):
    """Each delegation runs in a task of its own; its parent waits for it, permit lent."""

    inside = most = 0

    def __init__(self) -> None:
        self.results: dict[int, anyio.Event] = {}

    @handles(Delegate)
    async def delegate(self, request: Delegate) -> int:
        self.enter()
        try:
            await anyio.sleep(0.1)
            if request.depth:
                self.inside -= 1
                below = await self.request(Await(depth=request.depth - 1))
                self.enter()
                return below + 1
            return 1
        finally:
            self.inside -= 1

    def enter(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)

    @handles(Await, waits=True)
    async def wait(self, request: Await) -> int:
        results: list[int] = []
        done = anyio.Event()

        async def child() -> None:
            results.append(await self.request(Delegate(depth=request.depth)))
            done.set()

        self.start_soon(child, name="child")
        await done.wait()
        return results[0]


async def test_delegation_five_deep_at_concurrency_four_does_not_starve() -> None:
    async with Kernel(Processes()) as kernel:
        with anyio.fail_after(60):
            assert await kernel.request(Delegate(depth=5)) == 6


async def test_lent_permits_keep_the_bound() -> None:
    processes = Processes()
    async with Kernel(processes) as kernel:
        with anyio.fail_after(600):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(kernel.request, Delegate(depth=5))
    assert processes.most == 4


class Hall(Service, name="hall", needs=[B], concurrency=1):
    """Holds its one permit, waits for long with a timeout, and goes on."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    @handles(A)
    async def a(self, request: A) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await anyio.sleep(0.1)
        self.inside -= 1
        with anyio.move_on_after(1):
            await self.request(B())
        return "a"


class Room(Service, name="room"):
    @handles(B, waits=True)
    async def b(self, request: B) -> str:
        await anyio.sleep_forever()
        return ""


async def test_a_wait_that_is_given_up_takes_its_permit_back() -> None:
    hall = Hall()
    async with Kernel(hall, Room()) as kernel:
        with anyio.fail_after(100):
            for _ in range(3):
                async with anyio.create_task_group() as group:
                    for _ in range(10):
                        group.start_soon(kernel.request, A())
        assert hall.most == 1
        (gate,) = (seat.gate for seat in kernel.services() if seat.address == "hall")
        assert gate.inside == {}
        with anyio.fail_after(20):
            await kernel.request(A())


async def test_a_wait_that_raises_takes_its_permit_back() -> None:
    class Broken(Service, name="room"):
        @handles(B, waits=True)
        async def b(self, request: B) -> str:
            await anyio.sleep(0.5)
            raise LookupError("gone")

    async with Kernel(Hall(), Broken()) as kernel:
        for _ in range(3):
            with anyio.fail_after(20), pytest.raises(LookupError):
                await kernel.request(A())


async def test_a_drain_lets_those_come_back_that_lent_their_permit() -> None:
    class Short(Service, name="room"):
        @handles(B, waits=True)
        async def b(self, request: B) -> str:
            await anyio.sleep(3)
            return "b"

    class Patient(Service, name="hall", needs=[B], concurrency=1):
        @handles(A)
        async def a(self, request: A) -> str:
            return await self.request(B())

    replies: list[str] = []
    async with Kernel(Patient(), Short()) as kernel:

        async def ask() -> None:
            replies.append(await kernel.request(A()))

        with anyio.fail_after(9):  # less than the grace: nobody had to be cut
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(ask)
                await anyio.sleep(1)
                await kernel.swap("hall", Patient())
    assert replies == ["b"] * 5


async def test_a_newcomer_waits_until_those_who_gave_up_waiting_have_left() -> None:
    class Busy(Service, name="hall", needs=[B], concurrency=1):
        working = 0
        met: int | None = None

        @handles(A)
        async def a(self, request: A) -> str:
            with anyio.move_on_after(1):
                await self.request(B())
            self.working += 1
            await anyio.sleep(5)
            self.working -= 1
            return "a"

        @handles(Back)
        async def back(self, request: Back) -> str:
            self.met = self.working
            return "!"

    busy = Busy()
    async with Kernel(busy, Room()) as kernel, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(kernel.request, A())
        await anyio.sleep(2)
        assert busy.working == 5  # an error must not wait for a permit, so they overdrew
        with anyio.fail_after(60):
            await kernel.request(Back())
        assert busy.met == 0


async def test_a_swap_that_fails_keeps_the_count_of_permits() -> None:
    class Two(Service, name="two", concurrency=2):
        inside = most = 0
        fails = False

        async def start(self) -> None:
            if self.fails:
                raise OSError("no")

        @handles(A)
        async def a(self, request: A) -> str:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await anyio.sleep(1)
            self.inside -= 1
            return "a"

    two, broken = Two(), Two()
    broken.fails = True
    async with Kernel(two) as kernel:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(kernel.request, A())
                await anyio.sleep(0.5)
                with pytest.raises(SwapFailed):
                    await kernel.swap("two", broken)
        assert two.most == 2
