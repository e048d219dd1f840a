"""When documents expire: set, cleared, listed and swept, at their time and not after."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from memodb.catalog import Filters, check, documents, expiring, registry
from memodb.errors import InvalidInput

T0 = datetime(2024, 5, 17, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def furnished(house: Any, clock: Any) -> Any:
    """Documents that expire an hour ago, in one and in two hours, and never; the last is in quarantine."""
    clock(T0)
    hours = {"past": -1, "one": 1, "two": 2, "never": None, "aside": -2}
    rows = [house.new(n, expires_at=None if h is None else T0 + h * HOUR) for n, h in hours.items()]
    house.insert(*rows)
    house.places = {row.id: row.place for row in rows}
    with house.catalog.write() as session:
        session.execute(text("UPDATE document SET state = 'quarantined' WHERE id = 'aside'"))
    return house


def test_the_next_expiry_is_the_first_one_ahead(furnished: Any) -> None:
    with furnished.catalog.read() as session:
        for at, expected in (
            (T0 - 3 * HOUR, T0 - 2 * HOUR),
            (T0, T0 + HOUR),
            (T0 + HOUR, T0 + 2 * HOUR),
            (T0 + 2 * HOUR, None),
        ):
            assert expiring.next_expiry(session, furnished.collection, at) == expected
        assert expiring.next_expiry(session, "other", T0) is None


def test_what_has_expired_is_listed_for_the_sweep(furnished: Any, clock: Any) -> None:
    with furnished.catalog.read() as session:
        assert expiring.expired_ids(session, furnished.collection) == ["aside", "past"]
        assert expiring.expired_places(session, furnished.collection, T0) == [
            (furnished.places["past"], furnished.segment)
        ]
        clock(T0 + HOUR)
        assert expiring.expired_ids(session, furnished.collection) == ["aside", "one", "past"]
        assert expiring.expired_ids(session, "other") == []
        assert expiring.expired_places(session, "other", T0) == []


def test_an_expiry_is_moved_and_cleared_while_the_document_is_visible(furnished: Any, clock: Any) -> None:
    with furnished.catalog.write() as session:
        before = registry.version_of(session, furnished.collection)
        every = ["past", "one", "two", "never", "aside", "none"]
        assert expiring.set_expiry(session, furnished.collection, every, T0 + 3 * HOUR) == 3
        assert registry.version_of(session, furnished.collection) > before
        assert expiring.set_expiry(session, furnished.collection, ["two"], None) == 1
    with furnished.fresh() as catalog, catalog.read() as session:
        assert documents.find(session, furnished.collection, "one").expires_at == T0 + 3 * HOUR
        assert documents.find(session, furnished.collection, "two").expires_at is None
        clock(T0 + 3 * HOUR)
        assert documents.select_ids(session, furnished.collection) == ["two"]
        assert check(session, furnished.collection) == []  # sealed again
    # What has expired is gone: nobody brings it back by moving its time.
    with furnished.catalog.write() as session:
        assert expiring.set_expiry(session, furnished.collection, ["past", "one"], None) == 0
        assert documents.select_ids(session, furnished.collection) == ["two"]


def test_setting_a_past_expiry_hides_at_once(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        assert expiring.set_expiry(session, furnished.collection, ["never"], T0) == 1
        assert documents.select_ids(session, furnished.collection) == ["one", "two"]


def test_times_without_a_zone_and_impossible_ids_are_refused(furnished: Any) -> None:
    for ids, when in ((["one"], datetime(2024, 1, 1)), (["one"], "2024-01-01"), (["one", ""], None)):
        with pytest.raises(InvalidInput), furnished.catalog.write() as session:
            expiring.set_expiry(session, furnished.collection, ids, when)
    with furnished.catalog.read() as session:
        assert documents.find(session, furnished.collection, "one").expires_at == T0 + HOUR


@pytest.mark.parametrize(
    "query",
    [
        "SELECT min(expires_at) FROM document WHERE collection_id = 'a' AND expires_at > 5",
        "SELECT place FROM document WHERE collection_id = 'a' AND expires_at IS NOT NULL AND expires_at <= 5",
    ],
)
def test_expiries_are_found_by_their_index(furnished: Any, query: str) -> None:
    # Asked before each read: without the index a look at the clock would read the whole table.
    with furnished.catalog.read() as session:
        (row,) = session.execute(text("EXPLAIN QUERY PLAN " + query)).all()
    assert "ix_document_collection_id_expires_at_id" in row[3]


def test_a_filter_by_expiry_sees_only_what_is_visible(furnished: Any) -> None:
    with furnished.catalog.read() as session:
        found = documents.select_ids(session, furnished.collection, Filters(expires_before=T0 + 9 * HOUR))
        assert found == ["one", "two"]
