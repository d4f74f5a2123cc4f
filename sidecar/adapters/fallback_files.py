"""The files whose contents are fallbacks: read at the start and on a reload, and kept in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.core.config_key import LARGEST_CONTENT
from sidecar.pipeline.data_plane import UnusableFallback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.core.config import RouteConfig


def read_files(routes: Iterable[RouteConfig]) -> dict[str, bytes]:
    """The contents of all files that fallbacks of `routes` name, by path. Raises UnusableFallback."""
    contents: dict[str, bytes] = {}
    for route in routes:
        for fallback in route.fallback or ():
            if fallback.file is not None and fallback.file not in contents:
                contents[fallback.file] = _read(fallback.file, route.refs.get("fallback", ""))
    return contents


def _read(path: str, ref: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_CONTENT + 1)
    except OSError as error:
        raise UnusableFallback(path, f"cannot be read: {error.strerror}", ref) from error
    if len(content) > LARGEST_CONTENT:
        raise UnusableFallback(path, f"is larger than {LARGEST_CONTENT} bytes", ref)
    return content
