"""Pure decisions: values in, values out. No I/O, no clock, no logging, no event loop.

http                            heads, their framing, and what a proxy changes in them
routing, address                where a request goes, and how a host and a port are written
circuit                         the breaker: a machine moved by a table of transitions
retry                           what may be sent again, after which wait, and how often in all
cache, storage                  RFC 9111 as decisions; what the embedded store is made of
config, config_key              every setting: its default, the values it takes, what it means
events, report, wording         what happened and why, in the same words for everybody who asks
"""
