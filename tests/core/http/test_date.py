"""HTTP dates, against the standard library where that can tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.http.date import format_http_date, parse_http_date, year_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(-62_000_000_000, 250_000_000_000)


@given(MOMENTS)
def test_a_date_is_written_and_read_as_the_calendar_has_it(seconds: int) -> None:
    moment = EPOCH + timedelta(seconds=seconds)
    text = f"{moment:%a, %d %b} {moment.year:04d} {moment:%H:%M:%S} GMT".encode()
    assert format_http_date(seconds) == text
    assert parse_http_date(text, 2026) == seconds
    assert year_of(seconds) == moment.year


READ = {
    b"Sun, 06 Nov 1994 08:49:37 GMT": 784_111_777,
    b"Sunday, 06-Nov-94 08:49:37 GMT": 784_111_777,
    b"Sun Nov  6 08:49:37 1994": 784_111_777,
    b"Wed Nov 16 08:49:37 1994": 784_975_777,
    b"SUN, 06 nov 1994 08:49:37 gmt": 784_111_777,
    b"Mon, 06 Nov 1994 08:49:37 GMT": 784_111_777,  # the weekday is not checked
    b"Tue, 29 Feb 2000 00:00:00 GMT": 951_782_400,
    b"Tue, 30 Jun 2015 23:59:60 GMT": 1_435_708_800,
}
REFUSED = (
    b"", b"0", b"-1", b"Sun, 6 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 94 08:49:37 GMT", b"Sun 06 Nov 1994 08:49:37 GMT",
    b"Sun, 06-Nov-1994 08:49:37 GMT", b"Sun, 06 Nov 1994 8:49:37 GMT", b"Sun, 06 Nov 1994 08.49.37 GMT",
    b"Sun, 06  Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:37 UTC", b"Sun, 06 Nov 1994 08:49:37 +0000",
    b"Sun, 06 Nov 1994 08:49:37", b" Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:37 GMT ",
    b"Sun, 06 Nov 1994 24:00:00 GMT", b"Sun, 06 Nov 1994 08:60:37 GMT", b"Sun, 06 Nov 1994 08:49:61 GMT",
    b"Sun, 00 Nov 1994 08:49:37 GMT", b"Sun, 31 Nov 1994 08:49:37 GMT", b"Sun, 29 Feb 1900 08:49:37 GMT",
    b"Sun, 06 Nov 0000 08:49:37 GMT", b"Foo, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Foo 1994 08:49:37 GMT",
    b"Sun, 06-Nov-94 08:49:37 GMT", b"Sun Nov 6 08:49:37 1994", "Sun, 0６ Nov 1994 08:49:37 GMT".encode(),
)  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), READ.items())
def test_the_three_formats_are_read(text: bytes, seconds: int) -> None:
    assert parse_http_date(text, 2026) == seconds


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_else_is_a_date(text: bytes) -> None:
    assert parse_http_date(text, 2026) is None


@pytest.mark.parametrize(
    ("this_year", "short", "full"), [(2026, b"76", 2076), (2026, b"77", 1977), (1999, b"00", 1900), (1990, b"40", 1940)]
)
def test_a_short_year_is_at_most_fifty_years_ahead(this_year: int, short: bytes, full: int) -> None:
    seconds = parse_http_date(b"Sunday, 06-Nov-" + short + b" 08:49:37 GMT", this_year)
    assert seconds is not None
    assert year_of(seconds) == full
