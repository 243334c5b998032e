"""Retention: how long what is left of a process is kept after its end."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Literal

import anyio

from ...kernel.log import log
from ...kernel.service import Service
from .messages import ENDED, Expiry, ForgetExpired, State, StorageUnavailable

Ended = Literal["exited", "failed", "killed"]
DAY_S = 86_400.0


class Retention(Service, name="retention", needs_at_start=[ForgetExpired]):
    """Forgets processes, whole, some days after they have ended; what lives needs, it keeps.

        [services.retention]
        ended_after_days = 30
        states = { failed = 90 }
        tenants = { acme = 7 }

    `states` has other numbers of days for some ends, `tenants` for all processes of a tenant.
    What nothing is said of is kept for ever. Of a process with a key the record stays, and
    spawning under the key still gives it with its result, unless `keys_after_days` says that
    keys are free again so long after the end. It looks every `every_s` seconds, and deletes
    `batch` processes at a time.
    """

    def __init__(
        self,
        ended_after_days: float | None = None,
        states: Mapping[Ended, float] | None = None,
        tenants: Mapping[str, float] | None = None,
        keys_after_days: float | None = None,
        every_s: float = 3600.0,
        batch: int = 100,
    ) -> None:
        self._keys_after_s = None if keys_after_days is None else keys_after_days * DAY_S
        self._every_s, self._batch = every_s, batch
        self.expiries = tuple(self._expiries(ended_after_days, states or {}, tenants or {}))
        if not self.expiries:
            raise ValueError("nothing is ever over: set ended_after_days, states or tenants")
        given = (ended_after_days, keys_after_days, *(states or {}).values())
        if min(days for days in (*given, *(tenants or {}).values()) if days is not None) < 0:
            raise ValueError("what is kept is kept for 0 days or more")

    def _expiries(
        self, days: float | None, states: Mapping[Ended, float], tenants: Mapping[str, float]
    ) -> Iterator[Expiry]:
        for tenant, own in tenants.items():
            yield self._expiry(own, tenant=tenant)
        for state, own in states.items():
            yield self._expiry(own, states=(state,), but_tenants=tuple(tenants))
        others: tuple[State, ...] = tuple(sorted(ENDED.difference(states)))
        if days is not None and others:
            yield self._expiry(days, states=others, but_tenants=tuple(tenants))

    def _expiry(
        self,
        days: float,
        *,
        states: tuple[State, ...] = tuple(sorted(ENDED)),
        tenant: str | None = None,
        but_tenants: tuple[str, ...] = (),
    ) -> Expiry:
        return Expiry(
            after_s=days * DAY_S,
            states=states,
            tenant=tenant,
            but_tenants=but_tenants,
            keys_after_s=self._keys_after_s,
        )

    async def run(self) -> None:
        while True:
            with suppress(StorageUnavailable):  # it may be back the next time
                await self._sweep()
            await anyio.sleep(self._every_s)

    async def _sweep(self) -> None:
        for expiry in self.expiries:
            forgotten, more = 0, True
            while more:
                gone = await self.request(ForgetExpired(expiry=expiry, limit=self._batch))
                forgotten, more = forgotten + len(gone), len(gone) == self._batch
            if forgotten:
                log.info("retention.forgot", processes=forgotten, tenant=expiry.tenant)
