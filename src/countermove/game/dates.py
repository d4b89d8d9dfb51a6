"""Since when methods are known: an audit's [dates] table."""

from __future__ import annotations

import datetime
import re

from countermove.errors import ConfigError, did_you_mean
from countermove.game import spelling
from countermove.game.config import AuditConfig

TIMELESS = ""
"""The date of what was always there; it lies before all others."""

_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


class Dates:
    """When methods became known, from an audit's [dates] table: spellings, or names for all settings of a method."""

    def __init__(self, config: AuditConfig) -> None:
        """Check the table.

        Raises:
            ConfigError: a date that is none, or a key that is on no axis.
        """
        self.dates = config.dates
        axes = config.axes()
        spelled = [entry for kind in ("move", "countermove", "model") for entry in axes[kind]]
        known = {*spelled, *(part.name for entry in spelled for part in spelling.parse(entry))}
        for key, date in self.dates.items():
            check_date(date)
            if key not in known:
                raise ConfigError(f"[dates] has {key!r}, which is on no axis; {did_you_mean(key, sorted(known))}")

    def of(self, spelled: str) -> str:
        """Return the date of an entry of an axis: its own, or the latest of its parts'; "" where there is none."""
        if spelled in self.dates:
            return self.dates[spelled]
        return max((self.dates.get(part.name, TIMELESS) for part in spelling.parse(spelled)), default=TIMELESS)


def check_date(date: str) -> None:
    """Refuse what is no date. Dates are compared as texts: a year or a month alone is its beginning.

    Raises:
        ConfigError: when it is not YYYY, YYYY-MM or YYYY-MM-DD, or there is no such month or day.
    """
    try:
        known = _DATE.fullmatch(date) is not None and datetime.date.fromisoformat(date + "-01-01"[len(date) - 4 :])
    except ValueError:
        known = False
    if not known:
        raise ConfigError(f"{date!r} is no date; write 2021, 2021-04 or 2021-04-19")
