"""The breaker: what keeps failing is left alone for a while, then tried out."""

from fnmatch import fnmatchcase
from typing import Any

import anyio

from ...kernel.call import Call
from ...kernel.message import R
from ...kernel.service import Proceed, Service, handles
from ..tools.messages import CallTool
from .circuit import FAILURE, NOTHING, WELL, Circuit, Outcome, Rules
from .messages import Circuit as Shown
from .messages import (
    CircuitOpen,
    Closed,
    Enter,
    HalfOpened,
    Leave,
    Opened,
    ReadCircuits,
    classes_of,
)

COUNTED = (
    "ModelUnavailable",
    "Unavailable",
    "ToolAway",
    "OutcomeLost",
    "TimeoutError",
    "ConnectionError",
)
IGNORED = ("RateLimited", "NotNow", "Refused", "KernelStopped")
REMEMBERED = 4096
"""Circuits that are kept; names of tools may come from a model, so they must be bounded."""


class Breaker(Service, name="breaker"):
    """A guard with a circuit for each address, and for each tool of one.

        [services.breaker]
        rules = { failure_rate = 0.5, open_s = 30 }
        [services.breaker.circuits."llm.slow"]
        slow_s = 60

    `counts` names classes of errors that are failures, `ignores` those that say nothing, and
    go before; any other error is an answer. A call that was cancelled is no failure, but slow
    when it had taken so long already.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        circuits: dict[str, Rules] | None = None,
        counts: tuple[str, ...] = COUNTED,
        ignores: tuple[str, ...] = IGNORED,
    ) -> None:
        for name in (*counts, *ignores):
            if not name.isidentifier():
                raise ValueError(f'{name!r} is no class of errors; write for example "ToolFailed"')
        self._rules, self._own = rules or Rules(), circuits or {}
        self._counts, self._ignores = frozenset(counts), frozenset(ignores)
        self._circuits: dict[str, Circuit] = {}
        self._bells: dict[str, anyio.Event] = {}
        self._time = anyio.current_time  # the kernel's, from the start on

    async def start(self) -> None:
        self._time = self.bus.time

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        name, message = call.address, call.message
        if isinstance(message, CallTool):
            name = f"{name}/{message.name}"
        circuit = self._circuits.get(name) or self._begin(name)
        if not circuit.is_quiet:
            return await self._watch(circuit, call, proceed)
        turn = circuit.age
        try:  # the most frequent case: a call that goes well would change nothing
            return await proceed(call)
        except Exception as error:
            await self._left(circuit, call, turn, self._time(), self._judged(classes_of(error)))
            raise

    async def _watch(self, circuit: Circuit, call: Call[R], proceed: Proceed[R]) -> R:
        began, was_open = self._time(), circuit.state == "open"
        turn, outcome = circuit.enter(began), NOTHING
        try:
            if was_open:
                await self._tell(circuit, call)
            reply = await proceed(call)
            outcome = WELL
            return reply
        except Exception as error:
            outcome = self._judged(classes_of(error))
            raise
        finally:
            await self._left(circuit, call, turn, began, outcome)

    async def _left(
        self, circuit: Circuit, call: Call[Any], turn: int, began: float, outcome: Outcome
    ) -> None:
        now = self._time()
        if circuit.leave(turn, now, now - began, outcome):
            await self._tell(circuit, call)

    def _begin(self, name: str) -> Circuit:
        if len(self._circuits) >= REMEMBERED:
            self._forget()
        circuit = self._circuits[name] = Circuit(name, self._rules_of(name))
        return circuit

    def _forget(self) -> None:
        """The older half of those that let everything through."""
        closed = [name for name, one in self._circuits.items() if one.state == "closed"]
        for name in closed[: REMEMBERED // 2]:
            del self._circuits[name]

    def _rules_of(self, name: str) -> Rules:
        rules = self._rules
        for pattern, own in self._own.items():
            if fnmatchcase(name, pattern):
                rules = rules.under(own)
        return rules

    def _judged(self, names: tuple[str, ...]) -> Outcome:
        if not self._ignores.isdisjoint(names):
            return NOTHING
        return WELL if self._counts.isdisjoint(names) else FAILURE

    async def _tell(self, circuit: Circuit, call: Call[Any] | None = None) -> None:
        """Its state has changed: who waits for it looks, and whoever subscribed hears it."""
        if bell := self._bells.pop(circuit.name, None):
            bell.set()
        whole = call is not None and circuit.name == call.address
        addresses = (circuit.name,) if whole else ()
        match circuit.state:
            case "open":
                probes, until, reason = circuit.rules.probes, circuit.until, circuit.reason
                event: Opened | HalfOpened | Closed = Opened(
                    circuit=circuit.name,
                    addresses=addresses,
                    until=until,
                    probes=probes,
                    reason=reason,
                )
            case "half_open":
                event = HalfOpened(
                    circuit=circuit.name, addresses=addresses, probes=circuit.rules.probes
                )
            case "closed":
                event = Closed(circuit=circuit.name, addresses=addresses)
        await self.publish(event)

    # For those who stand on no route

    @handles(Enter, waits=True)
    async def enter(self, request: Enter) -> int:
        """Woken when the circuit changes, or its time has come."""
        name = request.name
        circuit = self._circuits.get(name) or self._begin(name)
        while True:
            now, was_open = self.bus.time(), circuit.state == "open"
            try:
                turn = circuit.enter(now)
            except CircuitOpen as error:
                await self._wait(name, error.until - now)
                continue
            if was_open:
                await self._tell(circuit)
            return turn

    async def _wait(self, name: str, seconds: float) -> None:
        bell = self._bells.setdefault(name, anyio.Event())
        with anyio.move_on_after(max(seconds, 0)):
            await bell.wait()

    @handles(Leave)
    async def leave(self, request: Leave) -> None:
        circuit = self._circuits.get(request.name)
        if circuit is None:
            return
        outcome = NOTHING if request.cancelled else self._judged(request.errors)
        if circuit.leave(request.turn, self.bus.time(), request.seconds, outcome):
            await self._tell(circuit)

    @handles(ReadCircuits)
    async def read(self, request: ReadCircuits) -> tuple[Shown, ...]:
        return tuple(circuit.shown() for _, circuit in sorted(self._circuits.items()))

    def hand_over(self, successor: "Breaker") -> None:
        """The circuits go over as they stand, under the new rules."""
        successor._circuits, successor._bells = self._circuits, self._bells
        for name, circuit in self._circuits.items():
            circuit.change(successor._rules_of(name))
