"""What a fleet costs, with a real Redis on loopback. `make bench-fleet` prints the table.

quiet       commands of one sidecar with twenty routes, without requests and under load
cpu         CPU per proxied request, in a fleet and alone
trip        from the quorum to the last of five sidecars that refuses
frozen      99th percentile and errors while Redis stands still
members     many members in this process, one Redis: its operations, octets per member, how soon a trip is
            everywhere, and how many probes an open period costs
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop

from sidecar.adapters.redis import fleet_store
from sidecar.core.circuit.explanation import State
from sidecar.core.circuit.outcome import Outcome
from tests.benchmarks.load import run_wrk
from tests.benchmarks.origin import Origin
from tests.benchmarks.processes import Cores, Processes
from tests.support.bare_member import BareMember
from tests.support.caching_origin import caching_origin
from tests.support.fleet import SICK, WELL, all_are, answer, pod_config, trip
from tests.support.redis_server import RedisServer, redis_server
from tests.support.running import SidecarProcess, config_text
from tests.support.wire import comes_true

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = ("quiet", "trip", "frozen", "members")
ROUTES = 20
TICKS = os.sysconf("SC_CLK_TCK")


def say(what: str, figure: str) -> None:
    print(f"  {what:<66} {figure}", flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def launched(stack: AsyncExitStack, folder: Path, name: str, text: str) -> SidecarProcess:
    file = folder / f"{name}.yaml"
    file.write_text(text)
    process = await SidecarProcess.launch(file)
    stack.push_async_callback(process.stop)
    return await process.ready()


async def commands(pod: SidecarProcess) -> float:
    return (await pod.metrics()).total("sidecar_redis_commands_total")


def many_routes() -> dict[str, Any]:
    def route(prefix: str) -> dict[str, Any]:
        rewrite = {"strip_prefix": f"/{prefix}"}
        return {"name": prefix, "match": {"prefix": f"/{prefix}/"}, "upstream": "origin", "rewrite": rewrite}

    return {"routes": [route(f"r{number}") for number in range(ROUTES)]}


async def quiet_and_cpu(server: RedisServer, folder: Path, seconds: int) -> None:
    """Commands per second do not depend on requests; CPU per request hardly depends on the fleet."""
    with Processes() as processes:
        cores = Cores.of_this_machine()
        origin = Origin(processes, folder / "origin", cores.load)
        async with AsyncExitStack() as stack:
            log = {"proxy": {"listen": "127.0.0.1:0", "access_log": False}}
            url = f"http://127.0.0.1:{origin.port}"
            shared = pod_config(url, server.url, "bench", **log, **many_routes())
            alone = config_text(url, top={**log, **many_routes()})
            pods = {name: await launched(stack, folder, name, text) for name, text in (("on", shared), ("off", alone))}
            before, began = await commands(pods["on"]), time.monotonic()
            await asyncio.sleep(seconds)
            rate = (await commands(pods["on"]) - before) / (time.monotonic() - began)
            say(f"commands per second, {ROUTES} routes, no requests", f"{rate:.1f}")
            best: dict[str, float] = {}
            for _ in range(3):
                for name, pod in pods.items():
                    await _load(pod, name, cores, folder, seconds, best)
            say("CPU per proxied request, alone", f"{best['off']:.1f} µs")
            say("CPU per proxied request, in a fleet", f"{best['on']:.1f} µs = × {best['on'] / best['off']:.3f}")


async def _load(
    pod: SidecarProcess, name: str, cores: Cores, folder: Path, seconds: int, best: dict[str, float]
) -> None:
    """One round of load; keeps the least CPU per request."""
    os.sched_setaffinity(pod.process.pid, {cores.proxy})
    cpu, asked, began = cpu_seconds(pod.process.pid), await commands(pod), time.monotonic()
    target = f"http://127.0.0.1:{pod.proxy[1]}/r0/no-store/1k"
    done = await asyncio.to_thread(run_wrk, target, core=cores.load, seconds=seconds, connections=32, folder=folder)
    each = (cpu_seconds(pod.process.pid) - cpu) / done.requests * 1e6
    if name == "on" and name not in best:
        rate = (await commands(pod) - asked) / (time.monotonic() - began)
        say(
            f"commands per second, {ROUTES} routes, {done.requests / done.seconds:.0f} requests per second",
            f"{rate:.1f}",
        )
    best[name] = min(each, best.get(name, each))


async def five(server: RedisServer, folder: Path, rounds: int) -> None:
    """From the failure that completes the quorum to the last of five that refuses."""
    async with caching_origin(answer) as origin, AsyncExitStack() as stack:
        breaker = {"open_duration": "30s"}
        texts = {f"five-{n}": pod_config(origin.url, server.url, f"five-{n}", breaker=breaker) for n in range(5)}
        pods = [await launched(stack, folder, name, text) for name, text in texts.items()]
        await asyncio.sleep(1.0)
        took = []
        for _ in range(rounds):
            await trip(pods[0])
            await asyncio.gather(pods[1].get(SICK), pods[1].get(SICK))
            await pods[1].get(SICK)
            began = time.monotonic()
            await asyncio.gather(*(_refuses(pod) for pod in pods[2:]))
            took.append((time.monotonic() - began) * 1000)
            await pods[0].api("POST", "/v1/circuits/all/reset")
            await all_are(pods, "closed")
        say(
            "trip seen by all of 5 processes after the quorum, median / worst",
            f"{percentile(took, 0.5):.0f} / {max(took):.0f} ms",
        )


async def _refuses(pod: SidecarProcess) -> None:
    async def refused() -> bool:
        return (await pod.get(WELL)).status == 503

    await comes_true(refused, every=0.002)


async def frozen(server: RedisServer, folder: Path, seconds: int) -> None:
    """The same load with Redis as it should be, and standing still."""
    with Processes() as processes:
        cores = Cores.of_this_machine()
        origin = Origin(processes, folder / "origin2", cores.load)
        async with AsyncExitStack() as stack:
            text = pod_config(f"http://127.0.0.1:{origin.port}", server.url, "frozen")
            pod = await launched(stack, folder, "frozen", text)
            target = f"http://127.0.0.1:{pod.proxy[1]}/no-store/1k"
            for what in ("running", "frozen", "running again"):
                if what == "frozen":
                    server.freeze()
                done = await asyncio.to_thread(
                    run_wrk, target, core=cores.load, seconds=seconds, connections=16, folder=folder
                )
                server.thaw()
                wrong = done.refused + done.socket_errors
                say(
                    f"p99 of proxied requests, Redis {what}",
                    f"{done.p99 / 1000:.2f} ms, {wrong} errors of {done.requests}",
                )


async def members(server: RedisServer, count: int, seconds: float) -> None:
    """Real coordinators in this process. Their own CPU is this process's; Redis has the other core."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8 * count)), hard))
    await server.ask("CONFIG", "SET", "maxclients", 4 * count + 100)
    # All members share this process: what is late here says nothing of Redis.
    fleet_store.DEADLINE = 30.0
    opened: list[float] = []
    pods = [
        BareMember(server.url, f"m{n}", routes=ROUTES, opened=lambda _, at: opened.append(at), open_duration=3.0)
        for n in range(count)
    ]
    for start in range(0, count, 50):
        await asyncio.gather(*(pod.coordinator.join() for pod in pods[start : start + 50]))
    await comes_true(lambda: _all_known(pods), within=30)
    say("members", str(count))
    await _quiet(server, pods, seconds)
    began = time.monotonic()
    pods[0].fail()
    pods[1].fail()
    await comes_true(lambda: _all_in(pods, State.OPEN), within=30, every=0.05)
    after = [(at - began) * 1000 for at in opened]
    say(
        "trip seen by member, p50 / p99 / last",
        f"{percentile(after, 0.5):.0f} / {percentile(after, 0.99):.0f} / {max(after):.0f} ms",
    )
    await asyncio.sleep(3.2)
    failed = await asyncio.gather(*(pod.probe(Outcome.FAILURE) for pod in pods))
    say("probes of the open period, all members asking at once", str(sum(failed)))
    await asyncio.sleep(3.5)
    opened.clear()
    await comes_true(lambda: _one_probes(pods), every=0.1)
    began = time.monotonic()
    await comes_true(lambda: _all_in(pods, State.CLOSED), within=30, every=0.02)
    say("recovery seen by the last member", f"{(time.monotonic() - began) * 1000:.0f} ms")
    for start in range(0, count, 100):
        await asyncio.gather(*(pod.stop() for pod in pods[start : start + 100]))


async def _quiet(server: RedisServer, pods: list[BareMember], seconds: float) -> None:
    """What a fleet without news costs."""
    before, sent = await _info(server), sum(pod.stats.commands for pod in pods)
    await asyncio.sleep(seconds)
    now, count = await _info(server), len(pods)
    spent = {name: (now[name] - before[name]) / seconds for name in before}
    rate = (sum(pod.stats.commands for pod in pods) - sent) / seconds
    octets = spent["total_net_input_bytes"] + spent["total_net_output_bytes"]
    cpu = spent["used_cpu_user"] + spent["used_cpu_sys"]
    say("commands per second, quiet: of all / of one", f"{rate:.0f} / {rate / count:.1f}")
    say("octets per member and second, quiet", f"{octets / count:.0f}")
    say("CPU of Redis, quiet: of a core / per member", f"{cpu * 100:.1f} % / {cpu / count * 1e6:.0f} µs/s")


async def _info(server: RedisServer) -> dict[str, float]:
    found = await server.ask("INFO")
    wanted = ("total_net_input_bytes", "total_net_output_bytes", "used_cpu_user", "used_cpu_sys")
    return {name: float(found[name]) for name in wanted}


async def _all_known(pods: list[BareMember]) -> bool:
    return all(pod.stats.members == len(pods) for pod in pods)


async def _one_probes(pods: list[BareMember]) -> bool:
    return any(await asyncio.gather(*(pod.probe(Outcome.SUCCESS) for pod in pods)))


async def _all_in(pods: list[BareMember], state: State) -> bool:
    return all(pod.state is state for pod in pods)


async def main(only: str | None, count: int, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with redis_server(folder) as server:
            parts = {
                "quiet": lambda: quiet_and_cpu(server, folder, seconds),
                "trip": lambda: five(server, folder, 5),
                "frozen": lambda: frozen(server, folder, seconds),
                "members": lambda: members(server, count, float(seconds)),
            }
            for part in PARTS if only is None else (only,):
                await server.ask("FLUSHALL")
                await parts[part]()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    parser.add_argument("--members", type=int, default=500, help="members of the simulated fleet (500)")
    parser.add_argument("--seconds", type=int, default=10, help="of each load (10)")
    options = parser.parse_args()
    uvloop.run(main(options.only, options.members, options.seconds))
