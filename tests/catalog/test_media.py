"""What deletions leave in the file and its journal: nothing."""

import random
import threading
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from memodb.catalog import Catalog, documents, erasing, media, pragmas, registry
from memodb.cipher import MemoryKeys
from memodb.errors import StoreClosed, StoreLocked, SyncFailed

T0 = datetime(2024, 5, 17, tzinfo=UTC)
PAGE = 4096


def fill(house: Any, count: int) -> None:
    """Documents of several pages each, of tokens that do not compress."""
    noise = np.random.default_rng(count).integers(0, 1 << 16, (count, 6000))
    house.insert(*(house.new(f"d{number:03}", tokens) for number, tokens in enumerate(noise)))


def test_a_shrunk_file_has_no_empty_pages(house: Any) -> None:
    fill(house, 40)
    with house.catalog.write() as session:
        erasing.delete_many(session, house.collection, [f"d{number:03}" for number in range(15)])
    before = house.catalog.pragmas()
    assert before["freelist_count"] > 0
    assert house.catalog.shrink()
    after = house.catalog.pragmas()
    assert after["freelist_count"] == 0
    assert after["page_count"] <= before["page_count"] - before["freelist_count"]
    assert house.path.stat().st_size == after["page_count"] * PAGE
    with house.fresh() as catalog, catalog.read() as session:
        left = documents.select_ids(session, house.collection)
        assert len(documents.tokens_of(session, house.collection, left)) == 25
        assert catalog.integrity() == []


def test_a_file_without_empty_pages_is_left_alone(house: Any) -> None:
    fill(house, 3)
    house.catalog.shrink()
    before = house.path.read_bytes()
    version = house.catalog.data_version()
    assert not house.catalog.shrink()
    assert house.path.read_bytes() == before
    assert house.catalog.data_version() == version
    with Catalog.create(":memory:") as memory:
        assert not memory.shrink()


def test_shrinking_waits_for_nobody_for_ever(house: Any) -> None:
    fill(house, 5)
    with house.catalog.write() as session:
        erasing.delete_many(session, house.collection, ["d000", "d001"])
    with house.fresh() as reader, reader.read() as session:
        documents.count(session, house.collection)
        if pragmas.journal_mode() == "truncate":  # else the log takes it, readers or not
            with pytest.raises(StoreLocked):
                house.catalog.shrink()
    assert house.catalog.shrink()
    assert house.catalog.pragmas()["freelist_count"] == 0


def test_nothing_of_a_deleted_row_is_left(house: Any) -> None:
    """Nor of its provenance, which lies unencrypted and has moved from page to page as others came."""
    for seed in range(5):
        chance = random.Random(seed)
        names = [chance.randbytes(12).hex() for _ in range(500)]
        with house.catalog.write() as session:
            erasing.add_erasure(session, erasing.ErasureRow(f"e{seed}", house.collection, "requested", T0, {}), [])
        for at in range(0, 500, 50):
            house.insert(
                *(
                    house.new(f"id {name}", range(chance.randrange(900)), place=chance.getrandbits(62), subject=name)
                    for name in names[at : at + 50]
                )
            )
        chance.shuffle(names)
        gone, kept = names[:250], names[250:]
        for at in range(0, 250, 25):
            ids = [f"id {name}" for name in gone[at : at + 25]]
            with house.catalog.write() as session:
                assert erasing.hide_many(session, house.collection, ids, f"e{seed}") == 25
            with house.catalog.write() as session:
                assert erasing.delete_many(session, house.collection, ids) == 25
        house.catalog.vacuum()
        assert house.catalog.settle_journal() == 0
        raw = house.path.read_bytes()
        assert all(name.encode() in raw for name in kept)  # the search finds what is there
        assert [name for name in gone if name.encode() in raw] == []


@pytest.fixture(params=["truncate", "wal"])
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(pragmas, "journal_mode", lambda: request.param)
    return str(request.param)


def journals(house: Any) -> int:
    return sum(path.stat().st_size for path in house.path.parent.iterdir() if path.name.endswith(("-journal", "-wal")))


def test_the_journal_is_empty_once_it_is_settled(house: Any, journal: str) -> None:
    with Catalog.open(house.path, keys=house.keys, timeout=0.3) as house.catalog:
        fill(house, 3)
        assert house.catalog.pragmas()["journal_mode"] == journal
        assert (journals(house) > 0) == (journal == "wal")
        assert house.catalog.settle_journal() == journals(house) == 0
        with house.catalog.write() as session:
            erasing.delete_many(session, house.collection, ["d000"])
        assert house.catalog.shrink()
        assert house.catalog.settle_journal() == journals(house) == 0
        assert house.catalog.pragmas()["freelist_count"] == 0


def test_a_reader_that_needs_the_journal_is_told_of(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pragmas, "journal_mode", lambda: "wal")
    with Catalog.open(house.path, keys=house.keys, timeout=0.2) as house.catalog:
        reading, leave = threading.Event(), threading.Event()

        def read() -> None:
            with house.catalog.read() as session:
                documents.count(session, house.collection)
                reading.set()
                leave.wait(30)

        fill(house, 2)
        thread = threading.Thread(target=read)
        thread.start()
        assert reading.wait(30)
        with house.catalog.write() as session:
            registry.put_setting(session, "a", 1)
        held = house.catalog.settle_journal()
        leave.set()
        thread.join()
        assert held > 0  # said, not hidden: the claim that the journal is empty is then not made
        assert house.catalog.settle_journal() == 0


def test_the_settings_are_read_back_from_the_connection(house: Any) -> None:
    found = house.catalog.pragmas()
    assert tuple(found) == media.TELLING
    assert found["journal_mode"] == pragmas.journal_mode()
    assert (found["secure_delete"], found["synchronous"]) == (1, 2)
    assert found["page_count"] * PAGE == house.path.stat().st_size
    with Catalog.create(":memory:") as memory:
        memory.vacuum()
        assert memory.settle_journal() == 0


@pytest.mark.parametrize("name", ["shrink", "vacuum", "settle_journal", "pragmas"])
@pytest.mark.parametrize("kind", ["closed", "poisoned"])
def test_a_handle_that_serves_nothing_does_not_tidy_up(house: Any, name: str, kind: str) -> None:
    if kind == "closed":
        house.catalog.close()
    else:
        house.catalog.poison(SyncFailed("no"))
    with pytest.raises(StoreClosed if kind == "closed" else SyncFailed):
        getattr(house.catalog, name)()


@pytest.mark.parametrize("target", ["file", ":memory:"])
def test_a_copy_is_the_catalog(house: Any, target: str, tmp_path: Any) -> None:
    fill(house, 4)
    copied = tmp_path / "copy.db"
    if target == "file":
        house.catalog.copy_to(copied)
    else:
        with Catalog.create(":memory:", keys=house.keys) as memory:
            with memory.write() as session:
                house.collection = registry.add_collection(session, "default").id
                house.segment = registry.add_segment(session, house.collection, {}).id
                rows = [house.new(f"d{number:03}") for number in range(4)]
                documents.insert_many(session, house.collection, rows)
            memory.copy_to(copied)
    with Catalog.open(copied, keys=house.keys) as catalog:
        with catalog.read() as session:
            assert len(documents.tokens_of(session, house.collection, [f"d{number:03}" for number in range(4)])) == 4
        assert catalog.integrity() == []
    with Catalog.open(copied, keys=MemoryKeys()) as catalog, catalog.read() as session:
        assert documents.select_ids(session, house.collection) == [f"d{number:03}" for number in range(4)]
