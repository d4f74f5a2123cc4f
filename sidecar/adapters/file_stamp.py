"""What tells that the file at a path is another one, or holds something else, than when it was looked at before."""

from __future__ import annotations

import os
from typing import TypeAlias

Stamp: TypeAlias = "tuple[int, int, int, int, int] | None"
"""Device, inode, size, and the times of change of content and inode, in ns. None: there is nothing to look at."""


def file_stamp(path: str | os.PathLike[str]) -> Stamp:
    """The stamp of what `path` leads to in the end.

    Kubernetes mounts a ConfigMap as links through `..data`, which it makes lead to another folder: the name and its
    link stay what they were, and only the file at their end is another one.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - one call, in place of an object for it
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
