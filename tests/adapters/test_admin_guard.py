import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestServer

from sidecar.adapters.admin import bodies
from sidecar.adapters.admin.guard import TokenFile, host_name
from tests.support.admin import Administered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp.web import Application

    Serve = Callable[[Application], Awaitable[TestServer]]


@pytest.fixture
async def serve() -> "AsyncIterator[Serve]":
    servers: list[TestServer] = []

    async def start(app: "Application") -> TestServer:
        servers.append(TestServer(app, host="127.0.0.1"))
        await servers[-1].start_server()
        return servers[-1]

    yield start
    for server in servers:
        await server.close()


async def raw(server: TestServer, *lines: str, method: str = "GET", path: str = "/v1/info", body: str = "") -> int:
    """Send exactly these header lines; the status that came back."""
    assert server.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "Connection: close", "", ""])
    writer.write(head.encode("latin-1") + body.encode())
    status_line = await reader.readline()
    # What follows is of no interest, and after a refused body the server would wait for the rest of it.
    writer.transport.abort()
    return int(status_line.split()[1])


OWN = "Host: localhost:4101"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:4101",
        "LOCALHOST.",
        "127.0.0.1:9999",
        "[::1]:4101",
        "admin.internal",
        "Pod.Name:1",
        "::1",
    ],
)
async def test_the_listener_answers_to_its_own_names(serve: "Serve", host: str) -> None:
    server = await serve(Administered().app(hosts=lambda: ("admin.internal", "pod.name", "[fd00::1]")))
    wanted = 403 if host == "::1" else 200  # an address literal without its brackets is no Host
    assert await raw(server, f"Host: {host}") == wanted


@pytest.mark.parametrize(
    "lines",
    [
        ["Host: evil.example"],
        ["Host: localhost.evil.example"],
        ["Host: 127.0.0.1.evil.example"],
        ["Host: evil.example:4101"],
        ["Host: 10.0.0.7:4101"],
        ["Host:"],
        ["Host: 0.0.0.0:4101"],
        ["Host: [::]:4101"],
        ["Host: evil.example", "X-Forwarded-Host: localhost"],
        ["Host: user@evil.example"],
    ],
    ids=",".join,
)
async def test_a_foreign_host_is_refused(serve: "Serve", lines: list[str]) -> None:
    assert await raw(await serve(Administered().app(hosts=lambda: ("0.0.0.0", "::"))), *lines) == 403


async def test_two_hosts_are_refused(serve: "Serve") -> None:
    assert await raw(await serve(Administered().app()), OWN, "Host: evil.example") in {400, 403}


async def test_a_missing_host_is_refused(serve: "Serve") -> None:
    assert await raw(await serve(Administered().app())) in {400, 403}


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Origin: http://localhost:4101"], 200),
        (["Origin: http://localhost:4101", "Sec-Fetch-Site: same-origin"], 200),
        (["Sec-Fetch-Site: none"], 200),
        (["Origin: http://evil.example"], 403),
        (["Origin: http://localhost:3000"], 403),
        (["Origin: null"], 403),
        (["Origin: localhost:4101"], 403),
        (["Origin: file://localhost:4101"], 403),
        (["Sec-Fetch-Site: cross-site"], 403),
        (["Origin: http://localhost:4101", "Sec-Fetch-Site: cross-site"], 403),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else str(value),
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_page_of_another_site_may_not_call(serve: "Serve", method: str, lines: list[str], status: int) -> None:
    path = "/v1/info" if method == "GET" else "/v1/circuits/catalog/reset"
    length = ["Content-Length: 0"] if method == "POST" else []
    assert await raw(await serve(Administered().app()), OWN, *length, *lines, method=method, path=path) == status


async def test_a_refused_call_changes_nothing(serve: "Serve") -> None:
    process = Administered()
    process.fail("catalog")
    server = await serve(process.app())
    reset = "/v1/circuits/catalog/reset"
    assert await raw(server, OWN, "Origin: http://evil.example", "Content-Length: 0", method="POST", path=reset) == 403
    assert not process.admits("catalog")


async def test_a_body_that_does_not_arrive_is_not_waited_for(serve: "Serve", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LONGEST_WAIT", 0.01)
    server = await serve(Administered().app())
    lines = [OWN, "Content-Type: application/json", "Content-Length: 100"]
    path = "/v1/circuits/catalog/override"
    assert await raw(server, *lines, method="PUT", path=path, body='{"mode":') == HTTPStatus.REQUEST_TIMEOUT


# The token


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    return file


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer s3cret", 200),
        ("bearer  s3cret ", 200),
        ("Bearer s3cre", 401),
        ("Bearer s3crett", 401),
        ("Bearer ", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
        ("Bearer \xff\xfe", 401),
        (None, 401),
    ],
)
async def test_a_token_is_needed_where_one_is_set(
    serve: "Serve", token_file: Path, authorization: str | None, status: int
) -> None:
    server = await serve(Administered().app(token_file=str(token_file)))
    lines = [] if authorization is None else [f"Authorization: {authorization}"]
    assert await raw(server, OWN, *lines) == status
    assert (
        await raw(server, OWN, "Content-Length: 0", *lines, method="POST", path="/v1/circuits/orders/reset") == status
    )


async def test_the_index_needs_no_token(serve: "Serve", token_file: Path) -> None:
    server = await serve(Administered().app(token_file=str(token_file)))
    for path in ("/", "/v1", "/v1/"):
        assert await raw(server, OWN, path=path) == HTTPStatus.OK


def test_a_changed_token_file_is_read_again(tmp_path: Path, token_file: Path) -> None:
    tokens = TokenFile(str(token_file))
    assert tokens.admits(b"s3cret")
    successor = tmp_path / "next"
    successor.write_text("other1\n")  # of the same length, and swapped in whole, as Kubernetes does
    successor.replace(token_file)
    assert not tokens.admits(b"s3cret")
    assert tokens.admits(b"other1")


@pytest.mark.parametrize("content", [None, b"", b" \n"], ids=["missing", "empty", "blank"])
def test_without_a_token_in_the_file_nobody_is_admitted(token_file: Path, content: bytes | None) -> None:
    tokens = TokenFile(str(token_file))
    assert tokens.admits(b"s3cret")
    token_file.unlink()
    if content is not None:
        token_file.write_bytes(content)
    assert not tokens.admits(b"")
    assert not tokens.admits(b"s3cret")


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost.:80", "localhost"),
        ("[::1]", "::1"),
        ("[::1]:4101", "::1"),
        ("[::1", "::1"),
        ("", ""),
        (":80", ""),
        ("a@b", "a@b"),
    ],
)
def test_the_host_of_an_authority(authority: str, name: str) -> None:
    assert host_name(authority) == name
