from sidecar.core.storage.live_copies import COPIES_LIMIT, ONE_IN, Copy, LiveCopies
from tests.support.stored_answers import answer


def copy(number: int = 0) -> Copy:
    return Copy(0, [number], (answer(number),))


def test_a_copy_is_found_until_it_is_dropped() -> None:
    copies = LiveCopies(10**6)
    kept = copy()
    copies.add(b"key", kept)
    assert copies.get(b"key") is kept
    assert copies.bytes == kept.size
    copies.drop(b"key")
    copies.drop(b"key")
    assert copies.get(b"key") is None
    assert copies.bytes == 0


def test_a_copy_replaces_the_one_before() -> None:
    copies = LiveCopies(10**6)
    copies.add(b"key", copy(1))
    copies.add(b"key", second := copy(2))
    assert (copies.get(b"key"), copies.bytes) == (second, second.size)


def test_the_oldest_copy_goes_when_the_bytes_are_used_up() -> None:
    copies = LiveCopies(2 * copy().size)
    for number in range(3):
        copies.add(b"%d" % number, copy())
    assert [copies.get(b"%d" % number) is None for number in range(3)] == [True, False, False]


def test_a_copy_larger_than_the_whole_is_not_kept() -> None:
    copies = LiveCopies(100)
    copies.add(b"key", copy())
    assert copies.get(b"key") is None


def test_there_are_never_more_copies_than_the_limit() -> None:
    copies = LiveCopies(10**9)
    for number in range(COPIES_LIMIT + 1):
        copies.add(b"%d" % number, copy())
    assert copies.get(b"0") is None
    assert copies.bytes == COPIES_LIMIT * copy().size


def test_once_full_only_some_newcomers_are_admitted() -> None:
    copies = LiveCopies(2 * copy().size)
    for number in range(3):
        assert copies.admits()
        copies.add(b"%d" % number, copy())
    assert sum(copies.admits() for _ in range(10 * ONE_IN)) == 10
