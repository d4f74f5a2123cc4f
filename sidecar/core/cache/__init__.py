"""Decisions of a shared HTTP cache as values (RFC 9111): what is kept, under which key, and who may have it when."""
