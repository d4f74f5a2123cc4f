"""The fleet's stored answers, behind each sidecar's own memory (`cache.store: redis`).

A request is answered from memory as ever. One that finds nothing there waits for one bounded look into the fleet's
store (`SharedStore.look`), which brings what it finds into memory, where the cache stage looks again. What is put into
memory is written to the fleet's store behind the request (`WriteBehind`), and so is what is invalidated and purged.

What keeps a purged answer from coming back: every purge has a position in the fleet's store, and every answer there
says up to which position its writer knew of all purges. Who reads it compares; what it does not know of yet, it is
told with the answer. Memory is told of the purges of others at once by a subscription, and by a look at their latest
position every half second; a purge there refuses the fetches that began before it. An invalidated key keeps a mark in
the fleet's store for a minute, at which writes of those lose who had not heard of it.
"""
