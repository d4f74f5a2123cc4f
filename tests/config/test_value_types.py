import re
from typing import Any

import pytest

from sidecar.config.units import BadValue
from sidecar.config.value_types import ListType, regex, scalar_type, value_type
from sidecar.core import config_key as k
from sidecar.core.config import (
    HEDGE_DELAY,
    RATE,
    RETRY_METHOD,
    RETRY_ON,
    WINDOW,
    BreakerMode,
    CountWindow,
    Measured,
    Rate,
    RetryCause,
    TimeWindow,
)
from sidecar.core.config_key import ValueType


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (k.duration(zero=True), "0s", 0.0),
        (k.size(1024), "1KiB", 1024),
        (k.percentage(zero=True), "0%", 0.0),
        (k.whole(0, 5), "5", 5),
        (k.number(1), "1", 1.0),
        (BreakerMode, "off", BreakerMode.OFF),
        (k.IDENTIFIER, "catalog-read_2.x", "catalog-read_2.x"),
        (k.FIELD_NAME, "X-Tenant", "x-tenant"),
        (WINDOW, "100", CountWindow(100)),
        (WINDOW, "1m", TimeWindow(60.0)),
        (RATE, "100/s", Rate(100.0, 1.0)),
        (RATE, "2.5 / m", Rate(2.5, 60.0)),
        (RATE, "1/h", Rate(1.0, 3600.0)),
        (k.PATH, "/a/b%20c/~x;y=1,2:3@$&'()*+!", "/a/b%20c/~x;y=1,2:3@$&'()*+!"),
        (k.SEGMENTS, "", ""),
        (k.SEGMENTS, "/", ""),
        (k.SEGMENTS, "/a/", "/a"),
        (k.SEGMENTS, "/a//", "/a/"),
        (k.METHOD, "PROPFIND", "PROPFIND"),
        (k.HOST, "Shop.Local:8080", "shop.local:8080"),
        (k.HOST, "[::1]", "[::1]"),
        (RETRY_METHOD, "idempotent", "idempotent"),
        (RETRY_METHOD, "POST", "POST"),
        (HEDGE_DELAY, "100ms", 0.1),
        (HEDGE_DELAY, "p95", Measured.P95),
    ],
)
def test_a_value_is_read(kind: ValueType[Any], text: str, value: object) -> None:
    assert scalar_type(kind).parse(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        (k.duration(), "0ms", "write how long, such as 500ms"),
        (k.size(1024), "1B", "write 1KiB or more"),
        (k.percentage(), "0", "write a share above 0%, or null to switch it off"),
        (k.whole(1, 5), "0", "write a whole number from 1 to 5"),
        (k.whole(1, 5), "6", "write a whole number from 1 to 5"),
        (k.number(1), "0.9", "write 1 or more"),
        (BreakerMode, "enforced", "did you mean 'enforce'?"),
        (BreakerMode, "banana", "known here: enforce, observe, off"),
        (WINDOW, "1000001", "write 1 to 1000000"),
        (WINDOW, "99ms", "write 100ms or more"),
        (RATE, "100", "write a number with its unit of time: 100/s"),
        (RATE, "", "write a number with its unit of time: 100/s, 5/m or 1/h"),
        (RATE, "-1/s", "write a number with its unit of time: 100/s, 5/m or 1/h"),
        (RATE, "5/d", "write a number with its unit of time: 100/s, 5/m or 1/h"),
        (RATE, "0/s", "write a number above 0, or null for no limit"),
        (RETRY_METHOD, "TRACE", ""),
        (HEDGE_DELAY, "0s", "write how long, such as 500ms"),
        (k.PATH, "a", "write /a"),
        (k.PATH, "", "write /"),
        (k.PATH, " a", ""),
        (k.PATH, "/a?b", "the query takes no part in routing"),
        (k.PATH, "/a#b", "the query takes no part in routing"),
        (k.PATH, "/ä", "percent-encode it, as clients do"),
        (k.PATH, "/a b", "percent-encode it, as clients do"),
        (k.METHOD, "G T", "write GET, POST, …"),
        (k.METHOD, "GÄT", "write GET, POST, …"),
        (k.METHOD, "", "write GET, POST, …"),
        (k.METHOD, "M" * 33, "at most 32 characters are taken"),
        (k.METHOD, "PRI", ""),
        (k.METHOD, "TRACE", ""),
        (k.HOST, "a/b", ""),
        (k.HOST, "user@a", ""),
        (k.IDENTIFIER, "-a", ""),
        (k.IDENTIFIER, "a" * 101, ""),
        (k.IDENTIFIER, 'a"b', ""),
        (k.IDENTIFIER, "a\n", ""),
        (k.VIA_NAME, "1a", ""),
        (k.FIELD_NAME, "x y", ""),
        (k.FIELD_VALUE, "a\r\nb", ""),
        (k.FILE, "", ""),
        (k.FILE, "/a\0b", ""),
        (k.PARAMETER, "a=b", ""),
        (k.REGEX, "[", ""),
        (k.REGEX, "a{99999999999}", ""),
        (k.REGEX, "(" * 3000 + ")" * 3000, ""),
    ],
)
def test_a_value_of_another_kind_is_refused(kind: ValueType[Any], text: str, hint: str) -> None:
    with pytest.raises(BadValue) as refused:
        scalar_type(kind).parse(text)
    assert refused.value.hint == hint


def test_a_pattern_is_compiled_for_octets() -> None:
    assert regex("/ä").match("/ä".encode()) is not None


def test_items_keep_their_order_and_come_once() -> None:
    names = value_type(k.tuple_of(k.FIELD_NAME))
    assert isinstance(names, ListType)
    assert names.collect(["b", "a", "b"]) == ("b", "a")


@pytest.mark.parametrize("kind", [k.duration(), k.PATH, k.STATUSES, WINDOW, bool, k.size(), k.percentage(), k.whole()])
def test_the_schema_lets_a_variable_stand_for_any_value(kind: ValueType[Any]) -> None:
    patterns = re.findall(r"'pattern': '([^']*)'", str(value_type(kind)).replace("\\\\", "\\"))
    assert any(re.search(pattern, "${VALUE:-1}") for pattern in patterns)


def test_causes_of_a_retry_are_words_and_statuses_in_one_list() -> None:
    kind = value_type(RETRY_ON)
    assert isinstance(kind, ListType)
    causes = kind.collect([kind.item.parse(text) for text in ("reset", "502-504", "timeout", "429")])
    assert causes == {RetryCause.RESET, RetryCause.TIMEOUT, 429, 502, 503, 504}
    assert kind.show(causes) == ["reset", "timeout", "429", "502-504"]


def test_a_word_like_idempotent_is_no_method() -> None:
    kind = value_type(k.set_of(RETRY_METHOD))
    assert isinstance(kind, ListType)
    assert [kind.item.parse(text) for text in ("idempotent", "GET", "LINK")] == ["idempotent", "GET", "LINK"]
    for text in ("idempotant", "Idempotent", "IDEMPOTENT"):
        with pytest.raises(BadValue) as refused:
            kind.item.parse(text)
        assert refused.value.hint == "did you mean 'idempotent'?"


@pytest.mark.parametrize(
    ("text", "hint"),
    [("conect", "did you mean 'connect'?"), ("600", "write 503 or 500-599"), ("504-502", "write 502-504")],
)
def test_what_is_no_cause_of_a_retry_is_refused(text: str, hint: str) -> None:
    kind = value_type(RETRY_ON)
    assert isinstance(kind, ListType)
    with pytest.raises(BadValue) as refused:
        kind.item.parse(text)
    assert hint in refused.value.hint
