"""The dashboard as somebody sees and uses it."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Locator, Page, Route

    from tests.ui.conftest import Look, Serve

    Screenshot = Callable[[Page, str], None]

MANY = [f"service-{number:03}" for number in range(300)]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def row(page: Page, name: str) -> Locator:
    return page.locator(f"#circuits > li:has([id='circuit-{name}'])")


def badge(page: Page, name: str) -> Locator:
    return row(page, name).locator(".badge")


def press(page: Page, name: str, button: str) -> None:
    row(page, name).get_by_role("button", name=button, exact=True).click()


# Seeing


def test_every_circuit_shows_with_its_state_and_its_numbers(look: Look, serve: Serve) -> None:
    dashboard = serve("catalog", "orders")
    page = look(dashboard)
    expect(page.get_by_role("heading", name="All 2 circuits let requests through")).to_be_visible()
    expect(page.get_by_text("catalog", exact=True)).to_have_count(1)
    expect(badge(page, "catalog")).to_have_text("closed")
    dashboard.get("/catalog/a", times=4)
    dashboard.origin.status = 503
    dashboard.get("/catalog/b", method="POST")
    shown = row(page, "catalog")
    expect(shown).to_contain_text("window: 1 of 2 failed")
    expect(shown).to_contain_text("50 % failing")
    expect(shown).to_contain_text(
        re.compile(r"clients get a stored answer 60 %, the upstream's answer 40 % \([\d.]+/s\)")
    )
    expect(row(page, "orders")).to_contain_text("no requests lately")
    expect(page.locator("#sources-legend")).to_contain_text(re.compile(r"cache[\d.]+/"))
    expect(page.locator("#cache")).to_contain_text("hit ratio60 %")
    expect(page.locator("#cache-size")).to_contain_text(re.compile(r"stored answer.* of 64 MiB"))
    expect(page.locator("#latency")).to_contain_text(re.compile(r"p50[\d.]+ ms.*p90[\d.]+ ms.*p99[\d.]+ ms"))


def test_a_trip_shows_within_a_second_with_what_is_broken_since_when_why_and_until_when(
    look: Look, serve: Serve, screenshot: Screenshot
) -> None:
    dashboard = serve("catalog", "orders")
    page = look(dashboard)
    expect(badge(page, "orders")).to_have_text("closed")
    dashboard.origin.status = 503
    dashboard.get("/orders/a", times=3, method="POST")
    expect(badge(page, "orders")).to_have_text("open", timeout=1000)
    expect(page.get_by_role("heading", name="1 of 2 circuits is not closed")).to_be_visible(timeout=1000)
    expect(page.get_by_text(re.compile(r"^orders: open for \d+ s$"))).to_be_visible()
    shown = row(page, "orders")
    expect(shown).to_contain_text("3 consecutive failures, failure_threshold is 3")
    expect(shown).to_contain_text(re.compile(r"next probe in \d+ s"))
    assert dashboard.get("/orders/a") == 503
    expect(shown).to_contain_text("503 from the circuit 25 %")
    expect(page.locator(".name").first).to_have_text("orders")
    event = page.locator("#events > li").first
    expect(event).to_contain_text("circuit orders: closed → open")
    event.get_by_text("3 requests that led to it").click()
    expect(event.get_by_role("row")).to_have_count(4)
    expect(event.get_by_role("row").last).to_contain_text("POST /orders/a503")
    screenshot(page, "tripped")


def test_the_details_of_a_circuit_tell_what_opened_it_and_where_that_is_configured(look: Look, serve: Serve) -> None:
    dashboard = serve("catalog")
    dashboard.origin.status = 503
    dashboard.get("/catalog/a", times=3, method="POST")
    page = look(dashboard)
    name = page.get_by_role("button", name="catalog", exact=True)
    expect(name).to_have_attribute("aria-expanded", "false")
    name.click()
    expect(name).to_have_attribute("aria-expanded", "true")
    details = row(page, "catalog").locator(".details")
    expect(details).to_contain_text("Why it opened3 consecutive failures, failure_threshold is 3 at")
    expect(details).to_contain_text("sidecar.yaml:1")
    expect(details.get_by_role("row")).to_have_count(4)
    expect(details.locator(".events > li")).to_have_count(1)


def test_three_hundred_circuits_are_shortened_searched_and_sorted_with_the_worst_first(
    look: Look, serve: Serve, screenshot: Screenshot
) -> None:
    dashboard = serve(*MANY)
    dashboard.origin.status = 503
    for broken in (277, 123):
        dashboard.get(f"/service-{broken}/a", times=3, method="POST")
    page = look(dashboard)
    names = page.locator(".name")
    expect(page.get_by_text("Showing 50 of 300 circuits", exact=True)).to_be_visible()
    expect(names).to_have_count(50)
    expect(names).to_have_text(["service-123", "service-277", *MANY[:48]])
    screenshot(page, "three-hundred")
    page.get_by_role("searchbox").fill("77")
    expect(names).to_have_text(["service-277", "service-077", "service-177"])
    expect(page.get_by_text("3 circuits that match, of 300", exact=True)).to_be_visible()
    page.get_by_role("searchbox").fill("half")
    expect(names).to_have_count(0)
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Sort").select_option("name")
    expect(names.first).to_have_text("service-000")
    page.get_by_role("button", name="Show all 300").click()
    expect(names).to_have_count(300)
    expect(page.get_by_text("300 circuits", exact=True)).to_be_visible()
    dashboard.get("/service-299/a", times=3, method="POST")
    expect(badge(page, "service-299")).to_have_text("open")
    page.get_by_label("Sort").select_option("worst")
    expect(names.nth(2)).to_have_text("service-299")


def test_text_from_elsewhere_is_text(look: Look, serve: Serve) -> None:
    page = look(serve("catalog"))
    evil = "<img src=x onerror=alert(1)>"
    press(page, "catalog", "Force open")
    page.get_by_label("Reason").fill(evil)
    page.get_by_role("dialog").get_by_role("button", name="Force open").click()
    expect(row(page, "catalog")).to_contain_text(evil)
    expect(page.locator("#events")).to_contain_text(evil)
    expect(page.locator("img")).to_have_count(0)


# Acting


def test_forcing_a_circuit_open_and_giving_it_back(look: Look, serve: Serve, screenshot: Screenshot) -> None:
    dashboard = serve("catalog")
    page = look(dashboard)
    expect(row(page, "catalog").get_by_role("button", name="Automatic")).to_be_disabled()
    press(page, "catalog", "Force open")
    dialog = page.get_by_role("dialog", name="Force open: catalog")
    dialog.get_by_label("Reason").fill("deploy")
    dialog.get_by_label("For").select_option("15 minutes")
    dialog.get_by_label("Your name").fill("alice")
    screenshot(page, "dialog")
    dialog.get_by_role("button", name="Force open").click()
    expect(dialog).not_to_be_attached()
    expect(badge(page, "catalog")).to_have_text("forced open")
    expect(row(page, "catalog")).to_contain_text("Forced by alice: deploy")
    expect(row(page, "catalog")).to_contain_text(re.compile(r"until .* \(1[45] min.* left\); underneath it is closed"))
    told = dashboard.api("/v1/circuits/catalog")["override"]
    assert (told["mode"], told["reason"], told["actor"]) == ("forced_open", "deploy", "alice")
    assert dashboard.get("/catalog/a") == 503
    press(page, "catalog", "Automatic")
    expect(badge(page, "catalog")).to_have_text("closed")
    assert dashboard.get("/catalog/a") == 200
    press(page, "catalog", "Force open")
    expect(page.get_by_label("Your name")).to_have_value("alice")


def test_forcing_closed_and_resetting_an_open_circuit(look: Look, serve: Serve) -> None:
    dashboard = serve("catalog")
    dashboard.origin.status = 503
    dashboard.get("/catalog/a", times=3, method="POST")
    page = look(dashboard)
    expect(badge(page, "catalog")).to_have_text("open")
    press(page, "catalog", "Force closed")
    page.get_by_role("dialog").get_by_role("button", name="Force closed").click()
    expect(badge(page, "catalog")).to_have_text("forced closed")
    expect(row(page, "catalog")).to_contain_text("underneath it is open")
    press(page, "catalog", "Automatic")
    expect(badge(page, "catalog")).to_have_text("open")
    press(page, "catalog", "Reset")
    page.get_by_label("Reason").fill("mended")
    page.keyboard.press("Enter")
    expect(badge(page, "catalog")).to_have_text("closed")
    expect(page.locator("#events > li").first).to_contain_text("mended")


def test_what_another_operator_does_shows_at_once(look: Look, serve: Serve) -> None:
    dashboard = serve("catalog", "orders")
    page, other = look(dashboard), look(dashboard)
    expect(badge(other, "orders")).to_have_text("closed")
    press(page, "orders", "Force open")
    page.get_by_role("dialog").get_by_role("button", name="Force open").click()
    expect(badge(other, "orders")).to_have_text("forced open", timeout=1000)


def test_a_refused_order_says_why_and_can_be_mended(look: Look, serve: Serve) -> None:
    dashboard = serve("catalog")
    dashboard.get("/catalog/a")
    page = look(dashboard, quiet=False)
    page.get_by_role("button", name="Purge …").click()
    dialog = page.get_by_role("dialog", name="Purge stored answers")
    dialog.get_by_label("What").select_option("a route")
    dialog.get_by_label("Which").fill("catalogue")
    dialog.get_by_role("button", name="Purge").click()
    expect(dialog.get_by_role("alert")).to_contain_text("did you mean 'catalog'?")
    dialog.get_by_label("Which").fill("catalog")
    dialog.get_by_role("button", name="Purge").click()
    expect(page.get_by_text("1 stored answer purged")).to_be_visible()
    assert dashboard.api("/v1/cache")["entries"] == 0
    expect(page.locator("#events > li").first).to_contain_text("1 entries purged by route catalog")


def test_a_fault_is_injected_and_ended(look: Look, serve: Serve) -> None:
    dashboard = serve("catalog")
    page = look(dashboard)
    there = any(call["path"] == "/v1/faults" for call in dashboard.api("/v1")["calls"])
    expect(page.get_by_role("heading", name="The one circuit lets requests through")).to_be_visible()
    expect(page.get_by_role("button", name="Inject a fault …")).to_be_visible(visible=there)
    sent = [] if there else stand_in_for_faults(page)
    page.get_by_role("button", name="Inject a fault …").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Fault").select_option("abort")
    dialog.get_by_label("How").fill("503")
    dialog.get_by_label("Share").fill("100%")
    dialog.get_by_label("Reason").fill("drill")
    dialog.get_by_label("Your name").fill("alice")
    dialog.get_by_role("button", name="Inject", exact=True).click()
    listed = re.compile(r"catalog abort with 503 for 100 % of the requests, \d min.* left by alice: drill")
    expect(page.locator("#faults")).to_contain_text(listed)
    if there:
        assert dashboard.get("/catalog/a") == 503
    page.get_by_role("button", name="End the fault on catalog").click()
    expect(page.locator("#faults")).to_have_text("none")
    if there:
        assert dashboard.get("/catalog/a") == 200
    else:
        fault = {"abort": {"status": 503, "share": "100%"}, "ttl": "5m", "reason": "drill", "actor": "alice"}
        assert sent == [("PUT", "faults/catalog", fault), ("DELETE", "faults/catalog", None)]


def stand_in_for_faults(page: Page) -> list[tuple[str, str, Any]]:
    """Let the page believe that the API has faults; what it sends."""
    faults: list[dict[str, Any]] = []
    sent: list[tuple[str, str, Any]] = []

    def answer(route: Route) -> None:
        request = route.request
        if request.method == "GET":
            route.fulfill(json={"faults": faults})
            return
        path = request.url.rpartition("/v1/")[2]
        sent.append((request.method, path, json.loads(request.post_data or "null")))
        abort = {"status": 503, "share": 1.0}
        shown = {"route": "catalog", "abort": abort, "seconds_left": 299, "actor": "alice", "reason": "drill"}
        faults[:] = [shown] if request.method == "PUT" else []
        route.fulfill(json={})

    calls = [{"method": "PUT", "path": "/v1/faults/{route}", "meaning": ""}]
    page.route("**/v1", lambda route: route.fulfill(json={"calls": calls}))
    page.route(re.compile("/v1/faults"), answer)
    page.reload()
    return sent


# The connection


@pytest.mark.parametrize("trouble", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_connection_is_told_within_seven_seconds(look: Look, serve: Serve, trouble: signal.Signals) -> None:
    dashboard = serve("catalog")
    page = look(dashboard, quiet=False)
    expect(page.locator("#connection")).to_have_text("live")
    dashboard.send_signal(trouble)
    expect(page.get_by_role("alert")).to_contain_text("Connection lost", timeout=7000)
    if trouble is signal.SIGSTOP:
        dashboard.send_signal(signal.SIGCONT)
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.get_by_role("alert")).to_have_count(0)


def test_with_a_token_file_the_token_is_asked_for_and_kept_for_the_tab(
    look: Look, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    page = look(serve("catalog", admin={"token_file": str(tmp_path / "token")}), quiet=False)
    dialog = page.get_by_role("dialog", name="Token needed")
    dialog.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("That was not the token.")
    dialog.get_by_label("Token").fill("s3cret")
    page.keyboard.press("Enter")
    expect(badge(page, "catalog")).to_have_text("closed")
    press(page, "catalog", "Force open")
    page.get_by_role("dialog").get_by_role("button", name="Force open").click()
    expect(badge(page, "catalog")).to_have_text("forced open", timeout=1500)  # the stream has the token, too
    page.reload()
    expect(badge(page, "catalog")).to_have_text("forced open")


# Everybody


def test_it_can_be_used_by_keyboard(look: Look, serve: Serve) -> None:
    page = look(serve("catalog", "orders"))
    expect(badge(page, "orders")).to_have_text("closed")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(page.get_by_role("searchbox")).to_have_value("")
    for _ in range(2):
        page.keyboard.press("Tab")
    name = page.get_by_role("button", name="catalog", exact=True)
    expect(name).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("button", name="orders", exact=True)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(name).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Force open: catalog")).to_be_visible()
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("light", {"color_scheme": "light"}),
        ("dark", {"color_scheme": "dark"}),
        ("phone", {"color_scheme": "light", **PHONE}),
    ],
)
def test_it_is_accessible_and_fits_its_screen(
    look: Look, serve: Serve, screenshot: Screenshot, kind: str, options: dict[str, Any]
) -> None:
    dashboard = serve("catalog", "orders", "payments", "search")
    dashboard.get("/catalog/a", times=9)
    dashboard.get("/orders/a", times=5, method="POST")
    dashboard.origin.status = 503
    dashboard.get("/orders/a", times=6, method="POST")
    dashboard.get("/search/a", method="POST")
    page = look(dashboard, **options)
    press(page, "payments", "Force open")
    page.get_by_label("Reason").fill("the provider asked us to stop")
    assert violations(page) == []
    page.get_by_role("dialog").get_by_role("button", name="Force open").click()
    page.get_by_role("button", name="orders", exact=True).click()
    expect(badge(page, "payments")).to_have_text("forced open")
    expect(row(page, "orders")).to_contain_text("503 from the circuit")
    screenshot(page, kind)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']]}" for each in found]
