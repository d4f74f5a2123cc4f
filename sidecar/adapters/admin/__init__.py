"""The admin API: aiohttp on the loopback listener, JSON under /v1 (contract.md §4).

guard      who may call at all          problems   what a refused call answers
circuits   look, override, reset        events     the ring, and the same as server-sent events
effective  what is in force             stored     the cache's numbers, and purging it
faults     what is injected on purpose
explain    what becomes of a request    configuration   checking and reloading the file
bodies     reading what is sent         queries    reading the parameters of a call
traffic    the last ten minutes         streams    server-sent events
pages      the dashboard's files        openapi    the API's description of itself
entry      a row of the table of calls
"""

from sidecar.adapters.admin.application import build_admin
from sidecar.adapters.admin.context import AdminContext, Reloading

__all__ = ["AdminContext", "Reloading", "build_admin"]
