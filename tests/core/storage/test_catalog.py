from sidecar.core.cache.stored import StoredResponse
from sidecar.core.storage.catalog import Catalog
from sidecar.core.storage.packing import pack
from tests.support.stored_answers import answer, language

SIZE = 100


def attach(catalog: Catalog, slot: int, stored: StoredResponse, now: float = 0.0) -> None:
    catalog.attach(slot, stored, pack(stored), SIZE, 0, now)


def test_variants_of_a_key_are_found_newest_first() -> None:
    catalog = Catalog(1)
    for slot, name in enumerate((b"de", b"en", b"fr")):
        attach(catalog, slot, answer(selecting=language(name)))
    key = answer().key
    assert catalog.slots(key) == [2, 1, 0]
    catalog.detach(2, SIZE)
    assert catalog.slots(key) == [1, 0]
    catalog.detach(0, SIZE)
    assert catalog.detach(1, SIZE) == (key, True)
    assert catalog.slots(key) == []
    assert catalog.entries == 0


def test_an_answer_is_given_back_as_it_was() -> None:
    catalog = Catalog(1)
    attach(catalog, 0, answer(3, tags=(b"a",)))
    response = catalog.response(0)
    assert (response.head, response.body, response.route) == (answer(3).head, b"body", "catalog")
    assert catalog.identity(0) == (answer(3).key, (), answer(3).url, (b"a",))


def test_answers_are_found_by_url_among_those_that_share_its_bucket() -> None:
    catalog = Catalog(1)
    for slot in range(5):
        attach(catalog, slot, answer(slot % 2))
    assert catalog.slots_at(answer(1).url, 10) == ([1, 3], True)
    assert catalog.slots_at(answer(1).url, 3) == ([1], False)
    catalog.detach(1, SIZE)
    assert catalog.slots_at(answer(1).url, 10) == ([3], True)


def test_a_slot_holds_something_between_attach_and_detach() -> None:
    catalog = Catalog(1)
    assert not catalog.holds(2)
    attach(catalog, 2, answer())
    assert [catalog.holds(slot) for slot in range(4)] == [False, False, True, False]
    catalog.detach(2, SIZE)
    assert not catalog.holds(2)


def test_each_route_tells_its_entries_bytes_and_oldest() -> None:
    catalog = Catalog(1)
    for slot, route in enumerate(("b", "a", "b")):
        attach(catalog, slot, answer(slot, route=route), now=float(slot))
    assert [(use.route, use.entries, use.bytes, oldest) for use, oldest in catalog.routes()] == [
        ("a", 1, SIZE, 1.0),
        ("b", 2, 2 * SIZE, 0.0),
    ]
    catalog.detach(0, SIZE)
    catalog.detach(1, SIZE)
    assert [(use.route, oldest) for use, oldest in catalog.routes()] == [("b", 2.0)]


def test_a_retired_route_is_gone_at_once_and_reclaimed_one_by_one() -> None:
    catalog = Catalog(1)
    for slot in range(3):
        attach(catalog, slot, answer(slot))
    assert catalog.retire("catalog") == 3
    assert (catalog.entries, catalog.routes()) == (0, [])
    attach(catalog, 3, answer(9))
    assert [catalog.is_retired(slot) for slot in range(4)] == [True, True, True, False]
    reclaimed = []
    while (retired := catalog.next_retired()) is not None:
        reclaimed.append(retired)
        assert catalog.detach(retired, SIZE) == (answer(retired).key, False)
    assert reclaimed == [0, 1, 2]
    assert catalog.entries == 1


def test_a_route_nobody_stored_from_has_nothing_to_retire() -> None:
    assert Catalog(1).retire("unknown") == 0


def test_tags_are_counted_while_their_answers_are_there() -> None:
    catalog = Catalog(1)
    attach(catalog, 0, answer(0, tags=(b"a", b"b")))
    attach(catalog, 1, answer(1, tags=(b"a",)))
    catalog.detach(0, SIZE)
    assert (catalog.tags.take(b"a"), catalog.tags.take(b"b")) == (1, 0)
