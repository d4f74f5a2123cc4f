"""Signals from the first moment of a process to its last: none may kill it in the middle of starting or ending.

To import what a sidecar needs takes a few tenths of a second, more on a busy node, in which nobody handles signals yet
and the default is to die. So they are held by the kernel until the event loop takes them.
"""

from __future__ import annotations

import signal

HELD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""What has a meaning: to end, and to read the configuration anew, which may have changed after it was read."""
MEANINGLESS = (signal.SIGUSR1, signal.SIGUSR2)
"""What other servers know, and tools therefore send."""


def hold_signals() -> None:
    """Keep what has a meaning waiting, and ignore what has none."""
    for number in MEANINGLESS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def deliver_signals() -> None:
    """Somebody handles them from now on; those that wait come at once."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
