"""Write the case tables as seeds: `python -m tests.fuzz.write_seeds FOLDER` fills FOLDER/{requests,responses}."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.adapters import test_server_boundaries, test_upstream_boundaries


def write(folder: Path, seeds: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"{number:04}").write_bytes(seed)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write(target / "requests", [*test_server_boundaries.GOOD, *test_server_boundaries.BAD])
    responses = [*test_upstream_boundaries.GOOD, *test_upstream_boundaries.BAD]
    write(target / "responses", [method + seed for seed in responses for method in (b"\x00", b"\x01")])
