"""HTTP messages as values: heads, how they are framed, what a proxy changes in them, dates, methods, credentials."""
