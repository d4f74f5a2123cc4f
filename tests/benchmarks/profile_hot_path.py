"""Where the sidecar's time goes under load: `python tests/benchmarks/profile_hot_path.py --help`.

Samples the process with py-spy when that is installed (C code counts for the Python function that called it), else runs
it under cProfile, which also counts calls but makes small functions look dearer than they are.
"""

from __future__ import annotations

import argparse
import io
import pstats
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.cases import CASES, Case, measure
from tests.benchmarks.origin import Origin
from tests.benchmarks.peers import Site, start_sidecar
from tests.benchmarks.processes import STOP_TIMEOUT, Cores, Processes

SAMPLES_PER_SECOND = 500
PROFILERS = ("py-spy", "cprofile")


def main() -> None:
    """Load the sidecar with one case and print its dearest functions."""
    options = _arguments()
    case = next(case for case in CASES if case.name == options.case)
    cores = Cores.of_this_machine()
    with tempfile.TemporaryDirectory(prefix="sidecar-profile-") as name, Processes() as processes:
        folder = Path(name)
        for part in ("origin", "sidecar"):
            (folder / part).mkdir()
        origin = Origin(processes, folder / "origin", cores.load)
        site = Site(processes, folder / "sidecar", cores, origin)
        profile = _sampled if options.profiler == "py-spy" else _traced
        print(profile(site, case, options.seconds, options.top))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "py-spy" if _py_spy() else "cprofile"
    add = parser.add_argument
    add("--case", choices=[case.name for case in CASES], default="real-get", help="the load (default: real-get)")
    add("--seconds", type=int, default=5, help="how long (default: 5)")
    add("--profiler", choices=PROFILERS, default=default, help=f"default here: {default}")
    add("--top", type=int, default=40, help="how many functions (default: 40)")
    return parser.parse_args()


def _py_spy() -> str | None:
    beside_python = Path(sys.executable).with_name("py-spy")
    return str(beside_python) if beside_python.exists() else shutil.which("py-spy")


def _traced(site: Site, case: Case, seconds: int, top: int) -> str:
    record = site.folder / "profile"
    peer = start_sidecar(site, [sys.executable, "-m", "cProfile", "-o", record])
    measure(case, peer, core=site.cores.load, seconds=seconds, folder=site.folder)
    peer.process.stop()
    text = io.StringIO()
    pstats.Stats(str(record), stream=text).sort_stats("tottime").print_stats(top)
    return text.getvalue()


def _sampled(site: Site, case: Case, seconds: int, top: int) -> str:
    peer = start_sidecar(site)
    record = site.folder / "stacks"
    spy = site.processes.start(
        [*_spy_command(), "--pid", str(peer.process.pid), "-d", str(seconds), "-o", record],
        site.cores.load,
        site.folder / "py-spy.log",
    )
    measure(case, peer, core=site.cores.load, seconds=seconds, folder=site.folder)
    spy.wait(STOP_TIMEOUT)
    if not record.exists():
        raise RuntimeError(f"py-spy took no samples; it says:\n{spy.log.read_text('utf-8')}")
    return _dearest(record.read_text("utf-8").splitlines(), top)


def _spy_command() -> list[str]:
    return [_py_spy() or "py-spy", "record", "--nonblocking", "--function", "-f", "raw", "-r", str(SAMPLES_PER_SECOND)]


def _dearest(stacks: list[str], top: int) -> str:
    """Of lines `outermost;…;innermost count`: each function's share of the samples, alone and with what it calls."""
    alone: Counter[str] = Counter()
    in_all: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        alone[frames[-1]] += int(count)
        in_all.update(dict.fromkeys(frames, int(count)))
    samples = alone.total()
    rows = (f"{count / samples:6.1%} {in_all[name] / samples:6.1%}  {name}" for name, count in alone.most_common(top))
    return "\n".join(["  self  total  function", *rows])


if __name__ == "__main__":
    main()
