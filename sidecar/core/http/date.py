"""HTTP dates (RFC 9110 §5.6.7): seconds since 1970 ↔ bytes, calendar arithmetic included.

Read strictly, in the three formats a recipient must accept and in no other; names and GMT in any case. The weekday is
not checked against the date, since nothing depends on it.
"""

from __future__ import annotations

import re
from functools import lru_cache

MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
WEEKDAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
DAY = 86_400
"""Seconds."""
FAR_AHEAD = 50
"""A two-digit year more years ahead than this is one of the past (RFC 9110 §5.6.7)."""

_MONTH = rb"(?P<month>" + b"|".join(MONTHS) + rb")"
_TIME = rb"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_DAY_NAME = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY_NAME = rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_FORMATS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # IMF-fixdate, the one that is sent today: Sun, 06 Nov 1994 08:49:37 GMT
        _DAY_NAME + rb", (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" gmt",
        # RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
        _LONG_DAY_NAME + rb", (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" gmt",
        # asctime: Sun Nov  6 08:49:37 1994
        _DAY_NAME + rb" " + _MONTH + rb" (?P<day>[ 0-9][0-9]) " + _TIME + rb" (?P<year>[0-9]{4})",
    )
)


@lru_cache(maxsize=256)
def parse_http_date(value: bytes, this_year: int) -> int | None:
    """Seconds since 1970 UTC; None when `value` is no HTTP-date. `this_year` settles the century of RFC 850 years."""
    for pattern in _FORMATS:
        found = pattern.fullmatch(value)
        if found is not None:
            return _seconds(found, this_year)
    return None


def format_http_date(seconds: float) -> bytes:
    """The preferred format (IMF-fixdate) of a moment, seconds since 1970 UTC."""
    days, rest = divmod(int(seconds), DAY)
    year, month, day = _civil(days)
    name = MONTHS[month - 1].capitalize()
    clock = (rest // 3600, rest // 60 % 60, rest % 60)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (WEEKDAYS[(days + 3) % 7], day, name, year, *clock)


def year_of(wall: float) -> int:
    """The calendar year of `wall`, seconds since 1970 UTC."""
    return _civil(int(wall // DAY))[0]


def _seconds(found: re.Match[bytes], this_year: int) -> int | None:
    year = _full_year(found["year"], this_year)
    month = MONTHS.index(found["month"].lower()) + 1
    day = int(found["day"])
    if year == 0 or not 1 <= day <= _month_days(year, month):
        return None
    time_of_day = int(found["hour"]) * 3600 + int(found["minute"]) * 60 + int(found["second"])
    return _days(year, month, day) * DAY + time_of_day


def _full_year(digits: bytes, this_year: int) -> int:
    if len(digits) == 4:
        return int(digits)
    year = this_year - this_year % 100 + int(digits)
    return year - 100 if year > this_year + FAR_AHEAD else year


def _month_days(year: int, month: int) -> int:
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return MONTH_DAYS[month - 1] + leap


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01, by years that begin in March, so that the leap day is the last of its year."""
    if month <= 2:
        year -= 1
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + day_of_year - 719_468


@lru_cache(maxsize=64)
def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of the day that is `days` after 1970-01-01: the inverse of `_days`."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1
