from __future__ import annotations

import pytest

from sidecar.core.redaction import NOTHING_REDACTED, Redaction

REDACTION = Redaction({"token", "Api-Key"})
CASES = {
    "/items?token=s3cret": "/items?token=(redacted)",
    "/items?a=1&token=s3cret&b=2": "/items?a=1&token=(redacted)&b=2",
    "/items?token=one&token=two": "/items?token=(redacted)&token=(redacted)",
    "/items?TOKEN=s3cret": "/items?TOKEN=(redacted)",
    "/items?api-key=s3cret": "/items?api-key=(redacted)",
    "/items?t%6fken=s3cret": "/items?t%6fken=(redacted)",
    "/items?token[]=s3cret&token%5B0%5D=s3cret": "/items?token[]=(redacted)&token%5B0%5D=(redacted)",
    "/items?a=1;token=s3cret;b=2&c=3": "/items?a=1;token=(redacted)&c=3",
    "/items?token=s3=cr?et": "/items?token=(redacted)",
    '/items?token="s3;cret"#x': "/items?token=(redacted)",
    "/items?token=": "/items?token=(redacted)",
    "/items?token": "/items?token",
    "/items?tokens=1&mytoken=2&token.x=3": "/items?tokens=1&mytoken=2&token.x=3",
    "/token=1/x": "/token=1/x",
    "purged http://a/x?token=s3cret and 2 more": "purged http://a/x?token=(redacted) and 2 more",
    "": "",
}


@pytest.mark.parametrize(("text", "shown"), CASES.items(), ids=range(len(CASES)))
def test_of_a_parameter_only_the_name_is_shown(text: str, shown: str) -> None:
    assert REDACTION(text) == shown
    assert NOTHING_REDACTED(text) == text


def test_a_sample_has_a_query_only_where_it_is_known_what_is_secret() -> None:
    assert REDACTION.sample("/items?token=s3cret&page=2") == "/items?token=(redacted)&page=2"
    assert NOTHING_REDACTED.sample("/items?token=s3cret&page=2") == "/items"


def test_texts_within_json_values_are_covered() -> None:
    details = {"url": "/a?token=x", "urls": ["/b?token=y", {"c": "/c?token=z"}], "count": 3, "none": None}

    assert REDACTION.mapping(details) == {
        "url": "/a?token=(redacted)",
        "urls": ["/b?token=(redacted)", {"c": "/c?token=(redacted)"}],
        "count": 3,
        "none": None,
    }
    assert NOTHING_REDACTED.mapping(details) is details


def test_a_target_of_nothing_but_separators_takes_no_long_time() -> None:
    hostile = "/?" + "a=;" * 200_000

    assert REDACTION(hostile) == hostile
