"""The composition root: builds everything, owns every task and the only real clocks.

`process.run` reads as the story of a process: configuration → build → start → signal → drain → stop. `service.App`
ties a `DataPlane` (all that a request meets) to a `ControlPlane` (all that tells about it and steers it).
"""

from sidecar.app.memory import hidden_trust_store

with hidden_trust_store():
    from sidecar.app.process import RealClock, run
    from sidecar.app.service import App, build

__all__ = ["App", "RealClock", "build", "run"]
