"""What only one process of a machine may have at a time: a lock on a file, and the addresses of a listener.

file_lock        a lock that ends with its process      listen_sockets   binding, and socket files
"""

from sidecar.adapters.exclusive.file_lock import FileLock
from sidecar.adapters.exclusive.listen_sockets import ListenSockets

__all__ = ["FileLock", "ListenSockets"]
