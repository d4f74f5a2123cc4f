import pytest

from sidecar.core.storage.purging import KEYS_KEPT, RULES_KEPT, PurgeLog, PurgeRule

URL = b"http://u/a/b"


@pytest.mark.parametrize(
    ("rule", "covered"),
    [
        pytest.param(PurgeRule(route="r"), True, id="route"),
        pytest.param(PurgeRule(route="s"), False, id="other route"),
        pytest.param(PurgeRule(url=URL), True, id="url"),
        pytest.param(PurgeRule(url=URL + b"c"), False, id="longer url"),
        pytest.param(PurgeRule(prefix=b"http://u/a"), True, id="prefix"),
        pytest.param(PurgeRule(prefix=b"http://u/b"), False, id="other prefix"),
        pytest.param(PurgeRule(tag=b"t"), True, id="tag"),
        pytest.param(PurgeRule(tag=b"x"), False, id="other tag"),
        pytest.param(PurgeRule(route="r", tag=b"t"), True, id="route and tag"),
        pytest.param(PurgeRule(route="s", tag=b"t"), False, id="tag of another route"),
    ],
)
def test_a_rule_covers_what_meets_all_its_conditions(rule: PurgeRule, covered: bool) -> None:  # noqa: FBT001 - a case
    assert rule.covers("r", URL, (b"s", b"t")) is covered
    log = PurgeLog()
    before = log.generation
    log.purge(rule)
    assert log.covered(before, "r", URL, (b"s", b"t")) is covered
    assert log.refuses(before, b"key", "r", URL, (b"s", b"t")) is covered
    assert not log.refuses(log.generation, b"key", "r", URL, (b"s", b"t"))


def test_only_fetches_of_an_invalidated_key_begun_before_are_refused() -> None:
    log = PurgeLog()
    before = log.generation
    log.invalidate(b"key")
    assert log.refuses(before, b"key", "r", URL, ())
    assert not log.refuses(before, b"other", "r", URL, ())
    assert not log.refuses(log.generation, b"key", "r", URL, ())


def test_a_fetch_older_than_the_memory_of_keys_is_refused() -> None:
    log = PurgeLog()
    old = log.generation
    for number in range(KEYS_KEPT + 2):
        log.invalidate(b"%d" % number)
    assert log.refuses(old, b"unrelated", "r", URL, ())
    assert not log.refuses(old + 2, b"unrelated", "r", URL, ())
    assert len(log._keys) == KEYS_KEPT


def test_a_fetch_older_than_the_memory_of_rules_is_refused() -> None:
    log = PurgeLog()
    old = log.generation
    for _ in range(RULES_KEPT + 1):
        log.purge(PurgeRule(route="other"))
    assert log.refuses(old, b"key", "r", URL, ())
    assert not log.covered(old, "r", URL, ())


def test_too_many_deferred_purges_cover_everything_older() -> None:
    log = PurgeLog()
    old = log.generation
    for _ in range(RULES_KEPT + 1):
        log.purge(PurgeRule(tag=b"other"))
        log.defer()
    assert log.covered(old, "r", URL, ())
    assert not log.covered(old + 1, "r", URL, ())


def test_a_deferred_purge_is_pending_until_it_is_carried_out() -> None:
    log = PurgeLog()
    pending = [log.pending]
    log.purge(PurgeRule(tag=b"t"))
    pending.append(log.pending)
    log.defer()
    pending.append(log.pending)
    log.carried_out(log.generation)
    pending.append(log.pending)
    assert pending == [False, False, True, False]


def test_checking_costs_more_the_more_rules_there_are() -> None:
    log = PurgeLog()
    assert log.check_cost == 1
    for _ in range(80):
        log.purge(PurgeRule(tag=b"t"))
    assert log.check_cost == 11
