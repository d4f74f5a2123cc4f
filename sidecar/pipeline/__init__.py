"""What happens to one request: stages around an upstream, on asyncio and the core alone."""
