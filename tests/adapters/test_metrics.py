import asyncio
import subprocess
from collections.abc import Callable

import pytest
from prometheus_client import openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample, Timestamp

from sidecar.adapters.metrics import Metrics
from sidecar.adapters.metrics.exposition import Format, negotiate
from sidecar.adapters.metrics.families import FAMILIES
from sidecar.core.bulkhead import Bulkhead, Waiting
from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.explanation import OverrideMode
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit
from sidecar.core.config import BreakerSettings, BulkheadSettings, Rate, RateLimit
from sidecar.core.rate_limit import TokenBucket
from sidecar.core.report import Moment
from sidecar.pipeline.data_plane import PlaneStats
from sidecar.pipeline.local_control import LocalCircuits
from sidecar.pipeline.slices import SLICE
from sidecar.pipeline.stats import (
    FleetStats,
    ListenerStats,
    ProcessStats,
    RouteStats,
    SharedStoreStats,
    StoreStats,
    UpstreamStats,
)
from tests.support.fake_plane import FakePlane

OPEN_METRICS = "application/openmetrics-text"
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


WALL = 1_764_000_000.0


class World:
    """Everything that is counted, to be changed by a test and scraped."""

    def __init__(self, route_names: tuple[str, ...] = ("catalog",)) -> None:
        hooks = Hooks(random=lambda: 0.5, listener=lambda _: None, listener_failed=lambda _: None)
        self.now = 100.0
        self.process = ProcessStats()
        self.listener = ListenerStats()
        self.store = StoreStats()
        self.routes = [RouteStats(name) for name in route_names]
        self.upstreams = [UpstreamStats("shop")]
        self.circuits = [Circuit(name, BreakerSettings(), hooks, self.now) for name in route_names]
        self.fleet = FleetStats()
        self.shared_store = SharedStoreStats()
        self.lag = 0.0
        self.metrics = self.seen_at(lambda: self.now)

    def seen_at(self, monotonic: Callable[[], float]) -> Metrics:
        """Its pages, on that clock."""
        circuits = LocalCircuits(lambda: {circuit.name: circuit for circuit in self.circuits}, monotonic)
        plane = FakePlane(circuits, self._counted)
        return Metrics("1.2.3", self.process, plane, lambda: Moment(self.now, WALL + self.now))

    def _counted(self) -> PlaneStats:
        return PlaneStats(
            self.listener, self.store, self.routes, self.upstreams, self.lag, 7, self.fleet, self.shared_store, 9
        )

    def exercise(self) -> None:
        """Give every kind of number something to show."""
        for number, route in enumerate(self.routes):
            route.requests["GET", 200, "upstream"] = 3 + number
            route.requests["_OTHER", 503, "circuit"] = 1
            for seconds in (0.001, 0.005, 0.3, 99.0):
                route.durations.observe(seconds)
            route.in_flight = 2
            route.cache_results["hit"] += 5
            route.deadline_exceeded = 4
            route.bulkhead = Bulkhead(BulkheadSettings(max_queue=5), 1, self.now)
            assert route.bulkhead.take()
            assert route.bulkhead.wait(Waiting("normal", self.now + 1, lambda _: None), self.now)
            route.bulkhead_rejected["low"] += 6
            route.bulkhead_observed["normal"] += 7
            route.bucket = TokenBucket(RateLimit(Rate(1, 1)), self.now)
            route.rate_limited, route.rate_limited_observed = 8, 9
            route.served_age.observe(30.0)
            route.fallbacks["static"] += 2
            route.faults["abort"] += 4
        for upstream in self.upstreams:
            upstream.attempts["success"] += 9
            upstream.attempts["connection_refused"] += 1
            upstream.attempt_durations.observe(0.02)
            upstream.active, upstream.idle, upstream.opened = 1, 4, 6
            upstream.retries["too_late"] += 2
            upstream.hedges["cancelled"] += 3
            upstream.budget_available, upstream.budget_exhausted, upstream.budget_observed = 2.5, 4, 5
        for circuit in self.circuits:
            self.fail(circuit, 5)
            circuit.override(OverrideMode.FORCED_CLOSED, "", "", None, self.now)
        self.store.entries, self.store.bytes = 12, 34_567
        self.store.evictions["size"] += 2
        self.listener.connections, self.listener.tunnels, self.listener.shed = 8, 1, 3
        self.listener.rejected["headers_too_large"] += 1
        self.process.reloads["error"] += 1
        self.process.last_reload_ok = False
        self.lag = 0.0125
        self.process.draining = True
        self.fleet.up, self.fleet.commands, self.fleet.members = True, 20, 3
        self.fleet.errors["timeout"] += 1
        self.shared_store.redis.commands += 1
        self.shared_store.redis.errors["timeout"] += 1
        self.shared_store.reads["hit"], self.shared_store.writes["dropped"], self.shared_store.queued = 12, 13, 14

    def fail(self, circuit: Circuit, times: int) -> None:
        for _ in range(times):
            permit = circuit.ask(self.now, safe=True)
            assert isinstance(permit, Permit)
            circuit.settle(permit, Outcome.FAILURE, self.now)

    async def text(self, accept: str = "") -> str:
        return b"".join((await self.metrics.page(accept))[0]).decode()

    async def samples(self, accept: str = "") -> list[Sample]:
        parse = parse_open_metrics if OPEN_METRICS in accept else parse_text
        return [sample for family in parse(await self.text(accept)) for sample in family.samples]

    async def value(self, name: str, **labels: str) -> float:
        found = [it.value for it in await self.samples() if it.name == name and it.labels == labels]
        assert len(found) == 1, (name, labels, found)
        return found[0]


@pytest.fixture
def world() -> World:
    return World()


EXPECTED = [
    ("sidecar_requests_total", {"route": "catalog", "method": "GET", "code": "200", "source": "upstream"}, 3),
    ("sidecar_requests_total", {"route": "catalog", "method": "_OTHER", "code": "503", "source": "circuit"}, 1),
    ("sidecar_request_duration_seconds_bucket", {"route": "catalog", "le": "0.005"}, 2),
    ("sidecar_request_duration_seconds_bucket", {"route": "catalog", "le": "0.5"}, 3),
    ("sidecar_request_duration_seconds_bucket", {"route": "catalog", "le": "+Inf"}, 4),
    ("sidecar_request_duration_seconds_count", {"route": "catalog"}, 4),
    ("sidecar_request_duration_seconds_sum", {"route": "catalog"}, 99.306),
    ("sidecar_requests_in_flight", {"route": "catalog"}, 2),
    ("sidecar_deadline_exceeded_total", {"route": "catalog"}, 4),
    ("sidecar_bulkhead_in_use", {"route": "catalog"}, 1),
    ("sidecar_bulkhead_limit", {"route": "catalog"}, 1),
    ("sidecar_bulkhead_queued", {"route": "catalog"}, 1),
    ("sidecar_bulkhead_rejected_total", {"route": "catalog", "class": "low"}, 6),
    ("sidecar_bulkhead_rejected_observed_total", {"route": "catalog", "class": "normal"}, 7),
    ("sidecar_rate_limited_total", {"route": "catalog"}, 8),
    ("sidecar_rate_limited_observed_total", {"route": "catalog"}, 9),
    ("sidecar_upstream_attempts_total", {"upstream": "shop", "result": "success"}, 9),
    ("sidecar_upstream_attempts_total", {"upstream": "shop", "result": "connection_refused"}, 1),
    ("sidecar_upstream_attempt_duration_seconds_count", {"upstream": "shop"}, 1),
    ("sidecar_upstream_connections", {"upstream": "shop", "state": "active"}, 1),
    ("sidecar_upstream_connections", {"upstream": "shop", "state": "idle"}, 4),
    ("sidecar_upstream_connections_opened_total", {"upstream": "shop"}, 6),
    ("sidecar_retries_total", {"upstream": "shop", "result": "too_late"}, 2),
    ("sidecar_retry_budget_available", {"upstream": "shop"}, 2.5),
    ("sidecar_retry_budget_exhausted_total", {"upstream": "shop"}, 4),
    ("sidecar_retry_budget_observed_total", {"upstream": "shop"}, 5),
    ("sidecar_hedges_total", {"upstream": "shop", "result": "cancelled"}, 3),
    ("sidecar_circuit_state", {"circuit": "catalog", "state": "open"}, 1),
    ("sidecar_circuit_state", {"circuit": "catalog", "state": "closed"}, 0),
    ("sidecar_circuit_state", {"circuit": "catalog", "state": "half_open"}, 0),
    ("sidecar_circuit_override", {"circuit": "catalog", "mode": "forced_closed"}, 1),
    ("sidecar_circuit_override", {"circuit": "catalog", "mode": "forced_open"}, 0),
    ("sidecar_circuit_transitions_total", {"circuit": "catalog", "to": "open", "cause": "failure_threshold"}, 1),
    ("sidecar_circuit_calls_total", {"circuit": "catalog", "outcome": "failure"}, 5),
    ("sidecar_circuit_calls_total", {"circuit": "catalog", "outcome": "success"}, 0),
    ("sidecar_circuit_rejected_total", {"circuit": "catalog"}, 0),
    ("sidecar_circuit_failure_rate", {"circuit": "catalog"}, 0),
    ("sidecar_circuit_slow_rate", {"circuit": "catalog"}, 0),
    ("sidecar_circuit_would_have_opened_total", {"circuit": "catalog"}, 0),
    ("sidecar_circuit_would_have_rejected_total", {"circuit": "catalog"}, 0),
    ("sidecar_circuit_would_have_avoided_failures_total", {"circuit": "catalog"}, 0),
    ("sidecar_cache_requests_total", {"route": "catalog", "result": "hit"}, 5),
    ("sidecar_cache_entries", {}, 12),
    ("sidecar_cache_bytes", {}, 34_567),
    ("sidecar_cache_evictions_total", {"reason": "size"}, 2),
    ("sidecar_cache_served_age_seconds_bucket", {"route": "catalog", "le": "60.0"}, 1),
    ("sidecar_fallbacks_total", {"route": "catalog", "kind": "static"}, 2),
    ("sidecar_faults_injected_total", {"route": "catalog", "kind": "abort"}, 4),
    ("sidecar_client_connections", {}, 8),
    ("sidecar_client_tunnels", {}, 1),
    ("sidecar_client_connections_shed_total", {}, 3),
    ("sidecar_client_rejected_total", {"reason": "headers_too_large"}, 1),
    ("sidecar_config_reloads_total", {"result": "success"}, 0),
    ("sidecar_config_reloads_total", {"result": "error"}, 1),
    ("sidecar_config_last_reload_successful", {}, 0),
    ("sidecar_event_loop_lag_seconds", {}, 0.0125),
    ("sidecar_draining", {}, 1),
    ("sidecar_log_lines_dropped_total", {}, 7),
    ("sidecar_redis_up", {}, 1),
    ("sidecar_redis_commands_total", {}, 21),
    ("sidecar_redis_errors_total", {"kind": "timeout"}, 2),
    ("sidecar_fleet_members", {}, 3),
    ("sidecar_shared_cache_reads_total", {"result": "hit"}, 12),
    ("sidecar_shared_cache_writes_total", {"result": "dropped"}, 13),
    ("sidecar_shared_cache_queue", {}, 14),
    ("sidecar_traces_dropped_total", {}, 9),
    ("sidecar_build_info", {"version": "1.2.3"}, 1),
]


@pytest.mark.parametrize("accept", ["", PROMETHEUS_ACCEPT], ids=["text", "OpenMetrics"])
async def test_every_number_appears_under_its_name_and_labels(world: World, accept: str) -> None:
    world.exercise()
    values = {(it.name, frozenset(it.labels.items())): it.value for it in await world.samples(accept)}
    shown = [values.get((name, frozenset(labels.items()))) for name, labels, _ in EXPECTED]
    wrong = [case for case, value in zip(EXPECTED, shown, strict=True) if value != pytest.approx(case[2])]
    assert wrong == []


def test_every_family_is_expected_by_a_case() -> None:
    tested = {name for name, _, _ in EXPECTED}
    assert [it.name for it in FAMILIES if not any(name.startswith(it.name) for name in tested)] == []


async def test_the_process_tells_about_itself(world: World) -> None:
    assert await world.value("process_resident_memory_bytes") > 1_000_000
    assert await world.value("process_cpu_seconds_total") > 0
    assert await world.value("process_open_fds") > 0


@pytest.mark.parametrize("exercised", [False, True], ids=["fresh", "exercised"])
async def test_promtool_finds_nothing_to_complain_about(world: World, exercised: bool) -> None:  # noqa: FBT001 - a case
    if exercised:
        world.exercise()
    page = await world.text()
    done = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=page.encode(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_a_fresh_process_shows_valid_pages_in_both_formats(world: World) -> None:
    assert await world.samples()
    assert await world.samples(PROMETHEUS_ACCEPT)
    assert (await world.text(PROMETHEUS_ACCEPT)).endswith("# EOF\n")
    assert "# EOF" not in await world.text()


@pytest.mark.parametrize("state", ["closed", "open", "half_open"])
async def test_exactly_one_state_of_a_circuit_is_one(world: World, state: str) -> None:
    circuit = world.circuits[0]
    if state != "closed":
        world.fail(circuit, 5)
    if state == "half_open":
        world.now += 60.0
        circuit.ask(world.now, safe=True)
    ones = [it.labels["state"] for it in await world.samples() if it.name == "sidecar_circuit_state" and it.value == 1]
    assert ones == [state]


async def test_names_are_escaped_in_labels() -> None:
    name = 'a"b\\c\nd{e}=é'
    world = World((name,))
    world.exercise()
    for accept in ("", PROMETHEUS_ACCEPT):
        routes = {it.labels["route"] for it in await world.samples(accept) if "route" in it.labels}
        assert routes == {name}


async def test_the_series_of_a_removed_route_disappear(world: World) -> None:
    world.exercise()
    world.routes, world.circuits = [], []
    assert not [it for it in await world.samples() if {"route", "circuit"} & it.labels.keys()]


async def test_looking_at_metrics_moves_no_circuit(world: World) -> None:
    world.fail(world.circuits[0], 5)
    world.now += 3600.0
    await world.text()
    await world.text()
    assert world.circuits[0].snapshot(world.now).state.value == "open"
    assert isinstance(world.circuits[0].ask(world.now, safe=True), Permit)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/plain", Format.TEXT),
        (PROMETHEUS_ACCEPT, Format.OPEN_METRICS),
        ("Application/OpenMetrics-Text; version=1.0.0", Format.OPEN_METRICS),
        ("text/plain, application/openmetrics-text;q=0.1", Format.OPEN_METRICS),
        ("application/openmetrics-text;q=0, text/plain", Format.TEXT),
        ("application/openmetrics-text;q=0.000", Format.TEXT),
        ("application/openmetrics-textual", Format.TEXT),
        (";;,,q=", Format.TEXT),
    ],
)
def test_the_accept_field_chooses_the_format(accept: str, form: Format) -> None:
    assert negotiate(accept) is form


def test_the_content_type_is_the_one_that_openmetrics_prescribes() -> None:
    assert Format.OPEN_METRICS.value == openmetrics.exposition.CONTENT_TYPE_LATEST


async def test_pages_asked_for_at_once_are_all_whole(world: World) -> None:
    pages = await asyncio.gather(*(world.text(PROMETHEUS_ACCEPT) for _ in range(5)))
    assert all(page.endswith("# EOF\n") and page.count("# EOF") == 1 for page in pages)


async def test_a_page_of_1000_routes_leaves_the_loop_its_turns() -> None:
    world = World(tuple(f"route-{number}" for number in range(1000)))
    world.exercise()
    turns = 0
    turns_at_a_look: list[int] = []

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    def monotonic() -> float:
        turns_at_a_look.append(turns)
        return world.now + len(turns_at_a_look) * SLICE / 100

    counting = asyncio.create_task(count_turns())
    await world.seen_at(monotonic).page("")
    counting.cancel()
    assert len(turns_at_a_look) > 1000
    assert turns_at_a_look[-1] > turns_at_a_look[0] + 3
    assert turns > turns_at_a_look[-1] + 3


async def test_histogram_buckets_are_cumulative_and_end_at_the_count(world: World) -> None:
    world.exercise()
    samples = [it for it in await world.samples() if it.name.startswith("sidecar_request_duration_seconds")]
    buckets = [it.value for it in samples if it.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == next(it.value for it in samples if it.name.endswith("_count"))


TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
OTHER_TRACE = b"0af7651916cd43dd8448eb211c80319c"


def traceparent(trace: bytes, flags: bytes = b"01") -> bytes:
    return b"00-%b-00f067aa0ba902b7-%b" % (trace, flags)


async def exemplars(world: World, accept: str) -> dict[str, tuple[dict[str, str], float, float]]:
    """By `le`."""
    found = {}
    for it in await world.samples(accept):
        if it.exemplar is not None:
            assert it.name == "sidecar_request_duration_seconds_bucket"
            at = it.exemplar.timestamp
            assert isinstance(at, float | Timestamp)
            found[it.labels["le"]] = (it.exemplar.labels, it.exemplar.value, float(at))
    return found


async def test_each_bucket_names_its_latest_trace(world: World) -> None:
    (route,) = world.routes
    route.count("GET", 200, "upstream", 0.02, 90.0, traceparent(TRACE))
    route.count("GET", 200, "upstream", 0.0125, 95.5, traceparent(OTHER_TRACE))
    route.count("GET", 200, "upstream", 11.0, 97.0, traceparent(TRACE, b"03"))
    route.count("GET", 200, "upstream", 0.3, 98.0)

    assert await exemplars(world, PROMETHEUS_ACCEPT) == {
        "0.025": ({"trace_id": OTHER_TRACE.decode()}, 0.0125, WALL + 95.5),
        "+Inf": ({"trace_id": TRACE.decode()}, 11.0, WALL + 97.0),
    }
    assert await exemplars(world, "") == {}


@pytest.mark.parametrize(
    "field",
    [traceparent(TRACE, b"00"), traceparent(TRACE, b"02"), b"", b"1", traceparent(b"0" * 32), b'"} 1\nevil 1'],
    ids=["not recorded", "random only", "empty", "short", "no trace", "hostile"],
)
async def test_what_leads_to_no_trace_is_no_exemplar(world: World, field: bytes) -> None:
    world.routes[0].count("GET", 200, "upstream", 0.02, 90.0, field)

    assert await exemplars(world, PROMETHEUS_ACCEPT) == {}
    assert "evil" not in await world.text(PROMETHEUS_ACCEPT)
