"""An origin that authenticates connections, not requests, as NTLM and Negotiate do (RFC 4559), on raw sockets.

Who has shaken hands on a connection is who asks, for every further request on it, credentials or not.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.support.caching_origin import message
from tests.support.messages import WireRequest, take_request
from tests.support.wire import Wire, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.client import RawClient
    from tests.support.messages import WireResponse

SHAREABLE = "Cache-Control: public, s-maxage=60, stale-if-error=600"
CHALLENGES = ("WWW-Authenticate: Negotiate", "WWW-Authenticate: NTLM")
TYPE_1, TYPE_3 = "TlRMTVNTUAAB", "TlRMTVNTUAAD"
"""How the first and the last message of an NTLM handshake begin, in base64."""


class AuthenticatingWire(Wire):
    """One connection: `user` is who has authenticated it, `pending` the challenge that waits for its answer."""

    def __init__(self, origin: AuthenticatingOrigin) -> None:
        super().__init__()
        self.number = len(origin.wires)
        self.requests: list[WireRequest] = []
        self.user = ""
        self.pending = ""
        self._origin = origin
        origin.wires.append(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        while (taken := take_request(bytes(self.received))) is not None:
            del self.received[: taken[1]]
            self.requests.append(taken[0])
            self._origin.serve(self, taken[0])

    def eof_received(self) -> bool:
        super().eof_received()
        return False

    def authenticate(self, request: WireRequest) -> list[str]:
        """Take what credentials `request` has; the fields of the answer that belong to the handshake."""
        scheme, _, token = (request.get("authorization") or b"").decode().partition(" ")
        if not token:
            return []
        if token.startswith(TYPE_1):
            self.user, self.pending = "", f"challenge{self.number}x{len(self.requests)}"
            return [f"WWW-Authenticate: {scheme} {self.pending}=="]
        if token.startswith(TYPE_3):
            kind, user, answered = token.split("/")
            assert kind == TYPE_3
            self.user = user if self.pending and answered == self.pending else ""
            self.pending = ""
            return []
        if scheme.lower() == "negotiate":
            self.user = token.partition("/")[2]
            return ["WWW-Authenticate: Negotiate bXV0dWFs"]
        return []

    @property
    def lines(self) -> list[str]:
        return [request.line for request in self.requests]


class AuthenticatingOrigin:
    """Listens on a free port of loopback. /open… needs no user; all else is a user's own.

    `answer` makes the octets from (connection, fields of the handshake, request), None where there is no answer, and
    `shape` makes others of them. Both may be replaced at any time.
    """

    def __init__(self) -> None:
        self.wires: list[AuthenticatingWire] = []
        self.url = ""
        self.answer: Callable[[AuthenticatingWire, list[str], WireRequest], bytes | None] = self.usual
        self.shape: Callable[[bytes], bytes] = bytes

    def usual(self, wire: AuthenticatingWire, fields: list[str], request: WireRequest) -> bytes:
        """A 401 with content where a user is needed, else what is that user's, for everyone to store."""
        open_to_all = request.target.startswith(b"/open")
        if not (wire.user or open_to_all):
            data = message("who are you?", *(fields or CHALLENGES), SHAREABLE, 'ETag: "who"', status=401)
        else:
            content = f"{wire.user or 'anyone'} {request.method} {len(request.body)}"
            data = message(content, *fields, SHAREABLE, f'ETag: "{wire.user}"')
        data = self.shape(data)
        return data[: data.index(b"\r\n\r\n") + 4] if request.method == "HEAD" else data

    def serve(self, wire: AuthenticatingWire, request: WireRequest) -> None:
        fields = wire.authenticate(request)
        data = self.answer(wire, fields, request)
        if data is not None and not wire.transport.is_closing():
            wire.transport.write(data)

    @property
    def lines(self) -> list[str]:
        """`METHOD target` of every request, connection by connection."""
        return [line for wire in self.wires for line in wire.lines]

    @property
    def standing(self) -> list[AuthenticatingWire]:
        """The connections that have not ended."""
        return [wire for wire in self.wires if not wire.ended]

    def of(self, user: str) -> list[AuthenticatingWire]:
        """The connections that `user` has authenticated."""
        return [wire for wire in self.wires if wire.user == user]


@asynccontextmanager
async def authenticating_origin() -> AsyncIterator[AuthenticatingOrigin]:
    """Start it, and end it with every connection."""
    origin = AuthenticatingOrigin()
    server = await asyncio.get_running_loop().create_server(lambda: AuthenticatingWire(origin), "127.0.0.1", 0)
    origin.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield origin
    finally:
        server.close()
        for wire in origin.wires:
            wire.transport.abort()
        await turns(2)


# What clients say


def request(target: str = "/own", *lines: str, method: str = "GET", content: bytes = b"") -> bytes:
    """A request; `content` is sent with its length."""
    head = [f"{method} {target} HTTP/1.1", "Host: a", *lines]
    if content or method == "POST":
        head.append(f"Content-Length: {len(content)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


def first_step(scheme: str = "NTLM") -> str:
    """The field that opens a handshake."""
    return f"Authorization: {scheme} {TYPE_1}AAAA=="


def last_step(challenged: WireResponse, user: str) -> str:
    """The field that answers the challenge in `challenged`."""
    scheme, _, challenge = challenged.all("www-authenticate")[0].decode().partition(" ")
    return f"Authorization: {scheme} {TYPE_3}/{user}/{challenge.rstrip('=')}"


def one_step(user: str) -> str:
    """The field that authenticates at once, as Kerberos under Negotiate does."""
    return f"Authorization: Negotiate YIIFqw/{user}"


async def log_in(client: RawClient, user: str, scheme: str = "NTLM", target: str = "/own") -> WireResponse:
    """Shake hands in two steps, after having been asked to; the answer to the last."""
    asked = await client.exchange(request(target))
    assert asked.status == 401
    assert asked.all("www-authenticate") == [b"Negotiate", b"NTLM"]
    challenged = await client.exchange(request(target, first_step(scheme)))
    assert challenged.status == 401
    assert len(challenged.all("www-authenticate")) == 1
    return await client.exchange(request(target, last_step(challenged, user)))


def whose(response: WireResponse) -> str:
    """Who the origin took the asker for; "" for nobody."""
    return response.body.decode().partition(" ")[0] if response.status == 200 else ""
