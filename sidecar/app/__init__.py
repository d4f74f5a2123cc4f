"""The composition root: builds everything, owns every task and the only real clocks.

`process.run` reads as the story of a process: configuration → build → start → signal → drain → stop.
"""

from sidecar.app.trust_store import hidden_trust_store

with hidden_trust_store():
    from sidecar.app.process import run
    from sidecar.app.service import App, build
from sidecar.app.clock import RealClock

__all__ = ["App", "RealClock", "build", "run"]
