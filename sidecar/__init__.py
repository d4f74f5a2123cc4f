"""circuit-sidecar: an HTTP reverse proxy for pods, with a circuit breaker per route and a cache behind it.

Imports point down only: `__main__ > cli > demo > app > adapters > pipeline | config > core`.

core      pure and synchronous: heads, routing, windows, the breaker, cache decisions, the settings. It takes `now`
          and returns values; it never reads a clock, logs, or touches the event loop.
config    from a document to the settings: reads, checks and explains a configuration. Pure like the core; it and the
          pipeline do not know each other.
pipeline  what happens to one request, as an onion of stages (`pipeline/stack.py` shows it whole). Knows the core and
          asyncio, no third-party library and no socket. It raises `ProxyError`; one function turns that into a
          response.
adapters  I/O, one outside thing per file, none knowing another: the downstream server, the upstream pool, the cache
          store, metrics, logs, the admin API, the configuration file.
app       the composition root: builds everything, owns every task and every real clock, starts, drains and stops.
cli       argv → subcommand → exit code.

The path of a request, the same for every request:

1. `adapters/server/connection` reads octets; `request` makes a checked head of them, `answering` hands it to the one
   task of its client connection, which awaits the rest.
2. `pipeline/gateway` chooses the route. Its stack is awaited from the outside in: `observe_stage` counts, logs and
   turns errors into answers; `cache/stage` answers from the store or asks on; `retry_stage` asks again where that
   may help; `breaker_stage` takes a permit of the circuit, or refuses; `adapters/upstream/handler` sends the request
   on an upstream connection and awaits the head.
3. The response comes back the same way: the circuit learns its outcome, the cache stores it if it may, and `answering`
   writes its octets, at once or piece by piece.
"""

__version__ = "0.1.0"
