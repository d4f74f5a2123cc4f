"""From a document to the configuration (core/config.py): keys, reader, lint, and how problems are told."""
