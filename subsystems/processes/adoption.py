"""What brings processes into this kernel: others that are gone, calls, and the time.

Nothing is polled but the clock of leases: that a kernel is gone shows only in its silence.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from ..storage.messages import (
    ENDED,
    ClaimProcesses,
    FindAlarms,
    Pid,
    StorageError,
    StorageUnavailable,
)
from . import exits

if TYPE_CHECKING:
    from .live import Live
    from .service import Processes


class Adoption:
    """Takes over what should run here: at first, then `every_s` seconds, and when called.

    One that does not `adopt` takes nothing but what it has had before, or was told to take.
    """

    def __init__(self, service: "Processes", every_s: float, *, adopt: bool) -> None:
        self._service, self._every_s, self.adopts = service, every_s, adopt
        self._own: set[Pid] = set()  # kept where nothing else is taken
        self._called = anyio.Event()
        self._new = True  # a program has become known, or it is the beginning
        self._alarm = float("inf")  # the wall clock's time when the next one is to be woken

    def learn(self) -> None:
        """A program has become known."""
        self._new = True
        self._called.set()

    def note(self, moment: float | None) -> None:
        """A process was parked until then."""
        if moment is not None and moment < self._alarm:
            self._called.set()

    def has(self, pid: Pid) -> None:
        """It runs here."""
        if not self.adopts:
            self._own.add(pid)

    async def run(self) -> None:
        swept = float("-inf")
        while self.adopts and not self._service.ending:
            self._called = anyio.Event()
            with suppress(StorageUnavailable):  # it may be back the next time
                if self._new or self._service.bus.time() >= swept + self._every_s:
                    self._new, swept = False, self._service.bus.time()
                    await self._sweep()
                await self._wake()
            sweep_s = swept + self._every_s - self._service.bus.time()
            alarm_s = self._alarm - self._service.bus.wall()
            with anyio.move_on_after(max(min(sweep_s, alarm_s), 0.001)):
                await self._called.wait()

    async def _sweep(self) -> None:
        """Whatever has something to do and nobody who does it."""
        claim = self._claim()
        while claim.programs and not self._service.ending:
            claimed = await self._service.request(claim)
            for record in claimed:
                await self._service.enter(record, fresh=False)
            if len(claimed) < claim.limit:
                return

    def _claim(self, pid: Pid | None = None) -> ClaimProcesses:
        wall = self._service.bus.wall()
        return ClaimProcesses(programs=self._service.known, pid=pid, due_by=wall)

    async def _wake(self) -> None:
        """Those whose time has come; and note when the next one's will have."""
        self._alarm = float("inf")
        known = self._service.known
        alarms = await self._service.request(FindAlarms(programs=known)) if known else ()
        now = self._service.bus.wall()
        for alarm in alarms:
            if alarm.at > now:
                self._alarm = alarm.at
                return
            await self.take(alarm.pid)
        if len(alarms) == FindAlarms.model_fields["limit"].default:
            self._called.set()  # there are more

    async def take(self, pid: Pid) -> None:
        """Bring it in, if it has something to do and nobody has it."""
        if pid in self._own:
            await self.bring(ClaimProcesses(pid=pid))  # here it waits in memory for what to do
        elif self.adopts and self._service.known:
            await self.bring(self._claim(pid))

    async def bring(self, claim: ClaimProcesses) -> None:
        """Take over what is claimed by number, unless it is here."""
        if claim.pid in self._service.live or self._service.ending:
            return
        for record in await self._service.request(claim):
            await self._service.enter(record, fresh=False)

    # The doorbell

    async def ring(self, pids: tuple[Pid, ...] | None) -> None:
        """Something has happened to these processes somewhere; None: perhaps to any."""
        with suppress(StorageError):  # of those that are missed, the next sweep hears
            if pids is None:
                self.learn()
            everybody = {*self._service.live, *self._service.exits}
            for pid in everybody if pids is None else filter(None, pids):
                await self._ring(pid)

    async def _ring(self, pid: Pid) -> None:
        live = self._service.live.get(pid)
        if live is not None and not await self._is_lost(live):
            live.wake()
            await self._service.signals.obey(live)
            return
        if pid in self._service.exits:
            record = await self._service.read(pid)
            if record.state in ENDED:
                exits.tell(self._service, record)
                return
        await self.take(pid)

    async def _is_lost(self, live: "Live") -> bool:
        """One that only waits does not notice by itself that another kernel has taken it over."""
        record = await self._service.read(live.record.pid)
        if record.epoch == live.record.epoch:
            return False
        live.cut("lost", sealed=True)
        return True
