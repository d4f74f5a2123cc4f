"""What the admin API works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from sidecar.adapters.admin.pages import Page
    from sidecar.config.change import Reviewed
    from sidecar.core.config import Config
    from sidecar.core.events import EventRing
    from sidecar.core.report import Moment
    from sidecar.core.traffic import TrafficHistory
    from sidecar.pipeline.data_plane import DataPlanePort


class Reloading(Protocol):
    """Whoever can read the configuration anew."""

    async def check(self, text: str | None) -> Reviewed:
        """What a reload would do if `text`, or None for the file as it is now, were the file; changes nothing."""

    async def reload(self) -> Reviewed:
        """Read the file and use what it says, unless there is an error in it."""


@dataclass(frozen=True, slots=True)
class AdminContext:
    """Everything the calls need from the process. What a reload replaces is behind a callable.

    `plane` has the circuits and the stored answers, `read_traffic` brings `traffic` up to date. `info` tells about the
    process in JSON values. `pages`, by path, are header fields and octets for browsers that tell nothing about this
    process; the one at / is for who asks for HTML. `hosts` gives names that callers may use for this listener
    beyond loopback. `heartbeat` is the longest silence on a stream, seconds. `end` ends the process in good order;
    None: nobody may by a call.
    """

    config: Callable[[], Config]
    plane: DataPlanePort
    events: EventRing
    traffic: TrafficHistory
    read_traffic: Callable[[], Awaitable[None]]
    moment: Callable[[], Moment]
    info: Callable[[], Mapping[str, object]]
    reloading: Reloading
    pages: Mapping[str, Page] = field(default_factory=dict)
    hosts: Callable[[], Iterable[str]] = tuple
    end: Callable[[], None] | None = None
    token_file: str | None = None
    heartbeat: float = 15.0


CONTEXT: web.AppKey[AdminContext] = web.AppKey("context")
"""Where an application keeps its context."""
