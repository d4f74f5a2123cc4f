"""The upstream side of the data plane: name resolution, connection pools, and one exchange per connection at a time."""
