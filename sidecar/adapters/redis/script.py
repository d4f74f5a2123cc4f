"""Scripts that run in Redis."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Script:
    """One script, and the name by which a server knows it that has run it before."""

    text: str
    sha: str


def load_script(name: str) -> Script:
    """The script in the file called `name` beside this one."""
    octets = Path(__file__).with_name(name).read_bytes()
    return Script(octets.decode(), hashlib.sha1(octets, usedforsecurity=False).hexdigest())
