"""Cron expressions: when they occur next."""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError


class Schedule:
    """The times that an expression names, in a time zone.

    Schedule("0 9 * * 1-5", "Europe/Zurich").after(now)
    """

    def __init__(self, expression: str, zone: str) -> None:
        """Raises ValueError."""
        try:
            self._zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f'there is no time zone {zone!r}; write e.g. "UTC"') from error
        self._expression = expression
        try:
            CronSim(expression, datetime(2000, 1, 1, tzinfo=self._zone))
        except CronSimError as error:
            raise ValueError(
                f"{expression!r} is no cron expression ({error}): write minute, hour, day, month "
                'and weekday, e.g. "0 9 * * 1-5"'
            ) from error

    def after(self, moment: float) -> float:
        """The first of them later than this one; both in seconds since 1970."""
        then = datetime.fromtimestamp(moment, self._zone)
        try:
            return next(CronSim(self._expression, then)).timestamp()
        except StopIteration:
            raise ValueError(f"{self._expression!r} names no time to come") from None
