"""The circuit breaker of a route (breaker.md): circuit.py is what the rest of the sidecar uses, machine.py its core."""
