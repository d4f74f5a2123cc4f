"""The /metrics page. Names and meanings are in `families.py`, what each family shows in `samples.py`, the two text
formats in `exposition.py`.

The numbers are plain counters (`pipeline/stats.py`) that are read from the data plane when somebody scrapes. The
text is written here and not by prometheus_client, whose rendering of 1000 routes takes 165 ms: on the loop, or in a
thread that competes with it for the interpreter, requests would feel it. Ours takes a fraction of that, in slices of
half a millisecond between which the loop serves requests (`page.py`).
"""

from sidecar.adapters.metrics.page import Metrics

__all__ = ["Metrics"]
