"""Standard input, output and error, of which a supervisor may have closed any."""

from __future__ import annotations

import os
import sys


def open_missing() -> None:
    """Put /dev/null in place of each standard stream that is closed, before another file or socket gets its number.

    Whatever is written to "standard output" would otherwise go into that, and libuv refuses to close a descriptor
    that low: it aborts the process.
    """
    for descriptor in (0, 1, 2):
        if not _is_open(descriptor):
            _open_null(descriptor)
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        # Python has None in place of a stream that was closed when it started.
        if getattr(sys, name) is None:
            stream = open(descriptor, mode, buffering=1, closefd=False)  # noqa: SIM115 - for the life of the process
            setattr(sys, name, stream)


def discard_output() -> None:
    """Send to /dev/null what is still to be written, so that the interpreter does not fail at its final flush."""
    for descriptor in (1, 2):
        _open_null(descriptor)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _open_null(descriptor: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened == descriptor:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - the os module's own signature
    else:
        os.dup2(opened, descriptor)
        os.close(opened)
