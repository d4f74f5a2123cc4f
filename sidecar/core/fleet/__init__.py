"""The fleet: what sidecars that share one Redis tell each other of their circuits, and what follows from it.

Pure values and decisions. Who asks Redis, and when, is `pipeline/fleet`; how it is asked is `adapters/redis`.
"""
