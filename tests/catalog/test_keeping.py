"""What must stay, and what must stay away: each collection by itself, and once is as good as twice."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memodb.catalog import Catalog, check, documents, erasing, keeping, registry
from memodb.catalog.keeping import HoldRow
from memodb.errors import Conflict

T0 = datetime(2024, 5, 17, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def furnished(house: Any) -> Any:
    house.insert(*(house.new(name, place=place) for place, name in enumerate("cab", 1)))
    with house.catalog.write() as session:
        house.other = registry.add_collection(session, "other").id
        segment = registry.add_segment(session, house.other, {}).id
        documents.insert_many(session, house.other, [house.new("x", place=9, segment_id=segment)])
    return house


def test_a_hold_is_put_once_and_grows(furnished: Any) -> None:
    add = keeping.add_hold
    with furnished.catalog.write() as session:
        assert add(session, furnished.collection, "case", [1, 2, 1], T0) == 2
        assert add(session, furnished.collection, "case", [2, 1], T0 + SECOND) == 0
        assert add(session, furnished.collection, "case", [3, 2], T0 - SECOND) == 1
        assert add(session, furnished.collection, "an earlier name", [1], T0 + SECOND) == 1
        assert add(session, furnished.collection, "none", [], T0) == 0
    with furnished.fresh() as catalog, catalog.read() as session:
        assert keeping.holds(session, furnished.collection) == [
            HoldRow("an earlier name", T0 + SECOND, 1),
            HoldRow("case", T0 - SECOND, 3),
        ]
        assert keeping.held_ids(session, furnished.collection, "case") == ["a", "b", "c"]
        assert keeping.held_ids(session, furnished.collection, "none") == []
        assert check(session, furnished.collection) == []


def test_holds_of_collections_do_not_meet(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        keeping.add_hold(session, furnished.collection, "case", [1], T0)
        keeping.add_hold(session, furnished.other, "case", [9], T0)
        assert keeping.held_ids(session, furnished.other, "case") == ["x"]
        assert keeping.held_among(session, furnished.collection, ["c", "a", "x"]) == ["c"]
        assert keeping.held_among(session, furnished.other, ["c", "x"]) == ["x"]
        assert keeping.remove_hold(session, furnished.collection, "case") == ["c"]
        assert keeping.remove_hold(session, furnished.collection, "case") == []
        assert keeping.holds(session, furnished.collection) == []
        assert keeping.holds(session, furnished.other) == [HoldRow("case", T0, 1)]
        assert erasing.delete_many(session, furnished.collection, ["c"]) == 1


def test_only_a_document_can_be_held(furnished: Any) -> None:
    for collection, place in ((furnished.collection, 77), ("none", 1)):
        with pytest.raises(Conflict, match="FOREIGN KEY"), furnished.catalog.write() as session:
            keeping.add_hold(session, collection, "case", [place], T0)
    with furnished.catalog.read() as session:
        assert keeping.holds(session, furnished.collection) == []


digests = st.sampled_from([bytes([number]) * 32 for number in range(3)])
moments = st.integers(-2, 4)
steps = st.lists(st.tuples(st.booleans(), digests, st.none() | moments, st.booleans()), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, clocked=moments)
def test_suppressions_agree_with_a_model(
    memory: tuple[Catalog, str, str], clock: Any, steps: list[tuple[bool, bytes, int | None, bool]], clocked: int
) -> None:
    catalog, collection, _ = memory
    clock(T0 + clocked * timedelta(microseconds=1))
    every = {bytes([number]) * 32 for number in range(3)}
    model: dict[tuple[str, bytes], int | None] = {}
    with catalog.write() as session:
        other = registry.add_collection(session, f"other {id(steps)} {catalog.data_version()}").id
        for added, digest, expires, elsewhere in steps:
            where = other if elsewhere else collection
            if added:
                until = None if expires is None else T0 + expires * timedelta(microseconds=1)
                keeping.add_suppression(session, where, digest, until)
                model[where, digest] = expires
            else:
                assert keeping.remove_suppression(session, where, digest) == ((where, digest) in model)
                model.pop((where, digest), None)
        for where in (collection, other):
            now = {d for (owner, d), until in model.items() if owner == where and (until is None or until > clocked)}
            assert keeping.suppressed(session, where, [*every, b"none"]) == now
            assert keeping.suppressed(session, where, []) == set()
            assert keeping.suppressions(session, where) == len(now)
            assert check(session, where) == []
        for where, digest in model:
            assert keeping.remove_suppression(session, where, digest)


def test_many_digests_are_asked_for_at_once(furnished: Any) -> None:
    asked = [number.to_bytes(32, "big") for number in range(40_000)]  # more than SQLite takes parameters
    with furnished.catalog.write() as session:
        for digest in asked[::4000]:
            keeping.add_suppression(session, furnished.collection, digest, None)
        assert keeping.suppressed(session, furnished.collection, asked) == set(asked[::4000])
        assert keeping.suppressed(session, furnished.other, asked) == set()
