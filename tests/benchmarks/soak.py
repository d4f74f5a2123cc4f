"""Fault-injection soak: `python -m tests.benchmarks.soak [SECONDS]` (600 by default).

Mixed traffic through a real sidecar process while its origin is killed, restarted, stopped, and breaks answers in
every way it knows. Each answer's content is checked. Exit 1 on a wrong body, a hang, growth of memory or descriptors.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from time import monotonic

import trustme
import uvloop

from tests.benchmarks.soak_origin import EARLY_SIZE, EARLY_STATUS, generated
from tests.support.client import RawClient, hang_up
from tests.support.messages import Malformed, WireResponse
from tests.support.running import SidecarProcess, config_text
from tests.support.wire import Ending

WORKERS = 24
HANG = 15.0
"""Seconds after which an answer that has neither come nor been cut counts as a hang."""
MIB = 1024 * 1024
SETTLED = 60.0
"""Seconds after which memory should no longer grow."""
GROWTH_ALLOWED = 5 * MIB
DESCRIPTORS_ALLOWED = 8
CONNECTIONS = 2 * WORKERS
"""Slots for upstream connections: never too few while each one comes free again."""

SETTINGS = {
    "timeouts": {"connect": "500ms", "first_byte": "2s", "idle": "2s", "total": "8s"},
    "breaker": {"open_duration": "300ms", "backoff": {"multiplier": 1.5, "max": "1s"}, "success_threshold": 1},
    "cache": {"mode": "standard", "stale_ttl": "10s"},
    "pool": {"max_connections": CONNECTIONS},
}
LIMITS = {"half_close": "5s"}
SECURE = "/secure/"
TUNNEL = "/tunnel/"
CALM = 1.0
"""Seconds after a kill in which an answer may still suffer from it."""


@dataclass
class Figures:
    """What the soak prints in the end."""

    outcomes: Counter[str] = field(default_factory=Counter)
    octets: int = 0
    wrong: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    rss: list[tuple[float, int]] = field(default_factory=list)
    descriptors_before: int = 0
    descriptors_after: int = 0

    def growth(self, settled: float) -> int:
        """Octets of memory gained between the settled state and the end."""
        levels = [level for at, level in self.rss if at >= settled] or [self.rss[-1][1]]
        third = max(1, len(levels) // 3)
        return max(levels[-third:]) - max(levels[:third])


class Origin:
    """The origin's process, and what is done to it."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self.port: int = one.getsockname()[1]
            self.tls_port: int = other.getsockname()[1]
        authority = trustme.CA()
        self.authority, self._pem = folder / "ca.pem", folder / "origin.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(self._pem))
        self._process: asyncio.subprocess.Process | None = None
        self._disturbed_until = 0.0

    def calm_since(self, start: float) -> bool:
        """Whether nothing was done to it that an answer to a request of `start` could suffer from."""
        return self._process is not None and start > self._disturbed_until

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.benchmarks.soak_origin",
            str(self.port),
            str(self.tls_port),
            str(self._pem),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        await self._process.stdout.readline()
        self._disturbed_until = monotonic() + CALM

    async def kill(self) -> None:
        if self._process is not None:
            self._disturbed_until = inf
            self._process.kill()
            await self._process.wait()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._disturbed_until = monotonic() + CALM
            self._process.send_signal(number)


class Soak:
    """The traffic, the chaos, and the watch over both."""

    def __init__(self, sidecar: SidecarProcess, origin: Origin, seconds: float, seed: int) -> None:
        self.sidecar = sidecar
        self.origin = origin
        self.figures = Figures()
        self._random = random.Random(seed)
        self._start = monotonic()
        self._end = self._start + seconds

    @property
    def over(self) -> bool:
        return monotonic() >= self._end

    async def run(self) -> Figures:
        self.figures.descriptors_before = await self._descriptors()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())
            group.create_task(self._break_things())
            group.create_task(self._watch())
        self.sidecar.hang_up()
        assert await self.sidecar.is_quiet()
        self.figures.descriptors_after = await self._descriptors()
        return self.figures

    async def _descriptors(self) -> int:
        """The sidecar's, without the upstream connections that it keeps on purpose."""
        kept = (await self.sidecar.metrics()).total("sidecar_upstream_connections")
        return self.sidecar.descriptors() - int(kept)

    async def _watch(self) -> None:
        while not self.over:
            self.figures.rss.append((monotonic() - self._start, self.sidecar.rss()))
            await asyncio.sleep(1)

    async def _break_things(self) -> None:
        while not self.over:
            await asyncio.sleep(self._random.uniform(0.5, 3))
            if self._random.random() < 0.5:
                await self.origin.kill()
                await asyncio.sleep(self._random.uniform(0.05, 1))
                await self.origin.start()
            else:
                self.origin.send(signal.SIGSTOP)
                await asyncio.sleep(self._random.uniform(0.05, 1))
                self.origin.send(signal.SIGCONT)

    async def _work(self) -> None:
        client: RawClient | None = None
        while not self.over:
            if client is None or client.ended or client.transport.is_closing():
                client = await self.sidecar.connect()
                self.sidecar.clients.clear()
            if not await self._one(client):
                await hang_up(client)
                client = None
        if client is not None:
            await hang_up(client)

    async def _one(self, client: RawClient) -> bool:
        """One request; True when the connection may be used again."""
        errand = Errand.invent(self._random)
        try:
            async with asyncio.timeout(HANG):
                return await self._perform(errand, client)
        except TimeoutError:
            self.figures.hangs.append(errand.target)
            return False
        except Malformed as error:
            self.figures.wrong.append(f"{errand.target}: {error}")
            return False

    async def _perform(self, errand: Errand, client: RawClient) -> bool:
        start = monotonic()
        await client.send_pieces(errand.pieces(self._random))
        if errand.leaves:
            self.figures.outcomes["left"] += 1
            client.reset()
            return False
        if errand.target.startswith(TUNNEL):
            await self._talk(errand, client, start)
            return False
        if errand.half_closes:
            client.half_close()
        try:
            response = await client.response(errand.method)
        except AssertionError as error:
            if isinstance(error, Malformed):
                raise
            self.figures.outcomes["cut"] += 1
            return False
        self._judge(errand, response, calm=self.origin.calm_since(start))
        client.forget()
        return "connection" not in response and not errand.half_closes

    async def _talk(self, errand: Errand, client: RawClient, start: float) -> None:
        """Say all through a tunnel, and then hear all."""
        try:
            head = await client.head()
        except AssertionError:
            self.figures.outcomes["cut"] += 1
            return
        if head.status != 101:
            self._judge(errand, await client.response(), calm=False)
            return
        await client.send(errand.expected)
        if errand.half_closes:
            client.half_close()
        await client.until(lambda: client.ended)
        heard = client.unread.partition(b"\r\n\r\n")[2]
        self.figures.octets += len(heard)
        if client.ended is Ending.RESET:
            self.figures.outcomes["cut"] += 1
        elif heard != errand.expected and not (errand.may_end_early and not self.origin.calm_since(start)):
            self.figures.wrong.append(f"{errand.target}: heard {len(heard)} octets, not {len(errand.expected)}")
        else:
            self.figures.outcomes["tunnel"] += 1

    def _judge(self, errand: Errand, response: WireResponse, *, calm: bool) -> None:
        self.figures.octets += len(response.body)
        if errand.fault == "early" and "proxy-status" not in response:
            self.figures.outcomes["early"] += 1
            if (response.status, response.body) != (EARLY_STATUS, generated(errand.target, EARLY_SIZE)):
                self.figures.wrong.append(f"{errand.target}: not the early answer, a {response.status}")
        elif errand.fault == "early" and response.status == 502 and calm:
            told = response.body.decode("utf-8", "replace")
            self.figures.wrong.append(f"{errand.target}: the early answer was lost: {told}")
        elif response.status != 200:
            self.figures.outcomes[str(response.status)] += 1
            if "proxy-status" not in response:
                self.figures.wrong.append(f"{errand.target}: a {response.status} that nobody made")
            elif response.get("proxy-status") == b"sidecar; error=connection_limit_reached":
                self.figures.wrong.append(f"{errand.target}: slots for upstream connections are lost")
        elif errand.may_end_early and errand.expected.startswith(response.body):
            self.figures.outcomes["200"] += 1
        elif response.body != errand.expected or response.all("x-target") != [errand.target.encode()]:
            self.figures.wrong.append(f"{errand.target}: {len(response.body)} octets, not {len(errand.expected)}")
        elif errand.fault in {"truncate", "reset", "drop", "cut"} and "cached" not in errand.target:
            self.figures.wrong.append(f"{errand.target}: whole in spite of its fault")
        else:
            self.figures.outcomes["200"] += 1


@dataclass(frozen=True)
class Errand:
    """One request to make, and the content that a 200 must have."""

    method: str
    target: str
    fault: str
    body: bytes
    expected: bytes
    chunked: bool
    leaves: bool
    half_closes: bool = False

    @classmethod
    def invent(cls, dice: random.Random) -> Errand:
        if dice.random() < 0.03:
            return cls.tunnel(dice)
        fault = dice.choices(["none", "slow", "truncate", "reset", "drop", "cut", "early"], [76, 8, 4, 4, 4, 4, 4])[0]
        framing = dice.choice(["length", "chunked", "close"])
        size = dice.choice([0, 1, 100, 1024, 20_000, 100_000, 400_000])
        if fault in {"truncate", "cut"}:
            size = max(size, 1)  # of nothing, nothing can be missing
        secure = fault == "cut" or dice.random() < 0.2
        half_closes = dice.random() < 0.05
        if dice.random() < 0.2:
            target = f"/cached/{dice.randrange(20)}?framing=length&size=1024"
            return cls("GET", target, "none", b"", generated(target, 1024), chunked=False, leaves=False)
        where = SECURE if secure else "/"
        target = f"{where}{dice.randrange(1 << 60):x}?framing={framing}&fault={fault}&size={size}"
        leaves = dice.random() < 0.03
        body = generated(target, size)
        if fault == "early":
            upload = generated(target, dice.choice([0, 1000, 400_000, 10_000_000]))
            return cls("POST", target, fault, upload, body, dice.random() < 0.5, leaves, half_closes)
        if dice.random() < 0.5:
            return cls("GET", target, fault, b"", body, chunked=False, leaves=leaves, half_closes=half_closes)
        return cls("POST", target, fault, body, body, dice.random() < 0.5, leaves, half_closes)

    @classmethod
    def tunnel(cls, dice: random.Random) -> Errand:
        """What is said goes through an upgraded connection, and comes back when a FIN has ended that.

        Over TLS without the FIN: asyncio, on which the origin runs, knows no half-closed TLS.
        """
        secure = dice.random() < 0.5
        size = dice.choice([1, 1000, 400_000, 3_000_000])
        target = (
            f"{TUNNEL}{'secure/' if secure else ''}{dice.randrange(1 << 60):x}?size={size}{'' if secure else '&half=1'}"
        )
        said = generated(target, size)
        return cls("GET", target, "none", b"", said, chunked=False, leaves=False, half_closes=not secure)

    @property
    def may_end_early(self) -> bool:
        """Whether a killed origin looks like one that has said all: its kernel ends the connection in good order."""
        delimited_by_close = "framing=close" in self.target or self.target.startswith(TUNNEL)
        return "secure/" not in self.target and delimited_by_close and self.fault in {"none", "slow"}

    def pieces(self, dice: random.Random) -> list[bytes]:
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: soak"]
        if self.target.startswith(TUNNEL):
            lines += ["Connection: Upgrade", "Upgrade: echo"]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.method == "POST":
            lines.append(f"Content-Length: {len(self.body)}")
        whole = "\r\n".join([*lines, "", ""]).encode() + self._framed()
        if self.leaves:
            whole = whole[: dice.randrange(1, len(whole))]
        middle = dice.randrange(1, len(whole)) if len(whole) > 1 else 0
        return [piece for piece in (whole[:middle], whole[middle:]) if piece]

    def _framed(self) -> bytes:
        if not self.chunked:
            return self.body
        chunks = [self.body[at : at + 30_000] for at in range(0, len(self.body), 30_000)]
        return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def verdict(figures: Figures, seconds: float) -> list[str]:
    """What is wrong, in words; empty when nothing is."""
    faults = [f"wrong: {text}" for text in figures.wrong[:10]] + [f"hang: {target}" for target in figures.hangs[:10]]
    if figures.descriptors_after > figures.descriptors_before + DESCRIPTORS_ALLOWED:
        faults.append(f"descriptors: {figures.descriptors_before} → {figures.descriptors_after}")
    if seconds > 2 * SETTLED and figures.growth(SETTLED) > GROWTH_ALLOWED:
        faults.append(f"memory grew by {figures.growth(SETTLED) / MIB:.1f} MiB after the first minute")
    if not figures.outcomes["200"]:
        faults.append("no request succeeded")
    return faults


def report(figures: Figures, seconds: float) -> None:
    total = sum(figures.outcomes.values())
    print(f"{seconds:.0f} s, {total} requests ({total / seconds:.0f}/s), {figures.octets / MIB:.0f} MiB received")
    print("outcomes:", ", ".join(f"{name} {count}" for name, count in figures.outcomes.most_common()))
    print(f"wrong bodies: {len(figures.wrong)}; hangs: {len(figures.hangs)}")
    levels = [level / MIB for _, level in figures.rss]
    print(f"RSS MiB: first {levels[0]:.1f}, highest {max(levels):.1f}, last {levels[-1]:.1f}, ", end="")
    print(f"growth after the first minute {figures.growth(min(SETTLED, seconds / 2)) / MIB:.1f}")
    print(f"descriptors: {figures.descriptors_before} before, {figures.descriptors_after} after")


def configuration(origin: Origin) -> str:
    """One upstream, reached with and without TLS."""
    plain = {"url": f"http://127.0.0.1:{origin.port}", **SETTINGS}
    secure = {"url": f"https://localhost:{origin.tls_port}", "tls": {"ca_file": str(origin.authority)}, **SETTINGS}
    routes = [
        {"name": "secure", "match": {"prefix": SECURE}, "upstream": "secure"},
        {"name": "secure-tunnel", "match": {"prefix": f"{TUNNEL}secure/"}, "upstream": "secure"},
        {"name": "all", "match": {"prefix": "/"}, "upstream": "origin"},
    ]
    blocks = {"upstreams": {"origin": plain, "secure": secure}, "routes": routes}
    return config_text(None, proxy={"access_log": False, "limits": LIMITS}, top=blocks)


async def soak(seconds: float, seed: int) -> Figures:
    """Start everything, soak, stop everything."""
    with tempfile.TemporaryDirectory() as folder:
        origin = Origin(Path(folder))
        await origin.start()
        file = Path(folder) / "sidecar.yaml"
        file.write_text(configuration(origin))
        sidecar = await SidecarProcess.launch(file)
        try:
            await sidecar.ready()
            return await Soak(sidecar, origin, seconds, seed).run()
        finally:
            await sidecar.stop()
            await origin.kill()


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 600.0
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(1 << 32)
    print(f"seed {seed}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(soak(seconds, seed))
    report(figures, seconds)
    faults = verdict(figures, seconds)
    print("\n".join(faults) or "nothing wrong")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
