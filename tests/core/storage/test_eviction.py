from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.storage.eviction import CHANCES, FIRST_SLOT, IN_MAIN, EvictionQueues, Ghosts


class Cache:
    """Keys in front of the queues, each one byte large: what a store does, without the storing."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.queues = EvictionQueues(capacity)
        self.slots: dict[int, int] = {}
        self.keys: dict[int, int] = {}

    def ask(self, key: int) -> bool:
        if key in self.slots:
            self.queues.use(self.slots[key])
            return True
        needed = self.queues.bytes + 1 - self.capacity
        for victim in self.queues.evict(needed, 1) if needed > 0 else ():
            del self.slots[self.keys.pop(victim)]
        slot = self.queues.add(1, key * 2654435761 + 1)
        self.slots[key] = slot
        self.keys[slot] = key
        return False


def test_what_was_never_used_leaves_in_the_order_of_arrival() -> None:
    queues = EvictionQueues(100)
    first, second, third = (queues.add(10, number) for number in (1, 2, 3))
    assert queues.evict(20, 10) == [first, second]
    assert len(queues) == 1
    assert queues.evict(1, 10) == [third]


def test_what_was_used_twice_moves_to_the_main_queue_instead_of_leaving() -> None:
    queues = EvictionQueues(100)
    used, unused = queues.add(50, 1), queues.add(50, 2)
    queues.use(used)
    queues.use(used)
    assert queues.evict(1, 10) == [unused]
    assert queues.weights[used] == IN_MAIN


def test_what_returns_soon_after_it_left_goes_straight_to_the_main_queue() -> None:
    queues = EvictionQueues(100)
    queues.add(50, 1)
    queues.add(50, 2)
    queues.evict(1, 1)
    assert queues.weights[queues.add(50, 1)] == IN_MAIN
    assert queues.weights[queues.add(50, 3)] == 0


def test_a_used_slot_of_the_main_queue_is_spared_once_per_use() -> None:
    queues = EvictionQueues(100)
    used, unused = queues.add(50, 1, IN_MAIN), queues.add(50, 2, IN_MAIN)
    queues.use(used)
    assert queues.evict(1, 1) == [unused]
    assert queues.evict(1, 1) == [used]


def test_a_hot_set_survives_a_scan_of_ten_times_its_size() -> None:
    cache = Cache(1000)
    for _ in range(4):
        for key in range(800):
            cache.ask(key)
    for key in range(10_000, 18_000):
        cache.ask(key)
    kept = sum(key in cache.slots for key in range(800))
    assert kept > 700


def test_one_round_ends_even_when_every_slot_is_in_use() -> None:
    queues = EvictionQueues(10 * CHANCES)
    for number in range(10 * CHANCES):
        slot = queues.add(1, number)
        queues.weights[slot] = 3
    assert len(queues.evict(5, 5)) == 5


def test_evicting_more_than_there_is_empties_the_queues() -> None:
    queues = EvictionQueues(100)
    slots = [queues.add(10, number) for number in range(3)]
    assert queues.evict(1000, 10) == slots
    assert (queues.bytes, len(queues)) == (0, 0)
    assert queues.evict(1, 10) == []


def test_a_resized_slot_keeps_its_place_and_its_uses() -> None:
    queues = EvictionQueues(100)
    slot = queues.add(10, 1, IN_MAIN + 1)
    queues.resize(slot, 30)
    assert (queues.bytes, queues.weights[slot]) == (30, IN_MAIN + 1)
    queues.remove(slot)
    assert queues.bytes == 0


def test_slot_numbers_are_used_again() -> None:
    queues = EvictionQueues(100)
    slot = queues.add(10, 1)
    queues.remove(slot)
    assert queues.add(10, 2) == slot == FIRST_SLOT
    assert queues.end == FIRST_SLOT + 1


def test_a_ghost_is_forgotten_when_it_is_taken_and_when_its_window_has_passed() -> None:
    ghosts = Ghosts(8)
    ghosts.add(5, 8)
    assert ghosts.take(5, 8)
    assert not ghosts.take(5, 8)
    ghosts.add(5, 8)
    for number in range(16, 18):
        ghosts.add(number, 8)
    assert not ghosts.take(5, 2)


def test_ghosts_survive_the_growth_of_their_table() -> None:
    ghosts = Ghosts(8)
    ghosts.add(29, 8)
    ghosts.add(3, 9)
    assert ghosts.take(29, 9)


def test_a_fingerprint_of_zero_is_no_ghost_before_it_was_one() -> None:
    assert not Ghosts(8).take(0, 8)


@given(st.lists(st.tuples(st.sampled_from("auxre"), st.integers(0, 30), st.integers(1, 40)), max_size=200))
def test_bytes_are_always_the_sum_of_the_slots_in_use(steps: list[tuple[str, int, int]]) -> None:
    queues = EvictionQueues(200)
    held: dict[int, int] = {}
    for step, number, size in steps:
        slot = list(held)[number % len(held)] if held else None
        if step == "a":
            held[queues.add(size, number)] = size
        elif step == "e":
            for victim in queues.evict(size, 3):
                del held[victim]
        elif slot is not None and step == "u":
            queues.use(slot)
        elif slot is not None and step == "r":
            queues.resize(slot, size)
            held[slot] = size
        elif slot is not None:
            queues.remove(slot)
            del held[slot]
        assert (queues.bytes, len(queues)) == (sum(held.values()), len(held))
    assert sorted(queues.evict(10**9, 10**9)) == sorted(held)
