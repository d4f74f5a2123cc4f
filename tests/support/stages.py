"""What stands around one stage: a clock that moves when told, a body that ends when told, a handler with a script."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.core.http.heads import Headers, RequestHead, ResponseHead
from sidecar.pipeline.message import Body, Request, Response

if TYPE_CHECKING:
    from sidecar.pipeline.message import End
    from sidecar.pipeline.record import ExchangeRecord

WALL = 784_111_777.0


class ManualClock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now


class ToldBody(Body):
    """Passes pieces and ends as it is told; `released` is how often its source was freed."""

    __slots__ = ("released",)

    def __init__(self, length: int | None = None) -> None:
        super().__init__(length)
        self.released = 0

    def pass_on(self, piece: bytes) -> None:
        self._pass(piece)

    def end_with(self, end: End) -> None:
        self._finish(end)

    def _release(self, end: End) -> None:  # noqa: ARG002 - only that it happened counts
        self.released += 1


class FakeSink:
    """Remembers what it got, and is full when the test says so."""

    def __init__(self, *, full_after: int = 1_000) -> None:
        self.got: list[bytes | str] = []
        self.drained: asyncio.Future[None] | None = None
        self._full_after = full_after

    def write(self, piece: bytes) -> None:
        assert self.drained is None
        self.got.append(piece)
        if len([one for one in self.got if isinstance(one, bytes)]) % self._full_after == 0:
            self.drained = asyncio.get_running_loop().create_future()

    def flush(self) -> None:
        self.got.append("flush")

    def drain(self) -> None:
        """There is room again."""
        full, self.drained = self.drained, None
        assert full is not None
        full.set_result(None)


class Records:
    """An access log that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[ExchangeRecord] = []

    def __call__(self, record: ExchangeRecord) -> None:
        self.all.append(record)


class ScriptedHandler:
    """Answers with its `outcome`, or raises it, once the `gate` is open if there is one."""

    def __init__(self, outcome: Response | BaseException | None = None) -> None:
        self.outcome = outcome
        self.asked: list[Request] = []
        self.gate: asyncio.Event | None = None

    async def handle(self, request: Request) -> Response:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome


def request(
    target: bytes = b"/items", method: str = "GET", *fields: tuple[bytes, bytes], started: float = 100.0
) -> Request:
    """A request as the server hands it in."""
    head = RequestHead(method, target, Headers([*fields]), b"localhost")
    return Request(head, b"", request_id=b"r-1", started=started, client="10.0.0.9")


def response(status: int = 200, body: bytes | Body = b"content") -> Response:
    """An answer of the upstream."""
    return Response(ResponseHead(status, Headers()), body)


def sent_fields(answer: Response) -> Headers:
    """The fields of an answer as they go out, those that the sidecar adds among them."""
    lines = answer.extra.removesuffix(b"\r\n").split(b"\r\n") if answer.extra else []
    return answer.head.headers.plus(*((name, value) for name, _, value in (line.partition(b": ") for line in lines)))
