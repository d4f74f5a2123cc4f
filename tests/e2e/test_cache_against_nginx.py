"""Ranges, conditional requests and HEAD from the store, octet by octet against what nginx itself answers."""

from __future__ import annotations

import os
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.support.nginx import nginx
from tests.support.still_sidecar import still_sidecar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.messages import WireResponse
    from tests.support.nginx import Nginx
    from tests.support.still_sidecar import StillSidecar

CONTENT = b"".join(b"%07d\n" % number for number in range(1000))
MODIFIED = 1_000_000_000 - 3600
LM, EARLIER, LATER = (f"Sun, 09 Sep 2001 00:46:{second} GMT" for second in ("40", "39", "41"))
ETAG = f'"{MODIFIED:x}-{len(CONTENT):x}"'
FILES = {"/a.txt": CONTENT, "/page.html": b"<p>\xc3\xbc</p>", "/unknown": b"\x00\xff", "/empty.txt": b""}
COMPARED = ("content-type", "content-length", "content-range", "etag", "last-modified", "cache-control")
BOUNDARY = re.compile(rb"\b[0-9]{20}\b")

Seen: TypeAlias = "tuple[int, bytes, dict[str, bytes | None]]"


@asynccontextmanager
async def both(folder: Path) -> AsyncIterator[tuple[Nginx, StillSidecar]]:
    """nginx, and a sidecar that has stored all its files."""
    async with nginx(folder, "expires 1h;") as origin:
        for name, content in FILES.items():
            file = origin.files / name[1:]
            file.write_bytes(content)
            os.utime(file, (MODIFIED, MODIFIED))
        async with still_sidecar(origin.url, upstream={"cache": {}}) as sidecar:
            for name, content in FILES.items():
                assert (await sidecar.get(name)).body == content
            yield origin, sidecar


def request(line: str) -> tuple[bytes, str]:
    """`METHOD target|field line|…` in octets, and the method."""
    start, *fields = line.format(etag=ETAG, lm=LM, earlier=EARLIER, later=LATER).split("|")
    head = "\r\n".join([f"{start} HTTP/1.1", "Host: localhost", *fields])
    return head.encode("latin-1") + b"\r\n\r\n", start.partition(" ")[0]


def compared(response: WireResponse) -> Seen:
    """What has to be equal; a multipart boundary is anybody's choice (RFC 2046 §5.1.1)."""
    fields = {name: response.get(name) for name in COMPARED}
    kind = fields["content-type"]
    if kind is None or not kind.startswith(b"multipart/byteranges"):
        return response.status, response.body, fields
    fields["content-type"] = BOUNDARY.sub(b"boundary", kind)
    return response.status, BOUNDARY.sub(b"boundary", response.body), fields


SAME = """
GET /a.txt
HEAD /a.txt
GET /page.html
HEAD /page.html
GET /unknown
GET /empty.txt
HEAD /empty.txt
GET /a.txt|Range: bytes=0-0
GET /a.txt|Range: bytes=0-99
GET /a.txt|Range: bytes=100-
GET /a.txt|Range: bytes=-1
GET /a.txt|Range: bytes=-100
GET /a.txt|Range: bytes=-8000
GET /a.txt|Range: bytes=-9000
GET /a.txt|Range: bytes=7999-
GET /a.txt|Range: bytes=7999-7999
GET /a.txt|Range: bytes=7999-9000
GET /a.txt|Range: bytes=0-
GET /a.txt|Range: bytes=0-7999
GET /a.txt|Range: bytes=0-999999999999999999
GET /a.txt|Range: bytes= 0-1
GET /a.txt|Range: bytes =0-1
GET /a.txt|Range: bytes=
GET /a.txt|Range: lines=0-1
GET /a.txt|Range: BYTES=0-1
GET /a.txt|Range: bytes=0-1,4-5
GET /a.txt|Range: bytes=0-1, 4-5 , -2
GET /a.txt|Range: bytes=4-5,0-1
GET /a.txt|Range: bytes=0-1,0-1
GET /a.txt|Range: bytes=0-10,5-20
GET /a.txt|Range: bytes=0-1,9000-
GET /a.txt|Range: bytes=0-7000,0-7000
GET /page.html|Range: bytes=0-1,4-5
GET /page.html|Range: bytes=4-4
GET /unknown|Range: bytes=1-
GET /unknown|Range: bytes=0-0,1-1
GET /empty.txt|Range: bytes=0-
GET /empty.txt|Range: bytes=0-0
GET /empty.txt|Range: bytes=-1
GET /a.txt|If-None-Match: {etag}
GET /a.txt|If-None-Match: W/{etag}
GET /a.txt|If-None-Match: "x"
GET /a.txt|If-None-Match: "x", {etag}
GET /a.txt|If-None-Match: *
GET /a.txt|If-None-Match: garbage
GET /a.txt|If-None-Match: "x"|If-Modified-Since: {lm}
HEAD /a.txt|If-None-Match: {etag}
GET /a.txt|If-Modified-Since: {lm}
GET /a.txt|If-Modified-Since: {earlier}
GET /a.txt|If-Modified-Since: {later}
GET /a.txt|If-Modified-Since: Sunday, 09-Sep-01 00:46:40 GMT
GET /a.txt|If-Modified-Since: Sun Sep  9 00:46:40 2001
GET /a.txt|If-Modified-Since: yesterday
GET /a.txt|If-Modified-Since: 0
HEAD /a.txt|If-Modified-Since: {lm}
GET /a.txt|If-None-Match: {etag}|Range: bytes=0-1
GET /a.txt|If-None-Match: "x"|Range: bytes=0-1
GET /a.txt|If-Modified-Since: {lm}|Range: bytes=0-1
GET /a.txt|If-Modified-Since: {earlier}|Range: bytes=0-1
GET /a.txt|If-Range: {etag}
GET /a.txt|If-Range: {etag}|Range: bytes=0-1
GET /a.txt|If-Range: {etag}|Range: bytes=0-1,4-5
GET /a.txt|If-Range: W/{etag}|Range: bytes=0-1
GET /a.txt|If-Range: "x"|Range: bytes=0-1
GET /a.txt|If-Range: "x"|Range: bytes=9000-
GET /a.txt|If-Range: {lm}|Range: bytes=0-1
GET /a.txt|If-Range: {earlier}|Range: bytes=0-1
GET /a.txt|If-Range: {later}|Range: bytes=0-1
GET /a.txt|If-Range: garbage|Range: bytes=0-1
GET /empty.txt|If-Modified-Since: {lm}
""".strip().splitlines()


async def test_what_is_answered_from_the_store_is_what_nginx_answers(tmp_path: Path) -> None:
    async with both(tmp_path) as (origin, sidecar):
        for line in SAME:
            data, method = request(line)
            ours = await sidecar.exchange(data, method)
            assert compared(ours) == compared(await origin.exchange(data, method)), line
            assert ours.get("cache-status") == b"sidecar; hit; ttl=3600", line


ASKED_OF_THE_ORIGIN = """
GET /a.txt|If-Match: {etag}
GET /a.txt|If-Match: "x"
GET /a.txt|If-Match: *
GET /a.txt|If-Match: {etag}|Range: bytes=0-1
GET /a.txt|If-Unmodified-Since: {lm}
GET /a.txt|If-Unmodified-Since: {earlier}
HEAD /a.txt|If-Match: "x"
GET /none.txt
HEAD /none.txt
GET /none.txt|Range: bytes=0-1
GET /none.txt|If-None-Match: *
""".strip().splitlines()


async def test_what_only_the_origin_can_judge_is_asked_of_it(tmp_path: Path) -> None:
    async with both(tmp_path) as (origin, sidecar):
        for line in ASKED_OF_THE_ORIGIN:
            data, method = request(line)
            ours = await sidecar.exchange(data, method)
            assert compared(ours) == compared(await origin.exchange(data, method)), line
            assert (ours.get("cache-status") or b"").startswith(b"sidecar; fwd="), line


@dataclass(frozen=True, slots=True)
class Differs:
    """What nginx answers and what we do, on purpose, and by which rule."""

    line: str
    theirs: int
    ours: int
    rule: str
    body: bytes = CONTENT
    content_range: bytes | None = None


TOO_FAR: dict[str, Any] = {"theirs": 416, "ours": 416, "body": b"", "content_range": b"bytes */8000"}
NO_PAGE = "RFC 9110 §15.5.17: the size is all there is to say; nginx adds a page of its own and drops the validators"
IGNORED = "RFC 9110 §14.2: a Range that is not well-formed is ignored"
DIFFERENT = [
    Differs(
        'GET /a.txt|If-None-Match: "x"|If-None-Match: {etag}', 400, 304,
        "RFC 9110 §5.3: a list may come in several lines", b"",
    ),
    Differs("GET /a.txt|Range: bytes=8000-", rule=NO_PAGE, **TOO_FAR),
    Differs("GET /a.txt|Range: bytes=8000-9000", rule=NO_PAGE, **TOO_FAR),
    Differs("GET /a.txt|Range: bytes=-0", rule=NO_PAGE, **TOO_FAR),
    Differs("GET /a.txt|Range: bytes=9000-,8000-", rule=NO_PAGE, **TOO_FAR),
    Differs("GET /a.txt|If-Range: {etag}|Range: bytes=9000-", rule=NO_PAGE, **TOO_FAR),
    Differs("GET /a.txt|Range: bytes=5-4", 416, 200, IGNORED),
    Differs("GET /a.txt|Range: bytes=abc", 416, 200, IGNORED),
    Differs("GET /a.txt|Range: bytes=1", 416, 200, IGNORED),
    Differs("GET /a.txt|Range: bytes=--1", 416, 200, IGNORED),
    Differs("GET /a.txt|Range: bytes=1-2-3", 416, 200, IGNORED),
    Differs("GET /a.txt|Range: bytes=0-1,x", 416, 200, IGNORED),
    Differs("GET /a.txt|Range: bytes=99999999999999999999-", 416, 200, "RFC 9110 §14.2: as if it were not understood"),
    Differs(
        "GET /a.txt|Range: bytes=0-1,,", 416, 206, "RFC 9110 §5.6.1: empty members of a list count for nothing",
        b"00", b"bytes 0-1/8000",
    ),
    Differs("HEAD /a.txt|Range: bytes=0-9", 206, 200, "RFC 9110 §14.2: Range is defined for GET only", b""),
    Differs("HEAD /a.txt|Range: bytes=9000-", 416, 200, "RFC 9110 §14.2: Range is defined for GET only", b""),
    Differs(
        "GET /a.txt|If-None-Match: {etag}|If-Modified-Since: {earlier}", 200, 304,
        "RFC 9110 §13.1.3: If-Modified-Since is ignored beside If-None-Match", b"",
    ),
]  # fmt: skip


async def test_where_we_differ_from_nginx_on_purpose(tmp_path: Path) -> None:
    async with both(tmp_path) as (origin, sidecar):
        for case in DIFFERENT:
            data, method = request(case.line)
            ours, theirs = await sidecar.exchange(data, method), await origin.exchange(data, method)
            assert (theirs.status, ours.status) == (case.theirs, case.ours), case
            assert (ours.body, ours.get("content-range")) == (case.body, case.content_range), case
            assert (ours.get("etag"), ours.get("last-modified")) == (ETAG.encode(), LM.encode()), case


def test_the_table_has_forty_requests_and_more() -> None:
    assert len(SAME) + len(ASKED_OF_THE_ORIGIN) + len(DIFFERENT) >= 90


@pytest.mark.parametrize("path", ["/a.txt", "/page.html"])
async def test_a_stale_answer_is_confirmed_by_nginx(tmp_path: Path, path: str) -> None:
    async with both(tmp_path) as (_, sidecar):
        sidecar.clock.advance(7200)
        confirmed = await sidecar.get(path)
        assert (confirmed.status, confirmed.body) == (200, FILES[path])
        assert confirmed.get("cache-status") == b"sidecar; fwd=stale; fwd-status=304; stored"
        part = await sidecar.get(path, "Range: bytes=1-3")
        assert (part.status, part.body) == (206, FILES[path][1:4])
        assert (part.get("cache-status") or b"").startswith(b"sidecar; hit;")
