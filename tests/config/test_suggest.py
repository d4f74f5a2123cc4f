import pytest

from sidecar.config.suggest import closest, did_you_mean

KNOWN = ("failure_threshold", "failure_rate", "window")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("failure_treshold", "failure_threshold"),
        ("failureRate", "failure_rate"),
        ("failure-rate", "failure_rate"),
        ("WINDOW", "window"),
        ("banana", None),
        ("window" * 20, None),
    ],
)
def test_the_closest_name_is_found(word: str, meant: str | None) -> None:
    assert closest(word, KNOWN) == meant


def test_a_typing_error_gets_the_name_that_was_meant() -> None:
    assert did_you_mean("windo", KNOWN) == "did you mean 'window'?"


def test_a_word_unlike_any_gets_the_short_list() -> None:
    assert did_you_mean("banana", KNOWN) == "known here: failure_threshold, failure_rate, window"


def test_a_long_list_is_not_repeated() -> None:
    assert did_you_mean("banana", [f"key{number}" for number in range(100)]) == ""
