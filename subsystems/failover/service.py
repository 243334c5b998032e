"""Failover: one of an alias's models answers a call, and where it fails, the next."""

from typing import Any, NamedTuple

from ...kernel.call import Call
from ...kernel.errors import ConfigError, KernelError, NotNow, Unavailable, nearest
from ...kernel.events import ServiceSwapped
from ...kernel.message import R
from ...kernel.service import Proceed, Service, subscribes
from ..llm.messages import Describe
from ..processes.messages import Origin
from ..storage.messages import Pid
from .messages import Moved
from .way import Way

UNTOLD_S = 10.0
"""When a model is taken to work again that did not say when: about what `retry` would wait."""
WORTH_S = 2.0
"""So much longer the first is waited for, which has the caller's cache, or is the preferred one."""
TOO_LONG = "PromptTooLong"
"""The error that only a model with a larger window can mend."""
ELSEWHERE = frozenset({TOO_LONG, "OutOfFunds"})
"""What fails again at this model, and need not at another: named, as drivers' errors are theirs."""


class Home(NamedTuple):
    """The model that answered a process last, where its prefix cache is, and when."""

    model: str
    since: float


class Failover(Service, name="failover", needs_at_start=[Describe]):
    """A guard that finds a model of an alias that answers.

    Each model is tried once, without waiting for it: the next one follows when it fails with
    an error that is retryable, with an account that cannot pay, with an error of a class named
    in `also`, and when a guard does not let the call through now. A prompt that is too long goes
    on to models with a larger window.
    When none of them answered, they are tried once more with patience, so that the scheduler
    waits and retry repeats: first the one that is to be free first.

    A process stays with the model that answered it last while that one does, as its prefix cache
    is there, and for `stay_s` seconds after its last answer; then the order counts again. That
    is known of the `remembered` processes that were answered last.
    """

    def __init__(
        self,
        also: tuple[str, ...] = (),
        stay_s: float = 300.0,
        remembered: int = 10_000,
    ) -> None:
        """Raises ValueError for what cannot be meant."""
        if stay_s < 0 or remembered < 0:
            raise ValueError("stay_s and remembered must not be negative")
        self._also, self._stay_s, self._remembered = frozenset(also), stay_s, remembered
        self._mended = ELSEWHERE | self._also
        self._members: dict[str, tuple[str, ...]] = {}
        self._homes: dict[tuple[Pid | None, str], Home] = {}

    async def start(self) -> None:
        """Look at every model once: an alias that cannot be used is an error of the config."""
        known = {kind.__name__ for kind in KernelError.kinds()}
        for name in self._also - known:
            raise ConfigError(
                f"services.{self.address}.also: no error is called {name!r}; {nearest(name, known)}"
            )
        for address in self.addresses(Describe):
            await self._look(address)

    @subscribes(ServiceSwapped)
    async def forget(self, event: ServiceSwapped) -> None:
        """An alias may have been replaced by one of other models."""
        self._members.pop(event.service, None)

    async def guard(self, call: Call[R], proceed: Proceed[R]) -> R:
        models = self._members.get(call.address)
        if models is None:
            models = await self._look(call.address)
        if not models or call.message.effect == "once":
            return await proceed(call)
        return await self._answer(call, proceed, self._in_order(call, models))

    async def _look(self, address: str) -> tuple[str, ...]:
        """The models of an alias; none where it is none, or cannot be asked now."""
        try:
            card = await self.request(Describe(), to=address)
        except Unavailable:  # what it is asked for will fail too, and is repeated below
            return ()
        return self._members.setdefault(address, card.members)

    async def _answer(self, call: Call[R], proceed: Proceed[R], models: list[str]) -> R:
        """Try all without patience, then those that may work later with it."""
        way: Way[R] = Way(call, proceed, patient=call.patient and len(models) == 1)
        reply = await self._round(way, models)
        if not reply and call.patient and not way.turn.patient:
            way.turn.patient = True
            reply = await self._round(way, way.resting())
        if not reply:
            assert way.failure is not None
            raise way.failure
        self._settle(call, way.turn.address)
        return reply[0]

    async def _round(self, way: "Way[R]", models: list[str]) -> tuple[R] | tuple[()]:
        """The first reply of these models; none when each of them has failed."""
        for model in models:
            if way.failure is not None:
                if await self._is_hopeless(way, model):
                    continue
                await self._tell(way, way.failure, model)
            try:
                return (await way.go(model),)
            except KernelError as error:
                if not self._moves(error):
                    raise
                way.fail(error, self._free_at(error) - WORTH_S * (model == models[0]))
        return ()

    def _moves(self, error: KernelError) -> bool:
        return error.retryable or any(k.__name__ in self._mended for k in type(error).__mro__)

    def _free_at(self, error: KernelError) -> float:
        if isinstance(error, NotNow):
            return error.until
        asked_s: float | None = getattr(error, "retry_after_s", None)
        return self.bus.time() + (UNTOLD_S if asked_s is None else asked_s)

    async def _is_hopeless(self, way: "Way[Any]", model: str) -> bool:
        """Was the prompt too long for a model whose window is as large as this one's?"""
        if type(way.failure).__name__ != TOO_LONG:
            return False
        try:
            here = await self.request(Describe(), to=way.turn.address)
            there = await self.request(Describe(), to=model)
        except Unavailable:  # then it is not known
            return False
        return there.context_window <= here.context_window

    async def _tell(self, way: "Way[Any]", failure: KernelError, model: str) -> None:
        turn = way.turn
        if turn.address == model:  # it is only asked with more patience
            return
        await self.publish(
            Moved(
                call=turn.span_id,
                caller=str(turn.origin or turn.sender),
                alias=way.alias,
                left=turn.address,
                to=model,
                error=type(failure).__name__,
                reason=str(failure),
            )
        )

    # Homes

    def _in_order(self, call: Call[Any], models: tuple[str, ...]) -> list[str]:
        """The caller's home first, as long as its cache may be warm."""
        home = self._homes.get(_who(call))
        if home is None or self.bus.time() - home.since > self._stay_s or home.model not in models:
            return list(models)
        return [home.model, *(model for model in models if model != home.model)]

    def _settle(self, call: Call[Any], model: str) -> None:
        if isinstance(call.origin, Origin) and call.origin.pid is not None:
            self._homes.pop(_who(call), None)  # the newest stand last
            self._homes[_who(call)] = Home(model, self.bus.time())
            while len(self._homes) > self._remembered:
                del self._homes[next(iter(self._homes))]

    def hand_over(self, successor: "Failover") -> None:
        """Whoever has a home keeps it."""
        successor._homes = self._homes


def _who(call: Call[Any]) -> tuple[Pid | None, str]:
    """A process, and the alias it asks for."""
    return (call.origin.pid if isinstance(call.origin, Origin) else None, call.address)
