"""`sidecar run`: from a configuration file to an exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import TYPE_CHECKING

import uvloop

from sidecar.adapters.config_file import load
from sidecar.adapters.early_signals import deliver_signals, hold_signals
from sidecar.adapters.file_stamp import file_stamp
from sidecar.adapters.logs import LineSink, take_over_logging
from sidecar.adapters.tracing import TracingUnavailable
from sidecar.app.fleet import MissingExtra
from sidecar.app.memory import collect_rarely, give_back_freed_memory, keep_freed_memory
from sidecar.app.service import App, build
from sidecar.config.problem_report import as_text
from sidecar.core.address import bound_text
from sidecar.pipeline.data_plane import Unusable

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.adapters.file_stamp import Stamp
    from sidecar.core.config import Config

log = logging.getLogger(__name__)

DRAINED = 0
FAILED = 1
MISCONFIGURED = 64
STDERR = 2


class RealClock:
    """The `Clock` of a process."""

    __slots__ = ("monotonic", "wall")

    def __init__(self) -> None:
        # The functions themselves, not methods around them: they are read several times per request.
        self.monotonic = time.monotonic
        self.wall = time.time


def run(path: Path) -> int:
    """Run the sidecar that the file at `path` describes until a signal ends it; the exit code of contract.md §1."""
    hold_signals()
    seen = file_stamp(path)
    loaded = load(path, os.environ)
    _tell(as_text(loaded.problems, loaded.source, loaded.text))
    if loaded.config is None:
        return MISCONFIGURED
    keep_freed_memory()
    settings = loaded.config.log
    sink = LineSink(settings=settings)
    take_over_logging(sink.write, settings.level, sink.form.formatter)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(loaded.config, sink, seen))
    finally:
        logging.shutdown()
        sink.close()


async def _serve(config: Config, sink: LineSink, seen: Stamp) -> int:
    try:
        app = build(config, RealClock(), sink, seen)
        signals = _Signals(app)
        signals.take_over()
        await app.start()
    except OSError as error:
        return _not_started(error.strerror or str(error))
    except (MissingExtra, TracingUnavailable) as error:
        return _not_started(str(error))
    except Unusable as error:
        _not_started(f"{error.ref}: {error}")
        return MISCONFIGURED
    for name, addresses in app.addresses.items():
        for address in addresses:
            where = bound_text(address)
            log.info("%s listens on %s", name, where, extra={"listener": name, "address": where})
    collect_rarely()
    give_back_freed_memory()
    await signals.ended.wait()
    log.info("draining")
    drained = await app.drain(signals.hurried)
    await app.stop(signals.hurried)
    hold_signals()  # with the loop go its handlers, and the exit code with one more signal
    log.info("drained" if drained else "ended before everything was answered")
    return DRAINED if drained else FAILED


def _not_started(reason: str) -> int:
    _tell(f"sidecar: {reason}\n")
    return FAILED


def _tell(text: str) -> None:
    """Write on standard error. Nobody has to read it: a reader that stopped or left holds nothing up."""
    octets = text.encode("utf-8", "backslashreplace")
    if octets:
        sink = LineSink(STDERR, limit=len(octets))
        sink.write(octets, text.count("\n"))
        sink.close()


class _Signals:
    """SIGTERM and SIGINT end it, a second one at once; SIGHUP reads the configuration anew."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._told = False
        self.ended = app.control.ended
        self.hurried = asyncio.Event()

    def take_over(self) -> None:
        """Handle signals from now on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        deliver_signals()

    def _end(self) -> None:
        if self._told:
            self.hurried.set()
        self._told = True
        self.ended.set()

    def _reload(self) -> None:
        if not self.ended.is_set():
            self._app.control.reloader.request()
