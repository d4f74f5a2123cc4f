"""The composition root: builds everything, owns every task and the only real clocks.

`process.run` reads as the story of a process: configuration → build → start → signal → drain → stop.
"""

from sidecar.app.clock import RealClock
from sidecar.app.process import run
from sidecar.app.service import App, build

__all__ = ["App", "RealClock", "build", "run"]
