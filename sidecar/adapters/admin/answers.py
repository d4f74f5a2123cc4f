"""JSON answers: how every content of the API, and every problem, is written."""

from __future__ import annotations

import json
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from sidecar.pipeline.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def json_answer(content: Mapping[str, object]) -> web.Response:
    """200 with `content`."""
    return _ok(dumps(content))


def json_body(content: Mapping[str, object]) -> bytes:
    """`content` as the body of an answer, ended like a line."""
    return _ended(dumps(content))


async def json_long_answer(content: Mapping[str, object], lists: Mapping[str, Iterable[object]]) -> web.Response:
    """200 with `content` and `lists`; the loop runs while thousands of items are made and written."""
    return _ok(await json_long_text(content, lists))


def tagged(request: web.Request, answer: web.Response) -> web.Response:
    """`answer` with an entity tag (RFC 9110 §8.8.3), or 304 to who has just that already."""
    assert isinstance(answer.body, bytes)
    tag = sha256(answer.body).hexdigest()[:32]
    fields = answer.headers
    # To be asked about each time: `no-store`, which other answers have, would keep it from being there to compare.
    fields[hdrs.CACHE_CONTROL] = "no-cache"
    if any(known.value in {tag, "*"} for known in request.if_none_match or ()):
        kept = {name: value for name, value in fields.items() if not name.startswith("Content-T")}
        answer = web.Response(status=304, headers=kept)
    answer.etag = tag
    return answer


async def json_long_text(content: Mapping[str, object], lists: Mapping[str, Iterable[object]]) -> str:
    """One object with `content` and `lists`; the loop runs while it is written."""
    members = [f"{dumps(name)}:{dumps(value)}" for name, value in content.items()]
    for name, items in lists.items():
        parts = await in_slices((dumps(item) for item in items), perf_counter)
        members.append(f"{dumps(name)}:[{','.join(parts)}]")
    return f"{{{','.join(members)}}}"


def dumps(content: object) -> str:
    """Compact JSON; refuses the numbers that JSON does not have."""
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _ended(text: str) -> bytes:
    return text.encode() + b"\n"


def _ok(text: str) -> web.Response:
    headers = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(body=_ended(text), headers=headers)
