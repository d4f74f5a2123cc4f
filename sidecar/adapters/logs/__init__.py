"""Logs on standard output: one JSON object per line, written by a thread of its own so that nobody ever waits for it.

The access log and the logging tree meet in one `LineSink`. Whatever reads standard output may stop reading or go
away: the sink then drops lines, counts them, and says how many when it can write again.

sink     the queue and its thread     access   a line per request     tree   Python's logging, and the transitions
"""

from sidecar.adapters.logs.access import AccessLog
from sidecar.adapters.logs.sink import LineSink
from sidecar.adapters.logs.tree import TransitionLog, take_over_logging

__all__ = ["AccessLog", "LineSink", "TransitionLog", "take_over_logging"]
