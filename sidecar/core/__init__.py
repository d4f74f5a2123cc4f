"""Pure decisions: values in, values out. No I/O, no clock, no logging, no event loop.

http, forwarding, routing       heads, what a proxy changes in them, and where they go
breaker, window, outcome        the circuit; what it is made of is in `circuit`
cache                           RFC 9111 as decisions; what the store is made of is in `storage`
config, config_key              every setting: its default, the values it takes, what it means
explanation, events, report     what happened and why, in the same words for everybody who asks
"""
