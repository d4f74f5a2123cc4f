"""What is measured: the cases under load, run in interleaved rounds because the machine is never quiet, and the checks
that count what must not happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks.load import RealTraffic, ask_and_check, get, hanging_requests, run_wrk
from tests.benchmarks.origin import SIZES, STORED_URLS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.peers import Peer

CROWD = 1000
ROUNDS_PER_CLIENT = 20
CHECK_SECONDS = 60.0
WARM_UP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request. `of_circuit`: only a proxy that has circuits, and the other policies, can answer it;
    `refused`: a refusal is the right answer; `hanging`: so many clients meanwhile hold half a request's head;
    `traffic`: what is asked for below `path` instead of `path` over and over.
    """

    name: str
    path: str
    cached: bool = False
    connections: int = 32
    of_circuit: bool = False
    refused: bool = False
    hanging: int = 0
    traffic: RealTraffic | None = None

    def port(self, peer: Peer) -> int | None:
        """Where to ask this peer for it; None when it cannot answer this case."""
        if self.of_circuit and not peer.has_circuit:
            return None
        return peer.cache_port if self.cached else peer.proxy_port


CASES = (
    # What decides: requests as real clients send them, and answers of which no two are the same.
    Case("real-get", "/private/items/", traffic=RealTraffic("get", 20_000)),
    Case("real-post", "/private/orders/", traffic=RealTraffic("post", 20_000)),
    Case("real-hits", "/public/items/", cached=True, traffic=RealTraffic("hits", STORED_URLS)),
    Case("real-refused", "/doomed/private/items/", of_circuit=True, refused=True, traffic=RealTraffic("get", 20_000)),
    Case("real-stale", "/doomed/brief-public/items/", of_circuit=True, traffic=RealTraffic("hits", STORED_URLS)),
    # What the policies cost that are not needed just now: retries, limits, deadlines, fallbacks, faults.
    Case("real-get-bare", "/bare/private/items/", of_circuit=True, traffic=RealTraffic("get", 20_000)),
    Case("real-get-guarded", "/guarded/private/items/", of_circuit=True, traffic=RealTraffic("get", 20_000)),
    # The same octets over and over, which no real client sends: for comparison, and for what size and number cost.
    Case("repeated-1k", "/no-store/1k"),
    Case("repeated-hit-1k", "/fresh/1k", cached=True),
    Case("repeated-100k", "/no-store/100k"),
    Case("repeated-10m", "/no-store/10m"),
    Case("repeated-refused", "/doomed/no-store/1k", of_circuit=True, refused=True),
    Case("repeated-stale-1k", "/doomed/brief/1k", of_circuit=True),
    Case("slowloris-500", "/no-store/1k", of_circuit=True, hanging=500),
    Case("connections-1000", "/no-store/1k", connections=CROWD),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One case, one peer, one round. `cpu` is the proxy's µs per request, `core` its share of its core; latencies in
    µs, memory in MiB after the load; `errors` are socket errors and wrong statuses.
    """

    case: str
    peer: str
    cpu: float
    rate: float
    core: float
    p50: int
    p99: int
    errors: int
    rss: float
    pss: float


@dataclass(frozen=True, slots=True)
class Check:
    """One figure that is no speed: how many answers were lost, or MiB of growth."""

    name: str
    peer: str
    figure: float
    unit: str


def measure(case: Case, peer: Peer, *, core: int, seconds: int, folder: Path) -> Sample | None:
    """Load the peer from `core` and see what that cost it. None when the peer cannot do this case."""
    port = case.port(peer)
    if port is None:
        return None
    with hanging_requests(port, case.hanging):
        before = peer.process.cpu_seconds()
        load = run_wrk(
            f"http://127.0.0.1:{port}{case.path}",
            core=core,
            seconds=seconds,
            connections=case.connections,
            folder=folder,
            traffic=case.traffic,
        )
        cpu = peer.process.cpu_seconds() - before
    memory = peer.process.memory()
    wrong = load.requests - load.refused if case.refused else load.refused
    return Sample(
        case=case.name,
        peer=peer.name,
        cpu=cpu / max(load.requests, 1) * 1e6,
        rate=load.requests / load.seconds,
        core=cpu / load.seconds,
        p50=load.p50,
        p99=load.p99,
        errors=load.socket_errors + wrong,
        rss=memory.rss,
        pss=memory.pss,
    )


def check_crowd(peer: Peer) -> list[Check]:
    """A thousand clients at once, each of whose answers must be its own."""
    tally = ask_and_check(peer.proxy_port, connections=CROWD, rounds=ROUNDS_PER_CLIENT, seconds=CHECK_SECONDS)
    figures = {"lost": tally.lost, "wrong": tally.wrong, "right": tally.right}
    return [Check(f"crowd-1000 {name}", peer.name, figure, "answers") for name, figure in figures.items()]


def check_large_body(peer: Peer) -> list[Check]:
    """One body of 1 GB, and by how much the peer's resident memory grew at its highest."""
    before = peer.process.memory().rss
    peer.process.forget_peak()
    _, size = get(peer.proxy_port, "/no-store/1g")
    growth = peer.process.peak_rss() - before
    missing = SIZES["1g"] - size
    return [
        Check("body-1g growth", peer.name, growth, "MiB"),
        Check("body-1g missing", peer.name, missing, "bytes"),
    ]


CHECKS = {"body-1g": check_large_body, "crowd-1000": check_crowd}
