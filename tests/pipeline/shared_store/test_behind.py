from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.storage.purging import PurgeRule
from sidecar.core.storage.shared_purges import ALL, FLEETS_STORE, write_rule
from sidecar.pipeline.shared_store.behind import BATCH_KEYS, MOST_BYTES, MOST_KEYS, MOST_RULES, WriteBehind
from tests.support.stored_answers import answer, language

if TYPE_CHECKING:
    from sidecar.pipeline.shared_store.behind import Change

KEY = answer().key
TAG = PurgeRule(tag=b"t")


def bodies(change: Change) -> list[bytes]:
    return [stored.body for stored in change.puts.values()]


def test_of_each_variant_the_latest_is_written() -> None:
    behind = WriteBehind()
    for body in (b"1", b"2"):
        behind.put(answer(body=body))
    behind.put(answer(selecting=language(b"de"), body=b"3"))
    assert bodies(behind.take()[KEY]) == [b"2", b"3"]


def test_what_was_invalidated_is_not_written_and_what_came_afterwards_is() -> None:
    behind = WriteBehind()
    behind.put(answer(body=b"1"))
    behind.invalidate(KEY, None)
    behind.put(answer(selecting=language(b"de"), body=b"2"))
    (change,) = behind.take().values()
    assert (change.clear, bodies(change)) == (True, [b"2"])


def test_what_was_purged_is_not_written_and_what_came_afterwards_is_once_the_purge_is_told() -> None:
    behind = WriteBehind()
    behind.put(answer(1, tags=(b"t",), body=b"1"))
    behind.purge(TAG)
    behind.put(answer(2, tags=(b"t",), body=b"2"))
    told = [behind.telling]
    assert behind.take_rules() == [write_rule(TAG)]
    told.append(behind.telling)
    behind.done()
    told.append(behind.telling)
    assert told == [True, True, False]
    assert [bodies(change) for change in behind.take().values()] == [[], [b"2"]]


def test_batches_are_bounded_and_all_is_told_in_the_end() -> None:
    behind = WriteBehind()
    for number in range(BATCH_KEYS * 2 + 1):
        behind.put(answer(number))
    sizes = []
    while behind:
        sizes.append(len(behind.take()))
        behind.done()
    assert sizes == [BATCH_KEYS, BATCH_KEYS, 1]
    assert behind.bytes == 0


def test_a_batch_of_large_answers_is_short() -> None:
    behind = WriteBehind()
    for number in range(4):
        behind.put(answer(number, body=bytes(400_000)))
    assert len(behind.take()) == 2


def test_a_key_is_known_to_be_behind_until_it_has_arrived() -> None:
    behind = WriteBehind()
    known = [KEY in behind]
    behind.put(answer())
    known.append(KEY in behind)
    behind.take()
    known.append(KEY in behind)
    behind.done()
    known.append(KEY in behind)
    assert known == [False, True, True, False]


def test_what_failed_is_sent_again_under_what_came_meanwhile() -> None:
    behind = WriteBehind()
    behind.invalidate(KEY, None)
    behind.put(answer(body=b"1"))
    behind.put(answer(selecting=language(b"de"), body=b"2"))
    behind.put(answer(selecting=language(b"en"), body=b"3"))
    behind.purge(TAG)
    behind.take_rules()
    behind.take()
    behind.put(answer(body=b"4"))
    behind.invalidate(KEY, [language(b"de")])
    behind.failed()
    assert behind.take_rules() == [write_rule(TAG)]
    (change,) = behind.take().values()
    assert change.clear
    assert sorted(bodies(change)) == [b"3", b"4"]
    assert list(change.drops) == [language(b"de")]
    behind.done()
    assert behind.bytes == 0


def test_what_failed_is_forgotten_where_the_key_was_invalidated_or_purged_meanwhile() -> None:
    behind = WriteBehind()
    behind.put(answer(1))
    behind.put(answer(2, tags=(b"t",)))
    behind.put(answer(3))
    behind.take()
    behind.invalidate(answer(1).key, None)
    behind.scrub(TAG)
    behind.scrub_key(answer(3).key)
    behind.failed()
    assert [bodies(change) for change in behind.take().values()] == [[], [], []]
    assert behind.bytes == 0


def test_answers_that_fail_again_and_again_are_given_up_and_what_they_would_replace_goes() -> None:
    behind = WriteBehind()
    behind.put(answer())
    behind.take()
    behind.failed(give_up=True)
    assert behind.dropped == 1
    (change,) = behind.take().values()
    assert (bodies(change), list(change.drops)) == ([], [()])


def test_answers_without_room_are_dropped_and_what_they_would_replace_goes() -> None:
    behind = WriteBehind()
    size = 1_000_000
    for number in range(MOST_BYTES // size + 3):
        behind.put(answer(number, body=bytes(size)))
    assert behind.bytes <= MOST_BYTES
    assert behind.dropped >= 3
    told: dict[bytes, Change] = {}
    while behind:
        told |= behind.take()
        behind.done()
    change = told[answer(MOST_BYTES // size + 2).key]
    assert (bodies(change), list(change.drops)) == ([], [()])


def test_answers_to_too_many_keys_are_dropped() -> None:
    behind = WriteBehind()
    for number in range(MOST_KEYS + 10):
        behind.put(answer(number))
    assert (len(behind), behind.dropped) == (MOST_KEYS, 10)


def test_invalidations_of_too_many_keys_become_a_purge_of_the_fleets_store() -> None:
    behind = WriteBehind()
    behind.purge(TAG)
    behind.put(answer(-1))
    for number in range(MOST_KEYS):
        behind.invalidate(answer(number).key, None)
    assert behind.take_rules() == [write_rule(TAG), FLEETS_STORE]
    assert behind, "as long as it has not arrived"
    behind.done()
    assert not behind
    assert (behind.bytes, behind.dropped) == (0, 1)


def test_those_of_what_may_not_be_there_are_forgotten_instead() -> None:
    behind = WriteBehind()
    for number in range(MOST_KEYS + 10):
        behind.invalidate(answer(number).key, None, needed=False)
    assert len(behind) == MOST_KEYS
    assert not behind.telling


def test_too_many_purges_become_one_of_everything() -> None:
    behind = WriteBehind()
    for number in range(MOST_RULES + 1):
        behind.purge(PurgeRule(tag=b"%d" % number))
    assert behind.take_rules() == [ALL]
