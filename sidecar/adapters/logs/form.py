"""Which form lines have: JSON for machines, or text for people."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.adapters.logs.access_json import JsonAccessLines
from sidecar.adapters.logs.json_line import JsonFormatter
from sidecar.adapters.logs.text_line import Paint, TextAccessLines, TextFormatter
from sidecar.core.config import LogFormat, LogSettings

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from sidecar.pipeline.record import ExchangeRecord


@dataclass(frozen=True, slots=True)
class LineForm:
    """`request` makes the ended line about a finished request from its record and an RFC 3339 time; `formatter` those
    of Python's logging.
    """

    request: Callable[[ExchangeRecord, str], str]
    formatter: logging.Formatter


def form_of(settings: LogSettings, *, terminal: bool) -> LineForm:
    """The form that `settings` want where standard output is a `terminal`, or none.

    Only a terminal shows colours, and none for whom NO_COLOR says so.
    """
    if settings.format is LogFormat.JSON or (settings.format is LogFormat.AUTO and not terminal):
        return LineForm(JsonAccessLines(settings), JsonFormatter())
    paint = Paint(on=terminal and not os.environ.get("NO_COLOR"))
    return LineForm(TextAccessLines(settings, paint), TextFormatter(paint))


JSON_FORM = form_of(LogSettings(), terminal=False)
