"""The configuration out of what the file says: layers merged, references resolved, values checked against each other.

defaults → upstream → route, key by key, block by block.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sidecar.config import keys
from sidecar.config.sections import Section, construct, merge, places, restricted, values_of
from sidecar.config.stand_ins import check_fallbacks, check_fault
from sidecar.config.suggest import did_you_mean
from sidecar.core.config import Config, Match, Rewrite, RouteConfig, UpstreamConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.config.problem import Position, Problems
    from sidecar.core.config import Endpoint

LISTENERS = ("proxy", "admin", "telemetry")
INHERITED = frozenset(key.name for key in keys.PER_ROUTE)
ROUTE_SETTINGS = tuple(key for key in keys.ROUTE.keys if key.name not in {"name", "match", "upstream"})
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


def build(root: Section, problems: Problems, source: str) -> Built:
    """The configuration. With errors in `problems` it is what could be made of the rest, to look for further ones."""
    return _Builder(root, problems, source).build()


class _Builder:
    def __init__(self, root: Section, problems: Problems, source: str) -> None:
        self._root = root
        self._problems = problems
        self._source = source
        self._layers: dict[str, Section] = {}
        self._upstreams: dict[str, UpstreamConfig | None] = {}
        self._upstream_places: dict[str, Places] = {}
        self._route_places: dict[str, Places] = {}

    def build(self) -> Built:
        self._build_upstreams()
        routes = self._build_routes()
        once = values_of(keys.PROCESS, self._root, self._problems)
        for name in LISTENERS:
            section = self._root.block(name)
            if section and "listen" in section.failed:
                # The default is not what is meant, and could only collide.
                once[name] = replace(once[name], listen=())
        found = dict(places(self._root))
        config = Config(
            upstreams=tuple(upstream for upstream in self._upstreams.values() if upstream),
            routes=tuple(routes),
            source=self._source,
            refs=self._refs(found),
            **once,
        )
        return Built(config, self._route_places, self._upstream_places, found)

    def _build_upstreams(self) -> None:
        listed = self._root.setting("upstreams")
        if listed is None or not listed.value:
            if "upstreams" not in self._root.failed:
                at = listed.at if listed else self._root.at
                self._problems.error(at, "no upstream is configured", f"write {EXAMPLE}")
            return
        defaults = self._root.block("defaults")
        for name, section in listed.value.items():
            self._layers[name] = merge(defaults, section)
            self._upstreams[name] = self._upstream(name, self._layers[name])

    def _upstream(self, name: str, layer: Section) -> UpstreamConfig | None:
        found = self._upstream_places[name] = {"": layer.at, **dict(places(layer))}
        self._check_stand_ins(layer)
        values = values_of(keys.DEFAULTS.keys, layer, self._problems)
        endpoints = self._endpoints(name, layer)
        if endpoints is None:
            return None
        tls = layer.block("tls")
        if tls and tls.failed:
            values.pop("tls")
        return UpstreamConfig(name=name, endpoints=endpoints, refs=self._refs(found), **values)

    def _check_stand_ins(self, layer: Section) -> None:
        listed = self._root.setting("upstreams")
        check_fallbacks(layer, tuple(listed.value) if listed else (), self._problems)
        check_fault(layer.block("fault"), self._problems)

    def _endpoints(self, name: str, layer: Section) -> tuple[Endpoint, ...] | None:
        url, endpoints = layer.setting("url"), layer.setting("endpoints")
        if url and endpoints:
            self._problems.error(endpoints.key_at, f"upstream {name} has both url and endpoints", "keep one of them")
        elif not (layer.says("url") or layer.says("endpoints")):
            self._problems.error(layer.at, f"upstream {name} has no url", "write url: http://host:port")
        if url:
            return (url.value,)
        return endpoints.value if endpoints else None

    def _build_routes(self) -> list[RouteConfig]:
        listed = self._root.setting("routes")
        sections: list[Section] = listed.value if listed else []
        routes = [route for section in sections if (route := self._route(section))]
        taken = {name for section in sections if (name := self._upstream_name(section))}
        for name, upstream in self._upstreams.items():
            if upstream and name not in taken:
                routes.append(self._implicit_route(upstream))
        self._check_names(sections, taken)
        return routes

    def _check_names(self, sections: list[Section], taken: set[str]) -> None:
        """Circuits are named as their routes, so a name stands for one."""
        first: dict[str, Position] = {}
        for section in sections:
            name = section.setting("name") or section.setting("upstream")
            if name is None:
                continue
            if name.value in first:
                hint = "give each route a name of its own: its circuit and its metrics are called by it"
                self._problems.error(name.at, f"a second route is called {name.value!r}", hint)
            elif name.value in self._layers and name.value not in taken:
                hint = f"rename this route, or give upstream {name.value} a route with another name"
                self._problems.error(name.at, f"{name.value!r} is the name of that upstream's own route", hint)
            first.setdefault(name.value, name.at)

    def _route(self, section: Section) -> RouteConfig | None:
        upstream_name = self._upstream_name(section)
        name_given = section.setting("name")
        name = name_given.value if name_given else upstream_name
        match = self._match(section)
        if upstream_name is None or name is None:
            return None
        layer = merge(restricted(self._layers[upstream_name], INHERITED), section)
        self._check_stand_ins(layer)
        values = values_of(ROUTE_SETTINGS, layer, self._problems)
        upstream = self._upstreams[upstream_name]
        if upstream is None or match is None:
            return None
        found = self._route_places[name] = {"": section.at, **dict(places(layer))}
        return RouteConfig(name, match, upstream, refs=self._refs(found), **values)

    def _upstream_name(self, section: Section) -> str | None:
        """The name of the route's upstream, if there is one of that name."""
        setting = section.setting("upstream")
        if setting is None:
            if "upstream" not in section.failed:
                self._problems.error(section.at, "route needs upstream", did_you_mean("", self._layers))
            return None
        if setting.value in self._layers:
            return str(setting.value)
        hint = did_you_mean(setting.value, self._layers)
        self._problems.error(setting.at, f"there is no upstream {setting.value!r}", hint)
        return None

    def _match(self, section: Section) -> Match | None:
        block = section.block("match")
        if block is None or not any(not isinstance(s, Section) and s.value for s in block.settings.values()):
            if "match" not in section.failed and not (block and block.failed):
                self._problems.error(section.at, "route needs match", "write match: {prefix: /catalog/}")
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
        own = upstream.name
        self._route_places[own] = self._upstream_places[own]
        return RouteConfig(
            name=own,
            match=Match(prefix=f"/{own}/"),
            upstream=upstream,
            rewrite=Rewrite(strip_prefix=f"/{own}"),
            refs=upstream.refs,
            implicit=True,
            **{name: getattr(upstream, name) for name in INHERITED},
        )

    def _refs(self, found: Mapping[str, Position]) -> dict[str, str]:
        return {name: f"{self._source}:{at.line}" for name, at in found.items()}
