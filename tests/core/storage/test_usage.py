import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.storage.usage import RouteUse, TagCounts, rounded_up


def test_the_largest_is_known_after_the_largest_left() -> None:
    use = RouteUse("r")
    for size in (100, 5000, 5000, 300):
        use.add(size)
    use.remove(5000)
    assert 5000 <= use.largest <= 5000 * 65 // 64
    use.remove(5000)
    assert 300 <= use.largest <= 300 * 65 // 64
    assert (use.entries, use.bytes) == (2, 400)


def test_nothing_has_no_largest() -> None:
    assert RouteUse("r").largest == 0


@given(st.integers(1, 2**40))
def test_a_size_class_is_at_most_a_sixtyfourth_too_large(size: int) -> None:
    assert size <= rounded_up(size) <= size + size // 64


@pytest.mark.parametrize("size", [1, 64, 127, 128])
def test_small_sizes_are_exact(size: int) -> None:
    assert rounded_up(size) == size


def test_a_tag_counts_its_entries() -> None:
    tags = TagCounts()
    for _ in range(3):
        tags.add(b"a", 5)
    tags.remove(b"a", 5)
    assert tags.take(b"a") == 2
    assert tags.take(b"a") == 0
    assert tags.bytes == 0


def test_what_a_purge_counted_is_not_counted_again_when_it_is_removed_later() -> None:
    tags = TagCounts()
    tags.add(b"a", 1)
    tags.take(b"a")
    tags.add(b"a", 2)
    tags.remove(b"a", 1)
    assert tags.take(b"a") == 1


def test_counters_that_nobody_needs_take_no_memory() -> None:
    tags = TagCounts()
    tags.add(b"a", 1)
    assert tags.bytes > 0
    tags.remove(b"a", 1)
    tags.remove(b"a", 1)
    assert tags.bytes == 0
