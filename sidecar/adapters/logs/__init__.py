"""Logs on standard output: JSON objects, or text for people, written by a thread of its own so that nobody ever waits.

The access log and the logging tree meet in one `LineSink`. Whatever reads standard output may stop reading or go
away: the sink then drops lines, counts them, and says how many when it can write again.

sink     the queue and its thread     access   which requests get a line     tree   Python's logging, the transitions
form     which form lines have: json_line and access_json, or text_line
"""

from sidecar.adapters.logs.access import AccessLog
from sidecar.adapters.logs.form import form_of
from sidecar.adapters.logs.sink import LineSink
from sidecar.adapters.logs.tree import TransitionLog, take_over_logging

__all__ = ["AccessLog", "LineSink", "TransitionLog", "form_of", "take_over_logging"]
