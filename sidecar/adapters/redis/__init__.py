"""Redis: everything that is known of it, its client and its commands. Nothing of it is loaded unless it is configured.

`client.py` makes the client and tames it, `failure.py` says what its errors mean, `subscriber.py` keeps the one
subscription, `fleet_store.py` and `fleet.lua` are the fleet's state, `cache_store.py` and `cache.lua` its stored
answers.
"""
