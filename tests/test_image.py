"""The Dockerfile builds an image that runs. `make test` leaves this out, and says so, without root or debootstrap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK_IMAGE = Path(__file__).resolve().parents[1] / "deploy" / "check_image.py"


@pytest.mark.timeout(540)
def test_the_steps_of_the_dockerfile_make_a_root_from_which_the_sidecar_starts_and_drains() -> None:
    done = subprocess.run([sys.executable, CHECK_IMAGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIGTERM: exit code 0" in done.stdout
