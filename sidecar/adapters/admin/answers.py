"""JSON answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from sidecar.pipeline.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def json_answer(content: Mapping[str, object]) -> web.Response:
    """200 with `content`."""
    return _answer(dumps(content))


async def json_long_answer(content: Mapping[str, object], lists: Mapping[str, Iterable[object]]) -> web.Response:
    """200 with `content` and `lists`; the loop runs while thousands of items are made and written."""
    members = [f"{dumps(name)}:{dumps(value)}" for name, value in content.items()]
    for name, items in lists.items():
        parts = await in_slices(dumps(item) for item in items)
        members.append(f"{dumps(name)}:[{','.join(parts)}]")
    return _answer(f"{{{','.join(members)}}}")


def dumps(content: object) -> str:
    """Compact JSON; refuses the numbers that JSON does not have."""
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _answer(text: str) -> web.Response:
    headers = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(body=text.encode() + b"\n", headers=headers)
