"""Processes that a benchmark starts: pinned to one core, measured through /proc, stopped by id on every path out."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB, summed over a process and its children. PSS counts a page that several of them share once."""

    rss: float
    pss: float


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where: the measured proxy has a core of its own, origin and load share the other."""

    proxy: int
    load: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The last and the first core that this process may use; on a single core, that one twice."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(proxy=allowed[-1], load=allowed[0])


class PinnedProcess:
    """A running program. It leads a process group of its own, so that Ctrl-C reaches only the benchmark, which then
    stops it; its output goes to `log`.
    """

    def __init__(self, argv: Sequence[str | Path], core: int, log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait_listening(self, port: int) -> None:
        """Return once `port` accepts connections. RuntimeError with the program's last words when it never does."""
        deadline = time.monotonic() + START_TIMEOUT
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.02)
        raise RuntimeError(f"nothing listens on port {port}; its log ends:\n{self.log.read_text('utf-8')[-2000:]}")

    def cpu_seconds(self) -> float:
        """User and system time so far of all its threads and of its children (in kernel ticks of 10 ms)."""
        return sum(_cpu_ticks(pid) for pid in family(self.pid)) / TICKS_PER_SECOND

    def memory(self) -> Memory:
        """What is resident now."""
        pids = family(self.pid)
        return Memory(rss=_sum_mib(pids, "status", "VmRSS"), pss=_sum_mib(pids, "smaps_rollup", "Pss"))

    def forget_peak(self) -> None:
        """Begin a new peak for `peak_rss` here."""
        for pid in family(self.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")

    def peak_rss(self) -> float:
        """MiB: the most that was resident since `forget_peak`."""
        return _sum_mib(family(self.pid), "status", "VmHWM")

    def wait(self, seconds: float) -> None:
        """Until it ends by itself. subprocess.TimeoutExpired when it does not."""
        self._process.wait(seconds)

    def stop(self) -> None:
        """End it and its children, with force when asking does not help."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


class Processes:
    """All that one benchmark has started; leaving its context stops them, the last one first."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, argv: Sequence[str | Path], core: int, log: Path) -> PinnedProcess:
        """Run a program pinned to `core`, its output in `log`."""
        process = PinnedProcess(argv, core, log)
        self._stack.callback(process.stop)
        return process


def family(pid: int) -> list[int]:
    """A process and all who descend from it."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for thread in threads for child in (thread / "children").read_text("ascii").split()]
    return [pid, *(member for child in children for member in family(child))]


def _cpu_ticks(pid: int) -> int:
    # The command's name, in parentheses, may hold blanks. Fields 14 to 17 of the line are utime, stime, and both again
    # of the children that have ended.
    after_name = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return sum(int(ticks) for ticks in after_name[11:15])


def _sum_mib(pids: list[int], file: str, field: str) -> float:
    lines = (line for pid in pids for line in Path(f"/proc/{pid}/{file}").read_text("utf-8").splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def free_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
