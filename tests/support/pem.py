"""One PEM file that serves wherever a configuration names one: a certificate, its key, and an authority to trust."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trustme

_FOLDER = tempfile.TemporaryDirectory()


def _written() -> str:
    issued = trustme.CA().issue_cert("localhost")
    file = Path(_FOLDER.name, "identity.pem")
    file.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return str(file)


PEM = _written()
"""Its path; the file lasts as long as the process."""
