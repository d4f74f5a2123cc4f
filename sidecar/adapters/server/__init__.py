"""The client side of the data plane: listeners, connections, and the strict reading of requests."""
