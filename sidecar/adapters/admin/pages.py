"""What browsers are given: the dashboard's files, with the validators of RFC 9110 §8.8."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import TypeAlias

from aiohttp import hdrs, web

Page: TypeAlias = tuple[Mapping[str, str], bytes]
"""Header fields and octets."""


def asks_for_html(accept: str) -> bool:
    """Whether an Accept field names HTML, and not to refuse it; browsers do, tools that take anything do not."""
    for member in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in member.split(";"))
        if media_type == "text/html":
            return not any(re.fullmatch(r"q=0(\.0{0,3})?", parameter) for parameter in parameters)
    return False


def page_answer(request: web.Request, page: Page) -> web.Response:
    """200 with `page`, or 304 to who has it already."""
    fields, octets = page
    tag = sha256(octets).hexdigest()[:32]
    if any(known.value in {tag, "*"} for known in request.if_none_match or ()):
        kept = {name: value for name, value in fields.items() if name != hdrs.CONTENT_TYPE}
        answer = web.Response(status=304, headers=kept)
    else:
        answer = web.Response(body=octets, headers=fields)
    answer.etag = tag
    return answer
