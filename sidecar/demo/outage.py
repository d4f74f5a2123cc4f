"""A sidecar between light traffic and an origin that fails on a schedule, to be watched with curl.

The sidecar runs in this process, exactly as `sidecar run` would; origin and traffic are processes of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.adapters.demo_origin import Schedule
from sidecar.app import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

HOST = "127.0.0.1"
ENDING = 5.0
"""Seconds that a companion process has to end."""
ITEMS = 3
"""Items of the catalog that the traffic asks for."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the demo listens (0: any free port); the defaults are those of the product."""

    proxy: int = 4100
    admin: int = 4101
    telemetry: int = 4102


def run_demo(schedule: Schedule | None = None, wanted: Ports | None = None) -> int:
    """Run until SIGINT or SIGTERM; the exit code of the sidecar. A port in use is replaced by a free one, and said."""
    schedule = schedule or Schedule()
    # Until the sidecar handles signals itself they must unwind, so that the companions end.
    signal.signal(signal.SIGTERM, _interrupt)
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory() as folder,
        contextlib.ExitStack() as stack,
    ):
        ports = available(wanted or Ports())
        listener = stack.enter_context(socket.create_server((HOST, 0)))
        origin_port = listener.getsockname()[1]
        stack.enter_context(companion(_origin_command(listener.fileno(), schedule), listener.fileno()))
        stack.enter_context(companion(_traffic_command(ports)))
        file = Path(folder, "demo.yaml")
        file.write_text(demo_config(ports, origin_port), encoding="utf-8")
        _say(introduction(ports, origin_port, schedule))
        return run(file)
    return 0


def demo_config(ports: Ports, origin_port: int) -> str:
    """The configuration of the demo: one origin behind two routes, short times so that little patience is needed."""
    return f"""\
proxy: {{listen: "{HOST}:{ports.proxy}", access_log: false}}
admin: {{listen: "{HOST}:{ports.admin}"}}
telemetry: {{listen: "{HOST}:{ports.telemetry}"}}

defaults:
  timeouts: {{first_byte: 2s}}
  breaker:
    failure_threshold: 3
    open_duration: 5s
    backoff: {{multiplier: 1, jitter: 0%}}
    probe_timeout: 3s

upstreams:
  catalog:
    url: http://{HOST}:{origin_port}
    cache: {{mode: fallback}}
  orders:
    url: http://{HOST}:{origin_port}
    cache: {{mode: off}}
"""


def introduction(ports: Ports, origin_port: int, schedule: Schedule) -> str:
    """What the demo does and what to type into another terminal."""
    proxy, admin = f"http://{HOST}:{ports.proxy}", f"http://{HOST}:{ports.admin}"
    return f"""\
A demo origin (port {origin_port}) answers for {schedule.healthy:g} s, then fails for {schedule.failing:g} s, and so on.
Two routes lead to it: /catalog/ keeps answers to fall back on, /orders/ keeps none. In a browser:

  {admin}/
      the dashboard: which circuit is open, since when and why, what clients get, and the buttons

In another terminal:

  curl -i {proxy}/catalog/items/1
      while the origin is healthy: its answer
      while it fails: the stored answer, with its Age, and Cache-Status saying why
  curl -i {proxy}/orders/1
      while it fails: 503 with Retry-After, at once, because the circuit is open
  curl -s {admin}/v1/circuits
      both circuits: state, window, and what tripped them
  curl -s http://{HOST}:{ports.telemetry}/metrics | grep sidecar_circuit
      the same for Prometheus
  curl -X PUT {admin}/v1/circuits/orders/override -H 'Content-Type: application/json' \\
      -d '{{"mode": "forced_open", "ttl": "1m", "reason": "trying it out", "actor": "me"}}'
      force a circuit open, for a minute
  curl -X DELETE {admin}/v1/circuits/orders/override
      and back

Below: what the origin does, and each transition of a circuit. Ctrl-C ends the demo.

"""


def available(wanted: Ports) -> Ports:
    """`wanted`, with free ports in place of those in use, which is told on standard error."""
    with contextlib.ExitStack() as stack:
        return Ports(*[_bind(port, stack) for port in astuple(wanted)])


def _bind(port: int, stack: contextlib.ExitStack) -> int:
    try:
        listener = stack.enter_context(socket.create_server((HOST, port)))
    except OSError as error:
        listener = stack.enter_context(socket.create_server((HOST, 0)))
        instead = listener.getsockname()[1]
        sys.stderr.write(
            f"sidecar demo: port {port} cannot be had ({os.strerror(error.errno or 0)}); using {instead} instead\n"
        )
    bound: int = listener.getsockname()[1]
    return bound


def _origin_command(descriptor: int, schedule: Schedule) -> list[str]:
    times = ["--healthy", str(schedule.healthy), "--failing", str(schedule.failing)]
    return ["sidecar.adapters.demo_origin", "--listen", f"fd:{descriptor}", *times]


def _traffic_command(ports: Ports) -> list[str]:
    proxy = f"http://{HOST}:{ports.proxy}"
    pairs = [(f"{proxy}/catalog/items/{item}", f"{proxy}/orders/{item}") for item in range(1, ITEMS + 1)]
    return ["sidecar.adapters.demo_client", *(url for pair in pairs for url in pair)]


@contextlib.contextmanager
def companion(module: Sequence[str], *descriptors: int, quiet: bool = False) -> Iterator[None]:
    """A Python module that runs as a process of its own meanwhile; with `quiet` its output is not shown."""
    # In a session of its own: Ctrl-C reaches this process only, which then ends the others in order.
    process = subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-m", *module],
        pass_fds=descriptors,
        start_new_session=True,
        stdout=subprocess.DEVNULL if quiet else None,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
