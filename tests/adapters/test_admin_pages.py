"""What browsers get from the admin listener, and everybody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestClient, TestServer

from sidecar.adapters.admin.pages import asks_for_html
from sidecar.adapters.dashboard import pages
from tests.support.admin import Administered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp.web import Application, Request

    Client = TestClient[Request, Application]

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with TestClient(TestServer(Administered().app(pages=pages()))) as client:
        yield client


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (FIREFOX, True),
        ("text/html", True),
        ("application/json, Text/HTML;q=0.5", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("text/html;q=0", False),
        ("text/html; q=0.000, */*", False),
        ("text/html-sandboxed", False),
    ],
)
def test_browsers_are_known_by_naming_html(accept: str, html: bool) -> None:  # noqa: FBT001 - a column
    assert asks_for_html(accept) is html


async def test_browsers_get_the_dashboard_and_others_the_list_of_calls(client: Client) -> None:
    async with client.get("/", headers={"Accept": FIREFOX}) as page:
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "<title>" in await page.text()
    async with client.get("/") as listed:
        assert (await listed.json())["calls"]
    assert page.headers["Vary"] == listed.headers["Vary"] == "Accept"


async def test_without_pages_a_browser_gets_the_list_too() -> None:
    async with (
        TestClient(TestServer(Administered().app())) as client,
        client.get("/", headers={"Accept": FIREFOX}) as listed,
    ):
        assert (await listed.json())["calls"]


async def test_every_page_says_what_it_may_do(client: Client) -> None:
    assert {"/", "/app.js", "/app.css", "/favicon.svg"} <= pages().keys()
    for path in pages():
        async with client.get(path, headers={"Accept": FIREFOX}) as page:
            assert (page.status, page.headers["Content-Security-Policy"]) == (200, CSP)
            assert page.headers["X-Content-Type-Options"] == "nosniff"
            assert page.headers["Cache-Control"] == "no-cache"


async def test_nothing_else_of_the_folder_is_served(client: Client) -> None:
    for path in ("/__init__.py", "/index.html", "/app.js/", "/../app.js/x"):
        async with client.get(path) as refused:
            assert refused.status == 404


async def test_a_page_that_a_browser_has_is_not_sent_again(client: Client) -> None:
    async with client.get("/app.js") as first:
        tag = first.headers["ETag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        async with client.get("/app.js", headers={"If-None-Match": known}) as again:
            assert (again.status, again.headers["ETag"], await again.read()) == (304, tag, b"")
            assert again.headers["Content-Security-Policy"] == CSP
    async with client.get("/app.js", headers={"If-None-Match": '"other"'}) as other:
        assert other.status == 200


async def test_pages_need_no_token_since_they_tell_nothing(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    app = Administered().app(pages=pages(), token_file=str(tmp_path / "token"))
    async with TestClient(TestServer(app)) as client:
        for path in pages():
            async with client.get(path, headers={"Accept": FIREFOX}) as page:
                assert page.status == 200
        async with client.get("/v1/traffic") as refused:
            assert refused.status == 401


async def test_pages_are_guarded_like_everything_else(client: Client) -> None:
    for lines in ({"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        async with client.get("/app.js", headers=lines) as refused:
            assert refused.status == 403
    async with client.post("/app.js") as refused:
        assert refused.status == 405
