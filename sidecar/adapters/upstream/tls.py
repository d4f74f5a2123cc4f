"""The TLS context for an upstream, made anew when one of its files changes on disk."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.core.config import UpstreamTls

log = logging.getLogger(__name__)


class ClientTls:
    """Calling it gives the context to connect with. Unusable changes leave the last good ones in force."""

    __slots__ = ("_context", "_settings", "_stamp")

    def __init__(self, settings: UpstreamTls) -> None:
        self._settings = settings
        self._stamp = self._files_stamp()
        self._context = make_context(settings)

    def __call__(self) -> ssl.SSLContext:
        """The context in force; looks at the files first, which costs about 2 µs each."""
        stamp = self._files_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = make_context(self._settings)
            except (OSError, ValueError) as error:
                log.warning("changed TLS files cannot be used, keeping the last good ones: %s", error)
        return self._context

    def _files_stamp(self) -> tuple[tuple[int, int] | None, ...]:
        settings = self._settings
        return tuple(_stamp(path) for path in (settings.ca_file, settings.cert_file, settings.key_file) if path)


def make_context(settings: UpstreamTls) -> ssl.SSLContext:
    """A client context; raises OSError (ssl.SSLError among them) when a file cannot be read or does not fit."""
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino
