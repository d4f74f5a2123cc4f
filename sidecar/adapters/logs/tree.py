"""Python's logging, and the transitions of circuits in it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sidecar.adapters.logs.form import JSON_FORM
from sidecar.core.circuit.explanation import OverrideMode, State
from sidecar.core.config import LogLevel
from sidecar.core.report import sentence, transition_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.adapters.logs.sink import Write
    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.report import Moment

REFUSING = frozenset({State.OPEN, OverrideMode.FORCED_OPEN})


class SinkHandler(logging.Handler):
    """Sends the logging tree to a sink."""

    def __init__(self, write: Write, formatter: logging.Formatter) -> None:
        super().__init__()
        self._write = write
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - logging's own rule: a bad log call is reported and does not raise
            self.handleError(record)
        else:
            self._write(line.encode() + b"\n", line.count("\n") + 1)


def take_over_logging(
    write: Write, level: LogLevel = LogLevel.INFO, formatter: logging.Formatter = JSON_FORM.formatter
) -> None:
    """Make `write`, a sink's, the only way out of the logging tree and of Python's warnings."""
    logging.basicConfig(level=level.name, handlers=[SinkHandler(write, formatter)], force=True)
    logging.captureWarnings(capture=True)


class TransitionLog:
    """One line per transition, in the words that the API uses; what makes requests fail is a warning.

    `moment` reads both clocks.
    """

    def __init__(self, moment: Callable[[], Moment]) -> None:
        self._moment = moment
        self._logger = logging.getLogger("sidecar.circuit")

    def __call__(self, transition: Transition) -> None:
        """Log `transition`."""
        level = logging.WARNING if transition.target in REFUSING else logging.INFO
        report = transition_report(transition, self._moment())
        self._logger.log(level, "%s", sentence(transition), extra={"circuit": transition.circuit, **report})
