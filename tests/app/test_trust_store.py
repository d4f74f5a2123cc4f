from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = """
import os, ssl
before = dict(os.environ)
import sidecar.app
from aiohttp import connector
print(connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"])
print(ssl.create_default_context().cert_store_stats()["x509_ca"])
print(os.environ == before)
"""


def test_authorities_are_read_by_those_who_need_them_only(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(f"{tmp_path}/ca.pem")
    environ = {**os.environ, "SSL_CERT_FILE": f"{tmp_path}/ca.pem"}
    environ.pop("SSL_CERT_DIR", None)

    printed = subprocess.run([sys.executable, "-c", COUNTS], env=environ, capture_output=True, text=True, check=True)

    assert printed.stdout.split() == ["0", "1", "True"], printed
