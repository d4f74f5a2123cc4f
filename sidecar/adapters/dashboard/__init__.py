"""The dashboard: files for a browser, which asks the admin API for everything that it shows.

No library, no build step, nothing from elsewhere. What it may do is what its Content-Security-Policy lets it.
"""

from __future__ import annotations

from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        # A new version is seen at once, and what is the same is not sent again.
        "Cache-Control": "no-cache",
    }
)


def pages() -> dict[str, tuple[Mapping[str, str], bytes]]:
    """Every file by its path, with its header fields; the page itself is at /."""
    found: dict[str, tuple[Mapping[str, str], bytes]] = {}
    for file in files(__package__).iterdir():
        stem, dot, ending = file.name.rpartition(".")
        if stem and (media_type := TYPES.get(dot + ending)) is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            found[path] = ({"Content-Type": media_type, **HEADERS}, file.read_bytes())
    return found
