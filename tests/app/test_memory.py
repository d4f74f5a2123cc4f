"""What the allocator does with freed memory, and what OpenSSL reads, is seen in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import trustme

from sidecar.app.memory import keep_freed_memory

if TYPE_CHECKING:
    from pathlib import Path

CYCLES = 50
WATCH = f"""
import resource
from sidecar.app.memory import keep_freed_memory
{{set_up}}
in_the_gaps = [bytes(100_000) for _ in range(200)]  # what imports leave free is full, so that bodies lie on top
def cycle():
    bodies = [bytes(100_000) for _ in range(30)]
    del bodies
cycle()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({CYCLES}):
    cycle()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


COUNTS = """
import os, ssl
before = dict(os.environ)
import sidecar.app
from aiohttp import connector
print(connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"])
print(ssl.create_default_context().cert_store_stats()["x509_ca"])
print(os.environ == before)
"""


SCATTERED = """
from pathlib import Path
from sidecar.app.memory import give_back_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])
blocks = [bytes(2000) for _ in range(20_000)]
last = blocks[-1]
del blocks
before = resident()
print(give_back_freed_memory(), before - resident())
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


def test_what_is_free_below_a_block_in_use_can_be_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", SCATTERED], capture_output=True, text=True, check=True)
    given, pages = told.stdout.split()
    if platform.libc_ver()[0] != "glibc":
        assert given == "False", "another libc is left as it is"
        return
    assert given == "True"
    assert int(pages) > 20_000 * 2000 / os.sysconf("SC_PAGE_SIZE") * 0.9


def test_authorities_are_read_by_those_who_need_them_only(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(f"{tmp_path}/ca.pem")
    environ = {**os.environ, "SSL_CERT_FILE": f"{tmp_path}/ca.pem"}
    environ.pop("SSL_CERT_DIR", None)

    printed = subprocess.run([sys.executable, "-c", COUNTS], env=environ, capture_output=True, text=True, check=True)

    assert printed.stdout.split() == ["0", "1", "True"], printed
