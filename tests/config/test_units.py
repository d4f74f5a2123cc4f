import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import units
from sidecar.config.units import BadValue


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("2s", 2.0),
        ("1.5s", 1.5),
        ("1m", 60.0),
        ("1h30m", 5400.0),
        ("1m30s", 90.0),
        ("1d", 86400.0),
        ("0s", 0.0),
        ("010s", 10.0),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert units.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 s",
        "-1s",
        "+1s",
        "1_0s",
        "1e3s",
        ".5s",
        "5.s",
        "1:30",
        "s",
        "5S",
        "1h 30m",
        "٣s",
        "inf",
        "1s\n",
        "9" * 13 + "s",
    ],
)
def test_what_is_no_duration_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(BadValue) as refused:
        units.duration(text)
    assert "write" in refused.value.hint


def test_a_number_without_unit_gets_both_spellings_as_a_hint() -> None:
    with pytest.raises(BadValue) as refused:
        units.duration("30")
    assert refused.value.hint == "write a number with its unit: 30s or 30ms"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("64KiB", 65536),
        ("1.5MiB", 1572864),
        ("1 GiB", 1 << 30),
        ("1TiB", 1 << 40),
        ("10kB", 10_000),
        ("10KB", 10_000),
        ("10MB", 10_000_000),
    ],
)
def test_a_size_is_read_in_bytes(text: str, count: int) -> None:
    assert units.size(text) == count


@pytest.mark.parametrize("text", ["", "-1", "1_000", "64K", "64kib", "1e3", "0x10", "KiB", "1MiB "])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        units.size(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("50%", 0.5), ("50 %", 0.5), ("0.5", 0.5), ("0", 0.0), ("1", 1.0), ("100%", 1.0), ("0.5%", 0.005)],
)
def test_a_share_is_a_percentage_or_a_fraction(text: str, value: float) -> None:
    assert units.percentage(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("50", "write 50% or 0.5"),
        ("101%", "write 100% at most"),
        ("half", "write 50% or 0.5"),
        ("-0.5", "write 50% or 0.5"),
    ],
)
def test_what_is_no_share_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(BadValue) as refused:
        units.percentage(text)
    assert refused.value.hint == hint


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("false", False), ("FALSE", False)])
def test_a_boolean_is_true_or_false(text: str, *, value: bool) -> None:
    assert units.boolean(text) is value


@pytest.mark.parametrize(
    ("text", "hint"),
    [("on", "write true"), ("NO", "write false"), ("y", "write true"), ("1", ""), ("tRue", ""), ("", "")],
)
def test_the_other_booleans_of_yaml_1_1_are_refused(text: str, hint: str) -> None:
    with pytest.raises(BadValue) as refused:
        units.boolean(text)
    assert refused.value.hint == hint


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("010", 10), ("100", 100)])
def test_a_whole_number_is_decimal(text: str, value: int) -> None:
    assert units.whole(text) == value


@pytest.mark.parametrize("text", ["", "1_000", "0x10", "0o10", "1.0", "-1", "+1", "1e3", "1:30", ".inf", "²", "1" * 16])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        units.whole(text)


@pytest.mark.parametrize(
    ("text", "first", "last", "count"), [("503", 503, 503, 1), ("500-599", 500, 599, 100), ("500 - 502", 500, 502, 3)]
)
def test_a_status_range_includes_both_ends(text: str, first: int, last: int, count: int) -> None:
    codes = units.statuses(text)
    assert (min(codes), max(codes), len(codes)) == (first, last, count)


@pytest.mark.parametrize("text", ["", "5xx", "600", "99", "0500", "503-500", "500-", "-500", "500-599-600"])
def test_what_is_no_status_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        units.statuses(text)


@given(st.frozensets(st.integers(100, 599)))
def test_shown_statuses_read_back_the_same(codes: frozenset[int]) -> None:
    assert frozenset[int]().union(*map(units.statuses, units.show_statuses(codes))) == codes


@given(st.integers(0, 10**9))
def test_a_shown_duration_reads_back_the_same(milliseconds: int) -> None:
    assert units.duration(units.show_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.integers(0, 10**15 - 1))
def test_a_shown_size_reads_back_the_same(count: int) -> None:
    assert units.size(units.show_size(count)) == count


@given(st.integers(0, 10_000))
def test_a_shown_share_reads_back_the_same(basis_points: int) -> None:
    assert units.percentage(units.show_percentage(basis_points / 10_000)) == pytest.approx(basis_points / 10_000)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(60, "1m"), (90, "90s"), (0.25, "250ms"), (86400, "1d"), (0, "0s"), (1.5, "1.5s")]
)
def test_a_duration_is_shown_in_the_largest_exact_unit(seconds: float, shown: str) -> None:
    assert units.show_duration(seconds) == shown


def test_a_long_value_is_cut_in_messages() -> None:
    assert len(units.quoted("x" * 10_000)) < 80
