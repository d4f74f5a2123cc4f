"""GET /v1/explain of the real app: what is in force, each with its place in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.app.conftest import Configure

FILE = """\
proxy: {listen: "127.0.0.1:0"}
admin: {listen: "127.0.0.1:0"}
telemetry: {listen: "127.0.0.1:0"}
defaults:
  timeouts: {first_byte: 3s}
upstreams:
  shop:
    url: http://127.0.0.1:9/base
    breaker:
      open_duration: 20s
routes:
  - name: read
    match: {prefix: /shop/, methods: [GET]}
    upstream: shop
    rewrite: {strip_prefix: /shop}
    cache:
      stale_ttl: 5m
"""


def setting(explanation: Any, name: str) -> tuple[Any, str | None]:
    (found,) = (each for each in explanation["settings"] if each["name"] == name)
    return found["value"], found["config_ref"]


async def test_each_setting_has_the_line_that_decides_it(configure: Configure) -> None:
    sidecar = await configure(FILE)

    status, said = await sidecar.call("GET", "/v1/explain?method=GET&url=/shop/items%2F1%3Fq=2")

    assert status == 200
    assert (said["route"], said["upstream"], said["config_ref"]) == ("read", "shop", f"{sidecar.file}:12")
    assert said["sends"] == "GET http://127.0.0.1:9/base/items/1?q=2"
    assert setting(said, "timeouts.first_byte") == ("3s", f"{sidecar.file}:5")
    assert setting(said, "breaker.open_duration") == ("20s", f"{sidecar.file}:10")
    assert setting(said, "cache.stale_ttl") == ("5m", f"{sidecar.file}:17")
    assert setting(said, "breaker.failure_threshold") == (5, None)


async def test_a_request_without_a_route_is_told_why(configure: Configure) -> None:
    sidecar = await configure(FILE)

    said = (await sidecar.call("GET", "/v1/explain?method=POST&url=/shop/items"))[1]

    assert (said["route"], said["settings"]) == (None, None)
    assert said["candidates"] == [{"route": "read", "path": "/shop/", "failed": ["method is POST, not GET"]}]


async def test_it_tells_what_is_in_force_after_a_reload(configure: Configure) -> None:
    sidecar = await configure(FILE)

    await sidecar.reload("# moved\n" + FILE.replace("20s", "30s"))

    said = (await sidecar.call("GET", "/v1/explain?url=/shop/items"))[1]
    assert setting(said, "breaker.open_duration") == ("30s", f"{sidecar.file}:11")
