"""An origin that makes up its answer from each request, as applications do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from tests.support.messages import WireRequest, take_request
from tests.support.wire import Wire, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Answer: TypeAlias = "Callable[[WireRequest], bytes | None]"
"""The octets to send for a request; None: nothing at all."""


def message(body: bytes | str = b"ok", *lines: str, status: int = 200) -> bytes:
    """A response with a Content-Length."""
    content = body if isinstance(body, bytes) else body.encode()
    fields = "".join(f"{line}\r\n" for line in lines)
    return b"HTTP/1.1 %d Whatever\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status,
        fields.encode("latin-1"),
        len(content),
        content,
    )


class _Connection(Wire):
    def __init__(self, origin: CachingOrigin) -> None:
        super().__init__()
        self._origin = origin
        origin.wires.append(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        while (taken := take_request(bytes(self.received))) is not None:
            del self.received[: taken[1]]
            self._origin.requests.append(taken[0])
            answer = self._origin.answer(taken[0])
            if answer is not None and not self.transport.is_closing():
                self.transport.write(answer)

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class CachingOrigin:
    """Listens on a free port of loopback. `answer` may be replaced at any time."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[WireRequest] = []
        self.wires: list[_Connection] = []
        self.url = ""

    @property
    def lines(self) -> list[str]:
        """`METHOD target` of every request."""
        return [request.line for request in self.requests]

    def say(self, data: bytes) -> None:
        """Send `data` on every connection that is open."""
        for wire in self.wires:
            if not wire.transport.is_closing():
                wire.transport.write(data)

    def hang_up(self) -> None:
        """Cut every connection."""
        for wire in self.wires:
            wire.transport.abort()


@asynccontextmanager
async def caching_origin(answer: Answer) -> AsyncIterator[CachingOrigin]:
    """Start it, and end it with every connection."""
    origin = CachingOrigin(answer)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(origin), "127.0.0.1", 0, backlog=4096)
    origin.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield origin
    finally:
        server.close()
        origin.hang_up()
        await turns(2)
