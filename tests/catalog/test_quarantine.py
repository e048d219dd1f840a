"""Documents set aside and brought back: each only from where it is, and readers are told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from memodb.catalog import Filters, Scope, check, documents, quarantine, registry
from memodb.errors import InvalidInput

T0 = datetime(2024, 5, 17, tzinfo=UTC)


@pytest.fixture
def furnished(house: Any, clock: Any) -> Any:
    """Documents a and b, one that has expired, one that is being erased; and an a of another collection."""
    clock(T0)
    with house.catalog.write() as session:
        house.second = registry.add_segment(session, house.collection, {}).id
        rows = [
            house.new("a"),
            house.new("b", segment_id=house.second),
            house.new("expired", expires_at=T0),
            house.new("erased"),
        ]
        documents.insert_many(session, house.collection, rows)
        session.execute(text("UPDATE document SET state = 'erasing' WHERE id = 'erased'"))
        registry.set_tile(session, house.collection, house.segment, "tile", b"key")
        other = registry.add_collection(session, "other").id
        segment = registry.add_segment(session, other, {}).id
        documents.insert_many(session, other, [house.new("a", segment_id=segment)])
        house.other = other
    return house


def versions(session: Any, house: Any) -> dict[str, int]:
    return {row.id: row.version for row in registry.list_segments(session, house.collection)}


def test_what_is_live_is_set_aside_and_only_that_comes_back(furnished: Any, clock: Any) -> None:
    every = ["a", "b", "expired", "erased", "none"]
    with furnished.catalog.write() as session:
        before = versions(session, furnished)
        assert quarantine.release(session, furnished.collection, every) == 0
        assert versions(session, furnished) == before
        assert quarantine.set_aside(session, furnished.collection, ["a", "expired", "erased", "none", "a"]) == 2
        after = versions(session, furnished)
        assert {name for name in after if after[name] != before[name]} == {furnished.segment}
        assert registry.named_tiles(session) == {"tile"}  # what it holds too much is subtracted
    with furnished.fresh() as catalog, catalog.read() as session:
        assert documents.select_ids(session, furnished.collection) == ["b"]
        aside = Filters(scope=Scope.QUARANTINED)
        assert documents.select_ids(session, furnished.collection, aside) == ["a", "expired"]
        assert documents.select_ids(session, furnished.other) == ["a"]
        assert check(session, furnished.collection) == []
    with furnished.catalog.write() as session:
        assert quarantine.set_aside(session, furnished.collection, every) == 1
        assert quarantine.set_aside(session, furnished.collection, every) == 0
        assert quarantine.release(session, furnished.other, every) == 0
        assert quarantine.release(session, furnished.collection, every) == 3
        assert documents.select_ids(session, furnished.collection) == ["a", "b"]
        states = session.execute(text("SELECT state FROM document WHERE id = 'erased'")).scalars().all()
        assert states == ["erasing"]  # nothing brings back what is being erased
        after = versions(session, furnished)
        assert all(after[name] > before[name] for name in after)


def test_what_expired_meanwhile_does_not_come_back_into_view(house: Any, clock: Any) -> None:
    clock(T0)
    house.insert(house.new("d", expires_at=T0 + timedelta(seconds=1)))
    with house.catalog.write() as session:
        assert quarantine.set_aside(session, house.collection, ["d"]) == 1
        clock(T0 + timedelta(seconds=1))
        assert quarantine.release(session, house.collection, ["d"]) == 1
        assert documents.select_ids(session, house.collection) == []


@pytest.mark.parametrize("call", [quarantine.set_aside, quarantine.release])
def test_impossible_ids_change_nothing(furnished: Any, call: Any) -> None:
    with pytest.raises(InvalidInput), furnished.catalog.write() as session:
        call(session, furnished.collection, ["a", "\0"])
    with furnished.catalog.read() as session:
        assert documents.select_ids(session, furnished.collection) == ["a", "b"]
