import gc

from sidecar.core.storage.tables import Shards, Shelves


def test_shards_keep_numbers_by_key() -> None:
    shards = Shards()
    for number in range(1000):
        shards.set(b"key %d" % number, number)
    shards.set(b"key 7", 70)
    shards.remove(b"key 8")
    assert [shards.get(b"key %d" % number) for number in (7, 8, 9)] == [70, None, 9]


def test_shelves_keep_octets_by_number() -> None:
    shelves = Shelves()
    shelves[10_000] = b"far"
    shelves[0] = b"near"
    assert (shelves[10_000], shelves.take(0), shelves[0]) == (b"far", b"near", b"")


def test_the_garbage_collector_tracks_none_of_the_contents() -> None:
    shards, shelves = Shards(), Shelves()
    shards.set(b"key", 1)
    shelves[0] = b"octets"
    assert not any(gc.is_tracked(shard) for shard in shards.shards)
    assert not any(gc.is_tracked(shelf) for shelf in shelves._shelves)
