"""Sockets, files and libraries: one outside thing per module, none importing another."""
