from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.storage.links import Links


def members(links: Links, head: int) -> list[int]:
    return list(links.others(head))


def test_a_ring_keeps_the_order_of_insertion() -> None:
    links = Links(1)
    for number in (1, 2, 3):
        links.insert_before(0, number)
    assert members(links, 0) == [1, 2, 3]


def test_a_member_can_leave_from_the_middle_and_come_back_at_the_end() -> None:
    links = Links(1)
    for number in (1, 2, 3):
        links.insert_before(0, number)
    links.unlink(2)
    links.insert_before(0, 2)
    assert members(links, 0) == [1, 3, 2]


def test_an_isolated_number_is_a_ring_of_its_own() -> None:
    links = Links()
    links.isolate(0)
    links.isolate(1)
    links.insert_before(0, 2)
    links.unlink(2)
    links.isolate(2)
    assert [members(links, number) for number in (0, 1, 2)] == [[], [], []]


def test_the_member_just_given_may_be_unlinked_during_the_walk() -> None:
    links = Links(1)
    for number in (1, 2, 3):
        links.insert_before(0, number)
    for number in links.others(0):
        links.unlink(number)
    assert members(links, 0) == []


@given(st.lists(st.integers(2, 9)))
def test_two_rings_agree_with_two_lists(moves: list[int]) -> None:
    links = Links(2)
    rings: tuple[list[int], list[int]] = (list(range(2, 10)), [])
    for number in rings[0]:
        links.insert_before(0, number)
    for number in moves:
        source = 0 if number in rings[0] else 1
        rings[source].remove(number)
        rings[1 - source].append(number)
        links.unlink(number)
        links.insert_before(1 - source, number)
    assert (members(links, 0), members(links, 1)) == rings
