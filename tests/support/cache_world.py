"""A cache stage between a client and a scripted upstream, with time that stands still."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from sidecar.core.cache.status import Forward
from sidecar.core.circuit.explanation import State
from sidecar.core.circuit.permit import Refusal
from sidecar.core.config import (
    BreakerSettings,
    CacheSettings,
    Endpoint,
    Match,
    ProxySettings,
    RouteConfig,
    UpstreamConfig,
)
from sidecar.core.http.date import format_http_date
from sidecar.core.http.forwarding import end_to_end
from sidecar.core.http.heads import Headers, RequestHead, ResponseHead
from sidecar.pipeline.cache.route import CacheParts, cached_route
from sidecar.pipeline.cache.stage import CacheStage
from sidecar.pipeline.errors import CircuitOpen, ProxyError
from sidecar.pipeline.message import Body, BodyEnd, Request, Response
from sidecar.pipeline.source import Source
from sidecar.pipeline.stats import RouteStats
from tests.support.fake_store import FakeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from sidecar.pipeline.message import End

START = 1_000_000_000.0
"""Wall time at which every world begins: Sun, 09 Sep 2001 01:46:40 GMT."""
FORWARDS = set(Forward)

Fields: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]]"
Piece: TypeAlias = "bytes | asyncio.Event | ProxyError"


class WorldClock:
    """Moves when told; the wall clock may be set apart from the monotonic one."""

    def __init__(self) -> None:
        self.now = 5_000.0
        self.wall_offset = START - self.now

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.wall_offset

    def date(self, seconds: float = 0.0) -> str:
        """The HTTP-date of `seconds` from now."""
        return format_http_date(self.wall() + seconds).decode()


class ScriptedBody(Body):
    """Gives its pieces one by one; an event among them is waited for, an error raised."""

    __slots__ = ("ends", "pieces", "reads")

    def __init__(self, pieces: list[Piece], length: int | None) -> None:
        super().__init__(length)
        self.pieces = list(pieces)
        self.ends: list[End] = []
        self.reads = 0
        self.on_end(self.ends.append)

    async def read(self) -> bytes:
        while self.pieces and isinstance(self.pieces[0], asyncio.Event):
            await self.pieces[0].wait()
            self.pieces.pop(0)
        if self._end is not None:
            return b""
        if not self.pieces:
            self._finish(BodyEnd.COMPLETE)
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, ProxyError):
            self._finish(piece)
            raise piece
        assert isinstance(piece, bytes)
        self.reads += 1
        return self._pass(piece)


@dataclass
class Reply:
    """What the upstream answers. Header fields as text; `pieces` make a body that arrives bit by bit."""

    status: int = 200
    fields: Fields = ()
    body: bytes = b"content"
    pieces: list[Piece] | None = None
    length: int | None = None
    error: ProxyError | None = None
    gate: asyncio.Event | None = None
    source: Source = Source.UPSTREAM
    dated: bool = True


@dataclass
class Origin:
    """The inner handler: a circuit that may refuse, and an upstream that gives its replies in turn, the last again."""

    clock: WorldClock
    replies: list[Reply | Callable[[Request], Reply]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    bodies: list[ScriptedBody] = field(default_factory=list)
    cancelled: int = 0
    open: bool = False
    is_probing: bool = False

    def probing(self, now: float) -> bool:  # noqa: ARG002 - scripted
        return self.is_probing

    def peek(self, now: float, *, safe: bool) -> Refusal | None:  # noqa: ARG002 - scripted
        return Refusal(State.OPEN, "the circuit is open", 3) if self.open else None

    async def handle(self, request: Request) -> Response:
        if self.open:
            raise CircuitOpen("the circuit is open", retry_after=3.0)
        self.requests.append(request)
        made = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        reply = made if isinstance(made, Reply) else made(request)
        if reply.gate is not None:
            try:
                await reply.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if reply.error is not None:
            raise reply.error
        return self._response(reply, request)

    def _response(self, reply: Reply, request: Request) -> Response:
        body: bytes | Body = reply.body
        if reply.status in (204, 304) or request.head.method == "HEAD":
            body = b""
        elif reply.pieces is not None:
            body = ScriptedBody(reply.pieces, reply.length)
            self.bodies.append(body)
        fields = list(texts(reply.fields))
        names = {name.lower() for name, _ in fields}
        if reply.dated and b"date" not in names:
            fields.append((b"Date", self.clock.date().encode()))
        if b"content-length" not in names and reply.pieces is None and reply.status not in (204, 304):
            fields.append((b"Content-Length", b"%d" % len(reply.body)))
        head = ResponseHead(reply.status, end_to_end(Headers(fields)), b"Reason")
        return Response(head, body, source=reply.source)


def texts(fields: Fields) -> list[tuple[bytes, bytes]]:
    pairs = fields.items() if hasattr(fields, "items") else fields
    return [(name.encode(), value.encode("latin-1")) for name, value in pairs]


@dataclass
class Answer:
    """What the client got."""

    status: int
    headers: Headers
    body: bytes
    source: Source
    response: Response
    prepared_matches: bool = True

    def __getitem__(self, name: str) -> str | None:
        value = self.headers.get(name.lower().encode())
        return None if value is None else value.decode("latin-1")

    @property
    def cache_status(self) -> str:
        return self["Cache-Status"] or ""

    @property
    def age(self) -> int | None:
        return None if self["Age"] is None else int(self["Age"] or "")

    @property
    def hit(self) -> bool:
        return "; hit" in self.cache_status

    @property
    def word(self) -> str:
        """`hit`, or why it was forwarded."""
        if self.hit:
            return "hit"
        found = [part.strip()[4:] for part in self.cache_status.split(";") if part.strip().startswith("fwd=")]
        assert len(found) == 1
        assert found[0] in FORWARDS
        return found[0]


class World:
    """One route's cache stage with everything around it faked."""

    def __init__(
        self,
        *replies: Reply | Callable[[Request], Reply],
        proxy: ProxySettings | None = None,
        store: FakeStore | None = None,
        **cache: Any,
    ) -> None:
        self.clock = WorldClock()
        self.origin = Origin(self.clock, list(replies))
        self.store = store or FakeStore()
        self.stats = RouteStats("catalog")
        self.tasks: list[asyncio.Task[None]] = []
        self.route = route_config(**cache)
        route = cached_route(self.route, proxy or ProxySettings())
        cache_parts = CacheParts(self.store, self.clock, self.spawn)
        self.stage = CacheStage(self.origin, route, self.origin, self.stats, cache_parts)

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.append(task)
        return task

    async def settle(self) -> None:
        """Wait for everything that goes on in the background."""
        while pending := [task for task in self.tasks if not task.done()]:
            await asyncio.wait(pending)

    def request(self, target: str = "/a", fields: Fields = (), *, method: str = "GET", body: bytes = b"") -> Request:
        pairs = texts(fields)
        authority = next((value for name, value in pairs if name.lower() == b"host"), b"client.example")
        head = RequestHead(method, target.encode(), Headers(pairs), authority)
        request = Request(head, body, request_id=b"id", started=self.clock.now)
        request.rewrite = self.route.rewrite
        return request

    async def send(self, request: Request) -> Response:
        """As the server does it."""
        return await self.stage.handle(request)

    async def ask(self, target: str = "/a", fields: Fields = (), *, method: str = "GET", body: bytes = b"") -> Answer:
        """The whole exchange; raises ProxyError when there is no answer."""
        return await receive(await self.send(self.request(target, fields, method=method, body=body)))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let others run until `condition` holds."""
        await until(condition)

    @property
    def asked(self) -> int:
        """How many requests reached the upstream."""
        return len(self.origin.requests)

    def last(self, name: str) -> bytes | None:
        """A field of the last request that reached the upstream."""
        return self.origin.requests[-1].head.headers.get(name.encode())


async def receive(response: Response) -> Answer:
    """Read all of `response`, and check what the server relies on."""
    body = response.body if isinstance(response.body, bytes) else await read_all(response.body)
    lines = [line.split(b": ", 1) for line in response.extra.split(b"\r\n")[:-1]]
    headers = Headers([*response.head.headers, *((name, value) for name, value in lines)])
    if response.prepared is not None:
        status_line, *fields = response.prepared.split(b"\r\n")[:-1]
        assert status_line == b"HTTP/1.1 %d %b" % (response.head.status, response.head.reason)
        assert [tuple(line.split(b": ", 1)) for line in fields] == list(response.head.headers)
    return Answer(response.head.status, headers, body, response.source, response)


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until `condition` holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition may be anything; nothing signals it
            await asyncio.sleep(0)


async def read_all(body: Body) -> bytes:
    pieces = []
    while piece := await body.read():
        pieces.append(piece)
    return b"".join(pieces)


def route_config(**cache: Any) -> RouteConfig:
    upstream = UpstreamConfig("catalog", (Endpoint("http", "catalog.svc", 8080),))
    changes = {name: cache.pop(name) for name in ("rewrite",) if name in cache}
    return RouteConfig(
        name="catalog",
        match=Match(prefix="/"),
        upstream=cache.pop("upstream", upstream),
        breaker=BreakerSettings(),
        cache=CacheSettings(**cache),
        **changes,
    )
