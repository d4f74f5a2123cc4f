"""The running sidecar: a data plane, its control plane, and the order in which the two start and end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.app.control_plane import ControlPlane
from sidecar.app.data_plane import DataPlane
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.tasks import Tasks

if TYPE_CHECKING:
    from sidecar.adapters.file_stamp import Stamp
    from sidecar.adapters.logs import LineSink
    from sidecar.app.control_plane import Addresses
    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.config import Config
    from sidecar.core.fault import FaultChange
    from sidecar.pipeline.ports import Clock


def build(config: Config, clock: Clock, sink: LineSink | None = None, seen: Stamp = None) -> App:
    """Everything, connected and not yet started. `sink` takes the access log's lines; None: there is none. `seen`
    is the configuration file's stamp from before it was read.

    Raises Unusable when the files that an upstream or a fallback names cannot be used, MissingExtra when a library is
    not there.
    """
    return App(config, clock, sink, seen)


class App:
    """One sidecar: `start`, then perhaps `drain`, and `stop`."""

    def __init__(self, config: Config, clock: Clock, sink: LineSink | None, seen: Stamp) -> None:
        self._tasks = Tasks()
        self.runtime = Runtime(clock, DeadlineWheel(clock), self._tasks.spawn)
        self.data = DataPlane(config, self.runtime, self._tasks.start, sink, self._note_transition, self._note_fault)
        self.control = ControlPlane(config, self.runtime, self.data, self.data.tls_of, seen)

    @property
    def addresses(self) -> Addresses:
        """Where each listener was reached when it was started."""
        return self.control.addresses

    async def start(self) -> None:
        """Listen. Raises OSError when an address or a directory cannot be had, and then leaves nothing behind."""
        try:
            self.data.bind()
            self.control.bind()
            await self.control.open()
            await self.data.serve()
        except BaseException:
            await self.stop()
            raise
        self.data.begin()
        self.control.begin(self.data.addresses)

    async def drain(self, hurry: asyncio.Event) -> bool:
        """Accept nobody new and let what is under way end, for `drain_timeout` or until `hurry`; whether all did."""
        self.control.drain()
        return await self.data.drain(hurry)

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """End everything that is left. What takes long is left out once `hurry` is set.

        The state is saved when nothing can change it any more, and given up when nobody writes it any more.
        """
        self.control.drain()
        await self.control.reloader.close()
        self.data.abort()
        await self.control.end_orders()
        await self.data.disconnect()
        await self.control.save(hurry or asyncio.Event())
        self.data.close()
        await self._tasks.cancel_all()
        self.control.release()
        self.runtime.wheel.close()
        self.data.flush()

    def _note_transition(self, transition: Transition) -> None:
        self.control.note_transition(transition)

    def _note_fault(self, change: FaultChange) -> None:
        self.control.note_fault(change)
