"""Storage: carries commits and reads to the driver, and tells what has happened in it."""

from collections import Counter
from collections.abc import Iterable

import anyio

from ...kernel.service import Service, handles
from . import messages as words
from .driver import Audited, Forgetful, SharesRates, SharesSeats, StorageDriver
from .limits import check

TOGETHER_S = 0.5
"""For so long commits are gathered before they are told."""


class Storage(Service, name="storage", driver="storage", restart="never"):
    """The disk: one log, and what is derived from it.

    A commit of more than `most_mib` MiB is refused.
    """

    def __init__(self, driver: StorageDriver, most_mib: int = 16) -> None:
        self._driver, self._most_mib = driver, most_mib
        self._rung: set[words.Pid] | None = set()
        self._called = anyio.Event()
        self._took: list[float] = []
        self._failed: Counter[str] = Counter()
        self._committed = anyio.Event()
        self._seats_called: list[words.SeatsCalled] = []
        self._seats = anyio.Event()

    async def start(self) -> None:
        await self._driver.start()

    async def run(self) -> None:
        self.start_soon(self._tell, name="doorbell")
        self.start_soon(self._tell_commits, name="commits")
        if isinstance(self._driver, SharesSeats):
            self.start_soon(self._driver.hear_seats, self._call_seats, name="seats")
            self.start_soon(self._tell_seats, name="tell seats")
        await self._driver.run(self._ring)

    def _ring(self, pids: Iterable[words.Pid] | None) -> None:
        """Rings that come while the last are being told are told together."""
        self._rung = None if pids is None or self._rung is None else self._rung.union(pids)
        self._called.set()

    async def _tell(self) -> None:
        while True:
            await self._called.wait()
            self._called = anyio.Event()
            rung, self._rung = self._rung, set()
            await self.publish(words.Rang(pids=None if rung is None else tuple(sorted(rung))))

    def _call_seats(self, called: words.SeatsCalled) -> None:
        self._seats_called.append(called)
        self._seats.set()

    async def _tell_seats(self) -> None:
        while True:
            await self._seats.wait()
            self._seats = anyio.Event()
            called, self._seats_called = dict.fromkeys(self._seats_called), []
            for one in called:
                await self.publish(one)

    async def stop(self) -> None:
        await self._driver.stop()

    @handles(words.NewPid)
    async def new_pid(self, request: words.NewPid) -> words.Pid:
        return await self._driver.new_pid()

    @handles(words.Commit)
    async def commit(self, request: words.Commit) -> None:
        check(request, self._most_mib)
        if request.lazy or not self.bus.hears(words.Committed):
            await self._driver.commit(request)
        else:
            await self._watched(request)
        if words.AddMemory in map(type, request.writes):
            await self.publish(words.MemoriesAdded())

    async def _watched(self, commit: words.Commit) -> None:
        """The same commit, with somebody listening."""
        began = self.bus.time()
        try:
            await self._driver.commit(commit)
        except Exception as error:
            self._failed[type(error).__name__] += 1
            raise
        finally:
            if not self._took:
                self._committed.set()
            self._took.append(self.bus.time() - began)

    async def _tell_commits(self) -> None:
        """A busy kernel makes thousands in a second, and one event for each would cost too much."""
        while True:
            await self._committed.wait()
            await anyio.sleep(TOGETHER_S)
            self._committed = anyio.Event()
            took, self._took = self._took, []
            failed, self._failed = self._failed, Counter()
            await self.publish(words.Committed(seconds=tuple(took), failed=dict(failed)))

    @handles(words.DrawRate)
    async def draw_rate(self, request: words.DrawRate) -> words.Drawn:
        if not isinstance(self._driver, SharesRates):
            raise words.StorageRefused(
                f"{type(self._driver).__name__} keeps no rates that kernels share; write "
                "shared = false at the limit, or use the driver embedded, postgres or memory"
            )
        return await self._driver.draw(request)

    @handles(words.HoldSeats)
    async def hold_seats(self, request: words.HoldSeats) -> words.Held:
        if not isinstance(self._driver, SharesSeats):
            raise words.StorageRefused(
                f"{type(self._driver).__name__} keeps no places that kernels share; write "
                "shared = false at the limit, or use the driver embedded, postgres or memory"
            )
        return await self._driver.hold(request)

    @handles(words.ReadSeats)
    async def read_seats(self, query: words.ReadSeats) -> tuple[words.SharedSeats, ...]:
        return await self._driver.read(query)

    @handles(words.ReadRates)
    async def read_rates(self, query: words.ReadRates) -> tuple[words.SharedRate, ...]:
        return await self._driver.read(query)

    @handles(words.ClaimProcesses)
    async def claim(self, request: words.ClaimProcesses) -> tuple[words.ProcessRecord, ...]:
        return await self._driver.claim(request)

    @handles(words.ForgetExpired)
    async def forget(self, order: words.ForgetExpired) -> tuple[words.Expired, ...]:
        if not isinstance(self._driver, Forgetful):
            kind = type(self._driver).__name__
            raise words.StorageRefused(f"the storage driver {kind} deletes nothing: use another")
        return await self._driver.forget(order)

    @handles(words.EraseBodies)
    async def erase(self, order: words.EraseBodies) -> int:
        if not isinstance(self._driver, Audited):
            kind = type(self._driver).__name__
            raise words.StorageRefused(f"the storage driver {kind} keeps no audit: use another")
        return await self._driver.erase(order)

    @handles(words.FindExpired)
    async def find_expired(self, query: words.FindExpired) -> tuple[words.Expired, ...]:
        return await self._driver.read(query)

    @handles(words.ReadLog)
    async def read_log(self, query: words.ReadLog) -> tuple[words.Entry, ...]:
        return await self._driver.read(query)

    @handles(words.ReadPages)
    async def read_pages(self, query: words.ReadPages) -> tuple[words.Page, ...]:
        return await self._driver.read(query)

    @handles(words.ReadLetters)
    async def read_letters(self, query: words.ReadLetters) -> tuple[words.Letter, ...]:
        return await self._driver.read(query)

    @handles(words.ReadCommands)
    async def read_commands(self, query: words.ReadCommands) -> tuple[words.Command, ...]:
        return await self._driver.read(query)

    @handles(words.ReadQuestions)
    async def read_questions(self, query: words.ReadQuestions) -> tuple[words.Question, ...]:
        return await self._driver.read(query)

    @handles(words.FindAlarms)
    async def find_alarms(self, query: words.FindAlarms) -> tuple[words.Alarm, ...]:
        return await self._driver.read(query)

    @handles(words.FindStranded)
    async def find_stranded(self, query: words.FindStranded) -> tuple[words.Pid, ...]:
        return await self._driver.read(query)

    @handles(words.FindTenures)
    async def find_tenures(self, query: words.FindTenures) -> tuple[words.Tenure, ...]:
        return await self._driver.read(query)

    @handles(words.FindLineage)
    async def find_lineage(self, query: words.FindLineage) -> words.Lineage | None:
        return await self._driver.read(query)

    @handles(words.ReadProcess)
    async def read_process(self, query: words.ReadProcess) -> words.ProcessRecord | None:
        return await self._driver.read(query)

    @handles(words.FindProcesses)
    async def find_processes(self, query: words.FindProcesses) -> tuple[words.ProcessRecord, ...]:
        return await self._driver.read(query)

    @handles(words.FindMemories)
    async def find_memories(self, query: words.FindMemories) -> tuple[words.Memory, ...]:
        return await self._driver.read(query)

    @handles(words.FindSimilar)
    async def find_similar(self, query: words.FindSimilar) -> tuple[words.Memory, ...]:
        return await self._driver.read(query)

    @handles(words.FindUnembedded)
    async def find_unembedded(self, query: words.FindUnembedded) -> tuple[words.Memory, ...]:
        return await self._driver.read(query)

    @handles(words.ReadRecord)
    async def read_record(self, query: words.ReadRecord) -> words.Record | None:
        return await self._driver.read(query)

    @handles(words.FindRecords)
    async def find_records(self, query: words.FindRecords) -> tuple[words.Record, ...]:
        return await self._driver.read(query)

    @handles(words.ReadAccounts)
    async def read_accounts(self, query: words.ReadAccounts) -> tuple[words.Account, ...]:
        return await self._driver.read(query)

    @handles(words.ReadSpent)
    async def read_spent(self, query: words.ReadSpent) -> tuple[tuple[str, words.Spent], ...]:
        return await self._driver.read(query)
