from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.adapters.exclusive import FileLock

HOLDING = """
import sys, pathlib
from sidecar.adapters.exclusive import FileLock
assert FileLock(pathlib.Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_only_one_has_it_and_the_file_goes_with_the_lock(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)

    assert first.acquire()
    assert not second.acquire()
    assert path.stat().st_mode & 0o777 == 0o600
    first.release()
    first.release()
    assert not path.exists()

    assert second.acquire()
    second.release()


def test_a_killed_process_leaves_the_lock_free(path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = FileLock(path)
        assert not lock.acquire()
        holder.kill()
        holder.wait()

    assert path.exists()
    assert lock.acquire()
    lock.release()


def test_a_lock_on_a_file_that_lost_its_name_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder lets go between the moment in which the next one opens the file and the one in which it locks it."""
    first, second, third = FileLock(path), FileLock(path), FileLock(path)
    assert first.acquire()
    lock = fcntl.flock

    def release_first(descriptor: int, operation: int) -> None:
        first.release()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", release_first)
    assert second.acquire()
    monkeypatch.undo()

    assert path.exists()
    assert not third.acquire()
    second.release()


def test_a_file_that_somebody_else_put_in_its_place_stays(path: Path) -> None:
    lock = FileLock(path)
    assert lock.acquire()
    path.unlink()
    path.write_text("another's")

    lock.release()

    assert path.read_text() == "another's"


@pytest.mark.parametrize("kind", ["folder", "link", "nowhere"])
def test_where_no_file_can_be_there_is_an_error(path: Path, tmp_path: Path, kind: str) -> None:
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(tmp_path / "elsewhere")
        case _:
            path = path / "file"
    before = open_descriptors()

    with pytest.raises(OSError, match=str(path)):
        FileLock(path).acquire()

    assert open_descriptors() == before
