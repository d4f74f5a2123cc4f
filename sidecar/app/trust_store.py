"""Two megabytes less: aiohttp reads every certificate authority of the system when it is imported.

It does so for clients that bring no TLS context of their own; here each brings one (adapters/upstream/tls.py).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Where OpenSSL is told to look."""


@contextmanager
def hidden_trust_store() -> Iterator[None]:
    """Within it OpenSSL finds no authorities; afterwards it finds them where it did before."""
    before = {name: os.environ.get(name) for name in PLACES}
    os.environ.update(dict.fromkeys(PLACES, os.devnull))
    try:
        yield
    finally:
        for name, place in before.items():
            if place is None:
                del os.environ[name]
            else:
                os.environ[name] = place
