"""The soak's origin: `python -m tests.benchmarks.soak_origin PORT TLS_PORT PEM`. It echoes, or breaks as asked.

The query says how. `framing`: length, chunked or close. `fault`: none, slow, truncate, reset, drop, early (an answer
before the request was read), cut (a FIN in the middle; over TLS it comes without close_notify). `size`: of the content
when the request has none. The answer's content depends on the request alone, so that whoever asked can check it. An
upgraded connection echoes `size` octets, once the client has ended its side where that is `half`-closed.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
import sys
from urllib.parse import parse_qsl, urlsplit

PIECE = 16 * 1024
EARLY_STATUS, EARLY_SIZE = 413, 5000
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


def generated(target: str, size: int) -> bytes:
    """`size` octets that only this target has."""
    block = hashlib.sha256(target.encode()).digest() * 32
    return (block * (size // len(block) + 1))[:size]


class Request:
    """A request as read from a stream."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *fields = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = line.split(" ")
        self.fields = dict(field.lower().split(": ", 1) for field in fields if field)
        self.query = dict(parse_qsl(urlsplit(self.target).query))
        self.body = body

    @property
    def content(self) -> bytes:
        return self.body or generated(self.target, int(self.query.get("size", "0")))


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    request = Request(head[:-4], b"")
    if request.query.get("fault") == "early":
        return request
    if "transfer-encoding" in request.fields:
        request.body = await read_chunks(reader)
    else:
        request.body = await reader.readexactly(int(request.fields.get("content-length", "0")))
    return request


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(pieces)


def head_of(request: Request) -> bytes:
    framing = request.query.get("framing", "length")
    lines = ["HTTP/1.1 200 OK", f"X-Target: {request.target}"]
    if "cached" in request.target:
        lines.append("Cache-Control: max-age=1")
    if framing == "length":
        lines.append(f"Content-Length: {len(request.content)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    else:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def framed(request: Request, content: bytes) -> list[bytes]:
    pieces = [content[at : at + PIECE] for at in range(0, len(content), PIECE)]
    if request.query.get("framing") == "chunked":
        return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return pieces


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def answer(request: Request, writer: asyncio.StreamWriter) -> bool:
    """Answer as asked; True when the connection stays."""
    fault = request.query.get("fault", "none")
    if fault == "drop":
        return False
    if fault == "reset":
        reset(writer)
        return False
    if fault == "early":
        content = generated(request.target, EARLY_SIZE)
        # Unannounced, the end would also meet the next request on the connection, which may not be sent twice.
        lines = [f"HTTP/1.1 {EARLY_STATUS} Early", f"X-Target: {request.target}", "Connection: close"]
        lines.append(f"Content-Length: {len(content)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + content)
        return False
    pieces = framed(request, request.content)
    writer.write(head_of(request))
    if fault == "cut":
        whole = request.query.get("framing") == "close"
        writer.writelines(pieces if whole else pieces[: len(pieces) // 2])
        await flush(writer)
        writer.transport.abort()
        return False
    if fault == "truncate":
        writer.writelines(pieces[: len(pieces) // 2])
        await writer.drain()
        reset(writer)
        return False
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        if fault == "slow":
            await asyncio.sleep(0.01)
    framing = request.query.get("framing", "length")
    if framing == "chunked":
        writer.write(b"0\r\n\r\n")
    return framing != "close"


async def flush(writer: asyncio.StreamWriter) -> None:
    """Wait until all is in the kernel."""
    writer.transport.set_write_buffer_limits(0)
    await writer.drain()


async def tunnel(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo all when the client has said all."""
    writer.write(SWITCHING)
    said = await reader.readexactly(int(request.query["size"]))
    if "half" in request.query and await reader.read():
        return
    writer.write(said)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            request = await read_request(reader)
            if "upgrade" in request.fields:
                await tunnel(request, reader, writer)
                return
            if not await answer(request, writer):
                return
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the sidecar left, as it may
    finally:
        writer.close()


async def main(port: int, tls_port: int, pem: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    secure = await asyncio.start_server(serve, "127.0.0.1", tls_port, ssl=context)
    print("listening", flush=True)
    async with server, secure:
        await asyncio.gather(server.serve_forever(), secure.serve_forever())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
