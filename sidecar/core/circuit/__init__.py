"""What a circuit (core/breaker.py) is made of: the automatic machine under it, and what lies above it."""
