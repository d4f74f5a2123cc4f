import re

import pytest

from sidecar.core.config import BreakerMode, CountWindow, TimeWindow
from sidecar.core.settings import config_types as t
from sidecar.core.settings.config_types import ScalarType
from sidecar.core.settings.units import BadValue


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (t.duration(zero=True), "0s", 0.0),
        (t.size(1024), "1KiB", 1024),
        (t.share(zero=True), "0%", 0.0),
        (t.integer(0, 5), "5", 5),
        (t.number(1), "1", 1.0),
        (t.choice(BreakerMode), "off", BreakerMode.OFF),
        (t.IDENTIFIER, "catalog-read_2.x", "catalog-read_2.x"),
        (t.FIELD_NAME, "X-Tenant", "x-tenant"),
        (t.WINDOW, "100", CountWindow(100)),
        (t.WINDOW, "1m", TimeWindow(60.0)),
        (t.PATH, "/a/b%20c/~x;y=1,2:3@$&'()*+!", "/a/b%20c/~x;y=1,2:3@$&'()*+!"),
        (t.SEGMENTS, "", ""),
        (t.SEGMENTS, "/", ""),
        (t.SEGMENTS, "/a/", "/a"),
        (t.SEGMENTS, "/a//", "/a/"),
        (t.METHOD, "PROPFIND", "PROPFIND"),
        (t.HOST, "Shop.Local:8080", "shop.local:8080"),
        (t.HOST, "[::1]", "[::1]"),
    ],
)
def test_a_value_is_read(kind: ScalarType, text: str, value: object) -> None:
    assert kind.parse(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        (t.duration(), "0ms", "write how long, such as 500ms"),
        (t.size(1024), "1B", "write 1KiB or more"),
        (t.share(), "0", "write a share above 0%, or null to switch it off"),
        (t.integer(1, 5), "0", "write a whole number from 1 to 5"),
        (t.integer(1, 5), "6", "write a whole number from 1 to 5"),
        (t.number(1), "0.9", "write 1 or more"),
        (t.choice(BreakerMode), "enforced", "did you mean 'enforce'?"),
        (t.choice(BreakerMode), "banana", "known here: enforce, observe, off"),
        (t.WINDOW, "1000001", "write 1 to 1000000"),
        (t.WINDOW, "99ms", "write 100ms or more"),
        (t.PATH, "a", "write /a"),
        (t.PATH, "", "write /"),
        (t.PATH, " a", ""),
        (t.PATH, "/a?b", "the query takes no part in routing"),
        (t.PATH, "/a#b", "the query takes no part in routing"),
        (t.PATH, "/ä", "percent-encode it, as clients do"),
        (t.PATH, "/a b", "percent-encode it, as clients do"),
        (t.METHOD, "G T", "write GET, POST, …"),
        (t.METHOD, "GÄT", "write GET, POST, …"),
        (t.METHOD, "", "write GET, POST, …"),
        (t.METHOD, "M" * 33, "at most 32 characters are taken"),
        (t.METHOD, "PRI", ""),
        (t.METHOD, "TRACE", ""),
        (t.HOST, "a/b", ""),
        (t.HOST, "user@a", ""),
        (t.IDENTIFIER, "-a", ""),
        (t.IDENTIFIER, "a" * 101, ""),
        (t.IDENTIFIER, 'a"b', ""),
        (t.IDENTIFIER, "a\n", ""),
        (t.VIA_NAME, "1a", ""),
        (t.FIELD_NAME, "x y", ""),
        (t.FIELD_VALUE, "a\r\nb", ""),
        (t.FILE, "", ""),
        (t.FILE, "/a\0b", ""),
        (t.PARAMETER, "a=b", ""),
        (t.REGEX, "[", ""),
        (t.REGEX, "a{99999999999}", ""),
        (t.REGEX, "(" * 3000 + ")" * 3000, ""),
    ],
)
def test_a_value_of_another_kind_is_refused(kind: ScalarType, text: str, hint: str) -> None:
    with pytest.raises(BadValue) as refused:
        kind.parse(text)
    assert refused.value.hint == hint


def test_a_pattern_is_compiled_for_octets() -> None:
    assert t.regex("/ä").match("/ä".encode()) is not None


def test_items_keep_their_order_and_come_once() -> None:
    assert t.tuple_of(t.FIELD_NAME).collect(["b", "a", "b"]) == ("b", "a")


@pytest.mark.parametrize(
    "kind", [t.duration(), t.PATH, t.STATUS, t.WINDOW, t.BOOLEAN, t.size(), t.share(), t.integer()]
)
def test_the_schema_lets_a_variable_stand_for_any_value(kind: ScalarType) -> None:
    patterns = re.findall(r"'pattern': '([^']*)'", str(kind.schema).replace("\\\\", "\\"))
    assert any(re.search(pattern, "${VALUE:-1}") for pattern in patterns)
