"""The configuration out of what the file says: layers merged, references resolved, values checked against each other.

defaults → upstream → route, key by key, block by block.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sidecar.core.config import Config, Match, Rewrite, RouteConfig, UpstreamConfig
from sidecar.core.settings import config_keys as keys
from sidecar.core.settings.config_given import Given, construct, merge, places, restricted
from sidecar.core.settings.config_schema import Block, Key
from sidecar.core.settings.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.core.config import Endpoint
    from sidecar.core.settings.problem import Position, Problems

LISTENERS = ("proxy", "admin", "telemetry")
INHERITED = frozenset(key.name for key in keys.PER_ROUTE)
ROOT_BLOCKS = tuple(key for key in keys.ROOT.keys if key.name in {"proxy", "admin", "telemetry", "cache"})
PATH_CONDITIONS = ("prefix", "path", "regex")
EXAMPLE = "upstreams: {catalog: {url: http://127.0.0.1:8080}}"

Places = dict[str, "Position"]
"""Where each dotted setting is given; the empty name is the block itself."""


@dataclass(slots=True)
class Built:
    """A configuration with the places of its settings, for findings that come later."""

    config: Config
    routes: dict[str, Places] = field(default_factory=dict)
    upstreams: dict[str, Places] = field(default_factory=dict)
    root: Places = field(default_factory=dict)


def build(root: Given, problems: Problems, source: str) -> Built:
    """The configuration. With errors in `problems` it is what could be made of the rest, to look for further ones."""
    return _Builder(root, problems, source).build()


class _Builder:
    def __init__(self, root: Given, problems: Problems, source: str) -> None:
        self._root = root
        self._problems = problems
        self._source = source
        self._layers: dict[str, Given] = {}
        self._upstreams: dict[str, UpstreamConfig | None] = {}
        self._upstream_places: dict[str, Places] = {}
        self._route_places: dict[str, Places] = {}

    def build(self) -> Built:
        self._build_upstreams()
        routes = self._build_routes()
        listeners = self._blocks(ROOT_BLOCKS, self._root)
        state_dir = self._root.setting("state_dir")
        for name in LISTENERS:
            given = self._root.block(name)
            if given and "listen" in given.failed:
                # The default is not what is meant, and could only collide.
                listeners[name] = replace(listeners[name], listen=())
        config = Config(
            upstreams=tuple(upstream for upstream in self._upstreams.values() if upstream),
            routes=tuple(routes),
            state_dir=state_dir.value if state_dir else None,
            source=self._source,
            **listeners,
        )
        return Built(config, self._route_places, self._upstream_places, dict(places(self._root)))

    def _build_upstreams(self) -> None:
        given = self._root.setting("upstreams")
        if given is None or not given.value:
            if "upstreams" not in self._root.failed:
                at = given.at if given else self._root.at
                self._problems.error(at, "no upstream is configured", f"write {EXAMPLE}")
            return
        defaults = self._root.block("defaults")
        for name, said in given.value.items():
            self._layers[name] = merge(defaults, said)
            self._upstreams[name] = self._upstream(name, self._layers[name])

    def _upstream(self, name: str, layer: Given) -> UpstreamConfig | None:
        found = self._upstream_places[name] = {"": layer.at, **dict(places(layer))}
        blocks = self._blocks(keys.PER_UPSTREAM + keys.PER_ROUTE, layer)
        endpoints = self._endpoints(name, layer)
        preserve = layer.setting("preserve_host")
        if endpoints is None:
            return None
        tls = layer.block("tls")
        if tls and tls.failed:
            blocks.pop("tls")
        host = {"preserve_host": preserve.value} if preserve else {}
        return UpstreamConfig(name=name, endpoints=endpoints, refs=self._refs(found), **blocks, **host)

    def _endpoints(self, name: str, layer: Given) -> tuple[Endpoint, ...] | None:
        url, endpoints = layer.setting("url"), layer.setting("endpoints")
        if url and endpoints:
            self._problems.error(endpoints.key_at, f"upstream {name} has both url and endpoints", "keep one of them")
        elif not (layer.says("url") or layer.says("endpoints")):
            self._problems.error(layer.at, f"upstream {name} has no url", "write url: http://host:port")
        if url:
            return (url.value,)
        return endpoints.value if endpoints else None

    def _blocks(self, wanted: tuple[Key, ...], layer: Given) -> dict[str, Any]:
        """The dataclasses of those `wanted` blocks that are given, or given as null."""
        built: dict[str, Any] = {}
        for key in wanted:
            if isinstance(key.type, Block) and (block := layer.block(key.name)):
                built[key.name] = construct(key.type, block, self._problems)
            elif isinstance(key.type, Block) and layer.setting(key.name):
                built[key.name] = None
        return built

    def _build_routes(self) -> list[RouteConfig]:
        given = self._root.setting("routes")
        said = given.value if given else []
        routes = [route for item in said if (route := self._route(item))]
        taken = {name for item in said if (name := self._upstream_name(item))}
        for name, upstream in self._upstreams.items():
            if upstream and name not in taken:
                routes.append(self._implicit_route(upstream))
        self._check_names(said, taken)
        return routes

    def _check_names(self, said: list[Given], taken: set[str]) -> None:
        """Circuits are named as their routes, so a name stands for one."""
        first: dict[str, Position] = {}
        for given in said:
            name = given.setting("name") or given.setting("upstream")
            if name is None:
                continue
            if name.value in first:
                hint = "give each route a name of its own: its circuit and its metrics are called by it"
                self._problems.error(name.at, f"a second route is called {name.value!r}", hint)
            elif name.value in self._layers and name.value not in taken:
                hint = f"rename this route, or give upstream {name.value} a route with another name"
                self._problems.error(name.at, f"{name.value!r} is the name of that upstream's own route", hint)
            first.setdefault(name.value, name.at)

    def _route(self, given: Given) -> RouteConfig | None:
        upstream_name = self._upstream_name(given)
        name_given = given.setting("name")
        name = name_given.value if name_given else upstream_name
        match = self._match(given)
        rewrite = construct(keys.REWRITE, given.block("rewrite"), self._problems)
        if upstream_name is None or name is None:
            return None
        layer = merge(restricted(self._layers[upstream_name], INHERITED), given)
        blocks = self._blocks(keys.PER_ROUTE, layer)
        upstream = self._upstreams[upstream_name]
        if upstream is None or match is None or rewrite is None:
            return None
        found = self._route_places[name] = {"": given.at, **dict(places(layer))}
        return RouteConfig(name, match, upstream, rewrite, **blocks, refs=self._refs(found))

    def _upstream_name(self, given: Given) -> str | None:
        """The name of the route's upstream, if there is one of that name."""
        setting = given.setting("upstream")
        if setting is None:
            if "upstream" not in given.failed:
                self._problems.error(given.at, "route needs upstream", did_you_mean("", self._layers))
            return None
        if setting.value in self._layers:
            return str(setting.value)
        hint = did_you_mean(setting.value, self._layers)
        self._problems.error(setting.at, f"there is no upstream {setting.value!r}", hint)
        return None

    def _match(self, given: Given) -> Match | None:
        block = given.block("match")
        if block is None or not any(not isinstance(s, Given) and s.value for s in block.settings.values()):
            if "match" not in given.failed and not (block and block.failed):
                self._problems.error(given.at, "route needs match", "write match: {prefix: /catalog/}")
            return None
        said = [name for name in PATH_CONDITIONS if (setting := block.setting(name)) and setting.value is not None]
        for extra in said[1:]:
            at = block.settings[extra].key_at  # type: ignore[union-attr]  # `said` holds settings
            self._problems.error(at, f"match has both {said[0]} and {extra}", "keep one of prefix, path and regex")
        if block.failed:
            return None
        if not said:
            return construct(keys.MATCH, block, self._problems, prefix="/")
        return construct(keys.MATCH, block, self._problems)

    def _implicit_route(self, upstream: UpstreamConfig) -> RouteConfig:
        name = upstream.name
        self._route_places[name] = self._upstream_places[name]
        return RouteConfig(
            name=name,
            match=Match(prefix=f"/{name}/"),
            upstream=upstream,
            rewrite=Rewrite(strip_prefix=f"/{name}"),
            timeouts=upstream.timeouts,
            breaker=upstream.breaker,
            cache=upstream.cache,
            refs=upstream.refs,
            implicit=True,
        )

    def _refs(self, found: Mapping[str, Position]) -> dict[str, str]:
        return {name: f"{self._source}:{at.line}" for name, at in found.items()}
