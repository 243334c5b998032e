"""Places that kernels share: asking for them, and hearing who else does."""

from dataclasses import dataclass

from ...subsystems.storage import driver as d
from ._postgres_connections import Settings
from ._postgres_line import Connection
from ._postgres_sql import sql


@dataclass(frozen=True)
class Holding:
    """What a kernel says of the places of a name; said twice, it changes nothing more."""

    hold: d.HoldSeats
    kernel: int
    settings: Settings

    async def do(self, connection: Connection) -> d.Held:
        hold, namespace = self.hold, self.settings.namespace
        whose = (namespace, hold.name, hold.holder, self.kernel, hold.turn)
        what = (hold.places, hold.used, hold.wants, hold.most, d.SEATS_WAIT_S)
        async with connection.transaction():
            await connection.execute(sql("lock_seats"), namespace, hold.name)
            row = await connection.fetchrow(sql("hold_seats"), *whose, *what)
        if row is None:
            return d.Held(0, wait_s=d.SEATS_AGAIN_S)
        wait_s = min(max(row["lapses_s"], d.SEATS_LEAST_S), d.SEATS_AGAIN_S)
        return d.Held(row["held"], row["good_s"], wait_s, row["share"], row["wanted"])


def called(told: str) -> d.SeatsCalled:
    """What was heard; names may have spaces in them."""
    holder, wanted, freed, share, name = told.split(" ", 4)
    return d.SeatsCalled(
        name=name, holder=holder, wanted=wanted == "t", freed=freed == "t", share=int(share)
    )
