"""What browsers are given: the dashboard's files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from aiohttp import web

from sidecar.adapters.admin.answers import tagged

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
    return tagged(request, web.Response(body=octets, headers=fields))
