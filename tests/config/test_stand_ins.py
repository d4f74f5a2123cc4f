"""Fallbacks and faults in a file: how they are read, inherited, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.adapters.config_file import load_text
from sidecar.config.problem import Severity
from sidecar.core.config import Abort, Delay, Fallback, Fault, FaultMatch, Reset, RouteConfig, SlowBody

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.core.config import Config

STATIC = Fallback(status=503, headers=(("x-a", "1"), ("content-type", None)), body="down")
FAULT = Fault(
    300.0,
    Abort(503, 0.5),
    Delay(2.0, 0.1),
    Reset(0.01),
    SlowBody(1024, 0.01),
    FaultMatch(frozenset({"GET"}), (("x-a", None),)),
    in_windows=False,
)
FILE = f"""\
defaults:
  fallback: {{status: 503, headers: {{X-A: 1, content-type: null}}, body: down}}
  fault: {{ttl: 5m, abort: {{share: 50%}}, delay: {{duration: 2s, share: 0.1}}, in_windows: false}}
upstreams:
  shop:
    url: http://shop
    fallback: [{{upstream: backup}}, {{file: {__file__}}}]
    fault:
      reset: {{share: 1%}}
      slow_body: {{rate: 1KiB, share: 1%}}
      match: {{methods: GET, headers: {{X-A: null}}}}
  backup: {{url: http://backup, fault: null}}
routes:
  - {{name: shop, match: {{prefix: /shop/}}, upstream: shop}}
  - {{name: bare, match: {{prefix: /bare/}}, upstream: shop, fallback: null, fault: null}}
  - {{name: own, match: {{prefix: /own/}}, upstream: shop, fallback: {{status: 204}}, fault: {{ttl: 1m}}}}
"""


def configured(text: str) -> Config:
    loaded = load_text(text, {}, "f.yaml")
    assert loaded.config is not None, loaded.problems
    return loaded.config


def routes(text: str) -> dict[str, RouteConfig]:
    return {route.name: route for route in configured(text).routes}


def test_each_layer_replaces_the_fallbacks_of_the_one_below_and_adds_to_its_fault() -> None:
    found = routes(FILE)
    assert found["shop"].fallback == (Fallback(upstream="backup"), Fallback(file=__file__))
    assert found["shop"].fault == FAULT
    assert (found["bare"].fallback, found["bare"].fault) == (None, None)
    assert found["own"].fallback == (Fallback(status=204),)
    assert found["own"].fault is not None
    assert found["own"].fault.ttl == 60.0
    assert (found["backup"].fallback, found["backup"].fault) == ((STATIC,), None)
    assert found["own"].refs["fallback"] == "f.yaml:16"
    assert found["shop"].refs["fallback"] == "f.yaml:7"
    assert found["shop"].refs["fault.abort.share"] == "f.yaml:3"


def test_without_a_word_there_is_neither() -> None:
    (route,) = configured("upstreams: {a: {url: http://a}}").routes
    assert (route.fallback, route.fault) == (None, None)


WRONG = {
    "unknown upstream": ("fallback: {upstream: shpo}", "there is no upstream 'shpo'", "did you mean 'shop'?"),
    "itself": ("fallback: {upstream: shop}", "fallbacks lead round in a circle: shop → shop", "take one of them away"),
    "nothing": ("fallback: {}", "this fallback says nothing", "write upstream, file, or status and body"),
    "nothing in a list": ("fallback: [{status: 500}, {}]", "this fallback says nothing", "write upstream"),
    "upstream and status": (
        "fallback: {upstream: other, status: 200}",
        "a fallback has both upstream and status",
        "make them two fallbacks of a list",
    ),
    "file and body": (f"fallback: {{file: {__file__}, body: x}}", "a fallback has both file and body", "keep one"),
    "no content": ("fallback: {status: 204, body: x}", "an answer with status 204 has no content", "remove file"),
    "interim": ("fallback: {status: 101}", "101 is out of range", ""),
    "framing": ("fallback: {headers: {Content-Length: 3}}", "content-length is the sidecar's own to send", "remove it"),
    "what says so": (
        "fallback: {headers: {X-Sidecar-Fallback: other}}",
        "x-sidecar-fallback is the sidecar's own to send",
        "remove it",
    ),
    "why it is given": (
        "fallback: {headers: {Proxy-Status: x}}",
        "proxy-status is the sidecar's own to send",
        "remove",
    ),
    "hop by hop": ("fallback: {headers: {Connection: close}}", "connection is the sidecar's own to send", "remove it"),
    "a missing file": ("fallback: {file: /no/such/file}", "file: '/no/such/file' cannot be read", "name a file"),
    "an unknown key": ("fallback: {boddy: x}", "unknown key 'boddy' in fallback", "did you mean 'body'?"),
    "no mapping": ("fallback: [503]", "fallback must be a mapping, not a single value", "its keys: status,"),
    "a ttl of null": ("fault: {ttl: null, reset: {}}", "ttl needs a value", "write a duration"),
    "no share": ("fault: {ttl: 5m, reset: {share: 0}}", "share: a share of nothing has no effect", "above 0%"),
    "no injection by word": ("fault: {ttl: 5m, reset: true}", "reset must be a mapping", "its keys: share; null: none"),
    "no ttl": ("fault: {abort: {status: 503}}", "fault needs ttl", "when it ends by itself"),
    "no injection": ("fault: {ttl: 5m}", "this fault does nothing", "write one of abort, delay, reset, slow_body"),
    "only nulls": ("fault: {ttl: 5m, abort: null}", "this fault does nothing", "write one of abort"),
    "no duration": ("fault: {ttl: 5m, delay: {share: 1%}}", "delay needs duration", ""),
    "a success": ("fault: {ttl: 5m, abort: {status: 200}}", "200 is out of range", ""),
    "no rate": ("fault: {ttl: 5m, slow_body: {}}", "slow_body needs rate", ""),
}


@pytest.mark.parametrize("place", ["upstream", "route"])
@pytest.mark.parametrize(("said", "message", "hint"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_an_error_in_its_line(said: str, message: str, hint: str, place: str) -> None:
    of_upstream, of_route = (said, "") if place == "upstream" else ("", said)
    text = f"""\
upstreams:
  other: {{url: http://other}}
  shop:
    url: http://shop
    {of_upstream}
routes:
  - match: {{prefix: /shop/}}
    upstream: shop
    {of_route}
"""
    loaded = load_text(text, {})
    assert loaded.config is None
    line = 5 if place == "upstream" else 9
    found = [problem for problem in loaded.errors if message in problem.message]
    assert [problem.line for problem in found] == [line], loaded.problems
    assert hint in found[0].hint


def test_a_file_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    for size, wrong in ((1 << 20, False), ((1 << 20) + 1, True)):
        file = tmp_path / "large"
        file.write_bytes(b"x" * size)
        loaded = load_text(f"upstreams: {{a: {{url: 'http://a', fallback: {{file: {file}}}}}}}", {})
        assert ["is larger than 1MiB" in problem.message for problem in loaded.errors] == [True] * wrong


def test_a_circle_of_upstreams_is_an_error_wherever_it_begins() -> None:
    text = """\
upstreams:
  a: {url: http://a, fallback: {upstream: b}}
  b: {url: http://b, fallback: [{upstream: c}, {status: 503}]}
  c: {url: http://c, fallback: {upstream: a}}
  d: {url: http://d, fallback: {upstream: a}}
"""
    assert [(problem.line, problem.message) for problem in load_text(text, {}).errors] == [
        (2, "fallbacks lead round in a circle: a → b → c → a"),
        (3, "fallbacks lead round in a circle: b → c → a → b"),
        (4, "fallbacks lead round in a circle: c → a → b → c"),
    ]


def test_a_circle_that_no_route_goes_is_none() -> None:
    text = """\
upstreams:
  a: {url: http://a, fallback: {upstream: b}}
  b: {url: http://b, fallback: {upstream: a}}
routes: [{name: b, match: {prefix: /b/}, upstream: b, fallback: null}]
"""
    assert load_text(text, {}).problems == ()


WARNED = {
    "behind a fixed one": ("[{status: 503}, {upstream: other}]", "fallbacks behind the static one are never tried"),
    "behind a file": (f"[{{file: {__file__}}}, {{status: 503}}]", "fallbacks behind the file one are never tried"),
    "the same address": ("{upstream: twin}", "upstream twin has no address but those of shop"),
}


@pytest.mark.parametrize(("said", "message"), WARNED.values(), ids=WARNED)
def test_what_is_of_no_use_is_warned_of(said: str, message: str) -> None:
    text = f"""\
upstreams:
  other: {{url: http://other}}
  twin: {{url: http://shop}}
  shop:
    url: http://shop
    fallback: {said}
"""
    (problem,) = load_text(text, {}).problems
    assert (problem.severity, problem.line) == (Severity.WARNING, 6)
    assert message in problem.message
