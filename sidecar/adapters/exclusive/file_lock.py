"""A lock between processes: flock(2) on a file that exists for as long as the lock is held.

The kernel frees the lock when its holder ends, however that ends. Because the holder removes the file when it is done,
another process may open the file and get its lock when the file has just lost its name; that lock would exclude nobody,
so after locking the descriptor is compared with what the path names now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RETRY = 0.01
"""Seconds between two attempts."""


class FileLock:
    """The lock on the file at `path`, free at first. The file is made for this user only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, patience: float = 0.0) -> bool:
        """Whether it could be had within `patience` seconds. Blocks; raises OSError when the file cannot be made."""
        deadline = time.monotonic() + patience
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(RETRY)
        return True

    def release(self) -> None:
        """Remove the file and free the lock, if it is held."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):  # a folder that is gone or read-only by now; the lock is freed all the same
            if self._is_at_path(self._descriptor):
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None

    def _try(self) -> bool:
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_at_path(descriptor):
                    self._descriptor = descriptor
                    return True
            except BlockingIOError:
                return False
            finally:
                if self._descriptor != descriptor:
                    os.close(descriptor)

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.lstat())
        except FileNotFoundError:
            return False
