"""An origin whose every connection follows a script, and that remembers every byte it was sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from tests.support.messages import WireRequest, take_head, take_request, take_requests
from tests.support.wire import Ending, Wire, eventually, turns

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


class Do(Enum):
    """A step of a script that sends nothing."""

    READ = "wait for one whole request"
    READ_HEAD = "wait for a request's head"
    READ_MORE = "wait for any bytes that no step has asked for"
    GATE = "wait until the test opens the gate"
    STALL = "do nothing until the peer leaves, then leave too"
    CLOSE = "close; nothing of what was sent is lost"
    HALF_CLOSE = "send FIN and go on listening"
    RESET = "close with RST"
    PAUSE = "stop reading"
    RESUME = "read again"
    AGAIN = "start the script over on this connection"


@dataclass(frozen=True, slots=True)
class Slowly:
    """Send the bytes one by one, `every` seconds apart."""

    data: bytes
    every: float = 0.02


@dataclass(frozen=True, slots=True)
class Endlessly:
    """Send the same bytes over and over until the peer leaves."""

    data: bytes


Step: TypeAlias = bytes | Do | Slowly | Endlessly
Script: TypeAlias = tuple[Step, ...]

READ, READ_HEAD, READ_MORE, GATE, STALL = Do.READ, Do.READ_HEAD, Do.READ_MORE, Do.GATE, Do.STALL
CLOSE, HALF_CLOSE, RESET, PAUSE, RESUME, AGAIN = Do.CLOSE, Do.HALF_CLOSE, Do.RESET, Do.PAUSE, Do.RESUME, Do.AGAIN

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WELL_BEHAVED: Script = (READ, OK, AGAIN)


class OriginConnection(Wire):
    """One connection of the sidecar to the origin."""

    def __init__(self, origin: RawOrigin) -> None:
        super().__init__()
        self._origin = origin
        self._read = 0
        self.sent = 0
        """Octets of endless steps that left for the kernel, within one step."""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        script = self._origin.next_script(self)
        self._task = asyncio.get_running_loop().create_task(self._follow(script))

    @property
    def requests(self) -> list[WireRequest]:
        """The whole requests in what was received."""
        return take_requests(bytes(self.received))[0]

    @property
    def rest(self) -> bytes:
        """What was received after the last whole request."""
        return take_requests(bytes(self.received))[1]

    @property
    def aborted(self) -> bool:
        """The peer left in the middle of a request."""
        return self.ended is not None and self.rest != b""

    async def _follow(self, script: Script) -> None:
        at = 0
        while at < len(script):
            step = script[at]
            at = 0 if step is AGAIN else at + 1
            if not await self._do(step):
                return

    async def _do(self, step: Step) -> bool:
        """Do one step; False when the connection is over."""
        if isinstance(step, bytes):
            await self.send(step)
        elif isinstance(step, Slowly):
            await self._send_slowly(step)
        elif isinstance(step, Endlessly):
            await self._send_endlessly(step)
        else:
            await self._act(step)
        return not self.transport.is_closing() and not (step is AGAIN and self.ended)

    async def _send_slowly(self, step: Slowly) -> None:
        for at in range(len(step.data)):
            if self.ended or self.transport.is_closing():
                return
            await self.send(step.data[at : at + 1])
            await asyncio.sleep(step.every)

    async def _send_endlessly(self, step: Endlessly) -> None:
        while not self.ended and not self.transport.is_closing():
            self.transport.write(step.data)
            self.sent += len(step.data)
            await turns(1)
            await eventually(lambda: self.transport.is_closing() or self._room_for(step.data), within=60)

    def _room_for(self, data: bytes) -> bool:
        return self.transport.get_write_buffer_size() <= len(data)

    async def _act(self, step: Do) -> None:
        if step is READ:
            await self._take(lambda data: taken[1] if (taken := take_request(data)) else 0)
        elif step is READ_HEAD:
            await self._take(lambda data: head[2] if (head := take_head(data)) else 0)
        elif step is READ_MORE:
            await self._take(len)
        elif step is GATE:
            await self._origin.gate.wait()
        elif step is STALL:
            await self.until_gone()
            self.close()
        elif step is PAUSE:
            self.pause()
        elif step is RESUME:
            self.resume()
        else:
            self._leave(step)

    async def until_gone(self) -> None:
        while not self.ended:
            self._news.clear()
            await self._news.wait()

    async def _take(self, measure: Callable[[bytes], int]) -> None:
        """Wait until `measure` finds something whole in what was not taken yet, and take it."""
        while not (size := measure(bytes(self.received[self._read :]))):
            if self.ended:
                self.close()
                return
            self._news.clear()
            await self._news.wait()
        self._read += size

    def _leave(self, step: Do) -> None:
        if step is CLOSE:
            self.close()
        elif step is HALF_CLOSE:
            self.half_close()
        elif step is RESET:
            self.reset()

    async def shut(self) -> None:
        """End the script and the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.transport.abort()


class RawOrigin:
    """Listens on a free port; connection n follows script n, and the last script is everybody else's."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts or (WELL_BEHAVED,)
        self.connections: list[OriginConnection] = []
        self.gate = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.host = ""
        self.port = 0
        self.unix_path = ""

    async def start(self, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: OriginConnection(self), host, port, ssl=tls, backlog=4096)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]

    async def start_unix(self, path: str) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: OriginConnection(self), path)
        self.unix_path = path

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            await connection.shut()
        await turns(2)

    def next_script(self, connection: OriginConnection) -> Script:
        self.connections.append(connection)
        return self._scripts[min(len(self.connections), len(self._scripts)) - 1]

    def then(self, *scripts: Script) -> None:
        """From the next connection on, follow these scripts instead."""
        kept = self._scripts[: len(self.connections)]
        kept += (self._scripts[-1],) * (len(self.connections) - len(kept))
        self._scripts = (*kept, *scripts)

    @property
    def url(self) -> str:
        if self.unix_path:
            return f"unix:{self.unix_path}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def requests(self) -> list[WireRequest]:
        """Every whole request, connection by connection."""
        return [request for connection in self.connections for request in connection.requests]

    @property
    def lines(self) -> list[str]:
        """`METHOD target` of every whole request."""
        return [request.line for request in self.requests]

    @property
    def request(self) -> WireRequest:
        """The only request."""
        (request,) = self.requests
        return request

    async def until(self, ready: Callable[[RawOrigin], object]) -> None:
        """Wait until `ready(self)`."""
        await eventually(lambda: ready(self))

    async def ended(self, number: int = 0) -> Ending:
        """Wait until the sidecar has left connection `number`; how it left."""
        await self.until(lambda origin: len(origin.connections) > number and origin.connections[number].ended)
        ending = self.connections[number].ended
        assert ending is not None
        return ending
