import json

import jsonschema
import pytest

from sidecar.config.json_schema import schema

VALIDATOR = jsonschema.Draft202012Validator(schema())


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    json.dumps(schema())


UP = {"a": {"url": "http://a"}}


@pytest.mark.parametrize(
    "document",
    [
        {"upstreams": UP},
        {"upstreams": UP, "x-anything": [1], "routes": None, "proxy": None},
        {"upstreams": {"a": {"url": "${URL}", "breaker": {"failure_rate": "${RATE:-50%}", "window": 100}}}},
        {"upstreams": UP, "defaults": {"breaker": {"mode": False, "failures": "500-599", "ignore": [404, "410-419"]}}},
        {"upstreams": {"a": {"endpoints": ["http://a", "http://b"], "retry": None, "health": {"interval": "1s"}}}},
        {"upstreams": {"a": {"url": "http://a", "fallback": {"status": 503, "headers": {"x": "1"}, "body": "down"}}}},
        {"upstreams": UP, "defaults": {"fallback": [{"upstream": "b"}, {"file": "/f"}], "fault": None}},
        {
            "upstreams": UP,
            "routes": [{"match": {"path": "/"}, "upstream": "a", "fallback": None, "fault": {"ttl": "5m"}}],
        },
        {"upstreams": UP, "routes": [{"match": {"headers": {"x": None, "y": "1"}}, "upstream": "a"}]},
    ],
)
def test_what_the_loader_takes_is_valid(document: object) -> None:
    VALIDATOR.validate(document)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, []),
        ({"upstreams": {}}, ["upstreams"]),
        ({"upstreams": UP, "proxi": {}}, []),
        ({"upstreams": {"a b": {"url": "http://a"}}}, ["upstreams"]),
        ({"upstreams": {"a": {"uri": "x"}}}, ["upstreams", "a"]),
        ({"upstreams": {"a": {"url": "http://a", "bulkhead": {"max": 1}}}}, ["upstreams", "a", "bulkhead"]),
        ({"upstreams": UP, "routes": [{"upstream": "a"}]}, ["routes", 0]),
        ({"upstreams": {"a": {"url": "http://a", "fallback": [{"statu": 200}]}}}, ["upstreams", "a", "fallback"]),
        ({"upstreams": {"a": {"url": "http://a", "fault": {"abort": 503}}}}, ["upstreams", "a", "fault", "abort"]),
        ({"upstreams": UP, "state_dir": 5}, ["state_dir"]),
        ({"upstreams": UP, "cache": {"max_size": "big"}}, ["cache"]),
    ],
)
def test_what_the_loader_refuses_is_invalid_at_the_same_place(document: object, path: list[object]) -> None:
    error = jsonschema.exceptions.best_match(VALIDATOR.iter_errors(document))
    assert list(error.absolute_path)[: len(path)] == path


def test_defaults_are_shown_as_they_would_be_written() -> None:
    breaker = schema()["$defs"]["BreakerSettings"]["properties"]
    assert breaker["window"]["default"] == "30s"
    assert breaker["failure_rate"]["default"] == "50%"
    assert breaker["failures"]["default"] == ["500", "502-504"]
    assert breaker["slow_rate"]["default"] is None


TYPOS = {
    "root": {"upstreams": UP, "proxi": {}},
    "upstream": {"upstreams": {"a": {"url": "http://a", "proxi": 1}}},
    "block": {"upstreams": {"a": {"url": "http://a", "breaker": {"proxi": 1}}}},
    "nullable block": {"upstreams": {"a": {"url": "http://a", "health": {"path": "/", "proxi": 1}}}},
    "block in a block": {"upstreams": UP, "defaults": {"breaker": {"backoff": {"proxi": 1}}}},
    "listener": {"upstreams": UP, "proxy": {"limits": {"proxi": 1}}},
    "nullable tls": {"upstreams": UP, "proxy": {"tls": {"cert_file": "c", "key_file": "k", "proxi": 1}}},
    "route": {"upstreams": UP, "routes": [{"match": {"prefix": "/"}, "upstream": "a", "proxi": 1}]},
    "match": {"upstreams": UP, "routes": [{"match": {"prefix": "/", "proxi": 1}, "upstream": "a"}]},
}


@pytest.mark.parametrize("document", TYPOS.values(), ids=TYPOS)
def test_a_typo_is_named(document: object) -> None:
    (error,) = VALIDATOR.iter_errors(document)

    assert "'proxi'" in error.message


@pytest.mark.parametrize("block", ["proxy", "admin", "telemetry", "cache", "defaults"])
def test_a_block_may_be_null(block: str) -> None:
    VALIDATOR.validate({"upstreams": {"a": {"url": "http://a", "breaker": None, "health": None}}, block: None})
