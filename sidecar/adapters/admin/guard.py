"""Who may call the admin API. Loopback is no authentication: any page in a browser on this machine can reach it.

So the Host must be a name of this listener (against DNS rebinding), a request that another site caused is refused
(against forged requests), and a token is asked for when one is configured.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from sidecar.adapters.admin.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp.typedefs import Middleware

    from sidecar.adapters.admin.problems import Call

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - refused here
"""Where a listener may bind, but what is nobody's name; browsers let pages reach the local machine by them."""
LONGEST_TOKEN = 4096
OPEN_PATHS = frozenset({"/", "/v1", "/v1/"})
"""What may be fetched without a token: it tells nothing about this process."""


class TokenFile:
    """A bearer token kept in a file, read again when the file changes; nobody is let in while it cannot be read."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._token = b""

    def admits(self, presented: bytes) -> bool:
        """Whether `presented` is the token, compared in constant time."""
        try:
            self._refresh()
        except OSError:
            return False
        return bool(self._token) and hmac.compare_digest(self._token, presented)

    def _refresh(self) -> None:
        stat = self._path.stat()
        identity = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if identity != self._seen:
            with self._path.open("rb") as file:
                self._token = file.read(LONGEST_TOKEN).strip()
            self._seen = identity


class Guard:
    """The checks, as a middleware. `names` gives the listener's host names beyond the loopback ones, `pages` are paths
    that need no token either.
    """

    def __init__(self, names: Callable[[], Iterable[str]], token: TokenFile | None, pages: Iterable[str] = ()) -> None:
        self._names = names
        self._token = token
        self._open_paths = OPEN_PATHS.union(pages)

    def middleware(self) -> Middleware:
        """What goes around every call."""

        @web.middleware
        async def guarded(request: web.Request, handler: Call) -> web.StreamResponse:
            self._check_host(request)
            self._check_site(request)
            self._check_token(request)
            return await handler(request)

        return guarded

    def _check_host(self, request: web.Request) -> None:
        hosts = request.headers.getall(hdrs.HOST, [])
        if len(hosts) != 1 or not self._is_own(host_name(hosts[0]), request):
            shown = ", ".join(hosts) or "none"
            detail = f"the Host is not a name of this listener: {shown}; allow it with admin.allowed_hosts"
            raise Problem(HTTPStatus.FORBIDDEN, "foreign_host", detail)

    def _is_own(self, name: str, request: web.Request) -> bool:
        if name in LOOPBACK_NAMES or name in {own.lower().strip("[]") for own in self._names()} - WILDCARDS:
            return True
        local = request.transport.get_extra_info("sockname") if request.transport is not None else None
        # The address that was connected to is an own name too; it cannot be rebound, since it is no name.
        return isinstance(local, tuple) and name == local[0]

    def _check_site(self, request: web.Request) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        if request.headers.get("Sec-Fetch-Site") == "cross-site" or (origin is not None and not _same(origin, request)):
            raise Problem(HTTPStatus.FORBIDDEN, "cross_site", "a page of another site may not call the admin API")

    def _check_token(self, request: web.Request) -> None:
        if self._token is None or request.path in self._open_paths:
            return
        scheme, _, presented = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer" or not self._token.admits(presented.strip().encode("utf-8", "surrogateescape")):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "token_needed",
                "send the token of admin.token_file as Authorization: Bearer …",
                headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="circuit-sidecar"'},
            )


def host_name(authority: str) -> str:
    """The host of a Host field, lower-case, without port, brackets and final dot."""
    name = authority.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def _same(origin: str, request: web.Request) -> bool:
    scheme, separator, authority = origin.partition("://")
    return scheme in {"http", "https"} and bool(separator) and authority == request.headers.get(hdrs.HOST)
