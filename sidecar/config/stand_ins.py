"""What fallbacks and faults must say of themselves, which their single keys do not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config.suggest import did_you_mean
from sidecar.core.http.forwarding import HOP_BY_HOP
from sidecar.core.http.framing import NO_CONTENT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sidecar.config.problem import Problems
    from sidecar.config.sections import Section

CONTENT = ("file", "body")
FIXED = ("status", "headers", *CONTENT)
INJECTIONS = ("abort", "delay", "reset", "slow_body")
OWN_FIELDS = {name.decode() for name in HOP_BY_HOP} | {
    "content-length",
    "date",
    "proxy-status",
    "via",
    "x-request-id",
    "x-sidecar-fallback",
}
"""Fields of an answer that are the sidecar's own business."""


def check_fallbacks(layer: Section, upstreams: Collection[str], problems: Problems) -> None:
    """Note what is wrong with each fallback that `layer` gives; `upstreams` are the names that there are."""
    said = layer.setting("fallback")
    for section in (said.value or ()) if said else ():
        _check_form(section, problems)
        _check_fields(section, problems)
        upstream = section.setting("upstream")
        if upstream and upstream.value is not None and upstream.value not in upstreams:
            hint = did_you_mean(upstream.value, upstreams)
            problems.error(upstream.at, f"there is no upstream {upstream.value!r}", hint)


def _check_form(section: Section, problems: Problems) -> None:
    given = {name: said for name in ("upstream", *FIXED) if (said := section.setting(name)) and said.value is not None}
    if not given and not section.failed:
        problems.error(section.at, "this fallback says nothing", "write upstream, file, or status and body")
    for name in FIXED:
        if "upstream" in given and name in given:
            hint = "make them two fallbacks of a list: [{upstream: …}, {status: …}]"
            problems.error(given[name].key_at, f"a fallback has both upstream and {name}", hint)
    if all(name in given for name in CONTENT):
        problems.error(given["body"].key_at, "a fallback has both file and body", "keep one of them")
    status = given.get("status")
    if status and status.value in NO_CONTENT and any(name in given for name in CONTENT):
        problems.error(status.at, f"an answer with status {status.value} has no content", "remove file and body")


def _check_fields(section: Section, problems: Problems) -> None:
    headers = section.setting("headers")
    for name in sorted(OWN_FIELDS.intersection(dict(headers.value))) if headers else ():
        problems.error(headers.key_at, f"{name} is the sidecar's own to send", "remove it")  # type: ignore[union-attr]


def check_fault(section: Section | None, problems: Problems) -> None:
    """Note that a fault does nothing."""
    if section and not section.failed and not any(_injected(section)):
        problems.error(section.at, "this fault does nothing", f"write one of {', '.join(INJECTIONS)}")


def _injected(section: Section) -> Iterator[bool]:
    for name in INJECTIONS:
        yield section.block(name) is not None
