"""What the allocator does with freed memory is seen in a process of its own, by the pages it has to ask for."""

from __future__ import annotations

import platform
import subprocess
import sys

from sidecar.app.allocator import keep_freed_memory

CYCLES = 50
WATCH = f"""
import resource
from sidecar.app.allocator import keep_freed_memory
{{set_up}}
def cycle():
    bodies = [bytes(100_000) for _ in range(30)]
    del bodies
cycle()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({CYCLES}):
    cycle()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults_per_cycle(set_up: str) -> float:
    """Page faults of allocating and freeing 3 MB in blocks of 100 kB."""
    told = subprocess.run([sys.executable, "-c", WATCH.format(set_up=set_up)], capture_output=True, check=True)
    return int(told.stdout) / CYCLES


def test_the_memory_of_bodies_is_not_asked_for_anew_each_time() -> None:
    if platform.libc_ver()[0] != "glibc":
        assert not keep_freed_memory(), "another libc is left as it is"
        return
    untold = faults_per_cycle("")
    told = faults_per_cycle("assert keep_freed_memory()")
    assert untold > 100
    assert told < untold / 10
