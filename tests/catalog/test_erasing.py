"""A deletion: hidden by one commit, removed by another, held back by holds, and every state of it on record."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from memodb.catalog import Catalog, Filters, Scope, check, documents, erasing, keeping, registry
from memodb.catalog.erasing import ErasureRow
from memodb.catalog.models import DocumentState
from memodb.errors import Conflict, CorruptStore, InvalidInput, NotFound

T0 = datetime(2024, 5, 17, tzinfo=UTC)
LITTLE = np.array([1, 2, 300])
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def furnished(house: Any) -> Any:
    """Four documents in two segments whose tiles are named, and an erasure that was asked for."""
    with house.catalog.write() as session:
        house.second = registry.add_segment(session, house.collection, {}).id
        house.places = {name: 100 + number for number, name in enumerate(NAMES)}
        segments = dict(zip(NAMES, [house.segment, house.segment, house.second, house.second], strict=True))
        rows = [house.new(name, place=house.places[name], segment_id=segments[name]) for name in NAMES]
        documents.insert_many(session, house.collection, rows)
        for number, segment in enumerate((house.segment, house.second)):
            registry.set_tile(session, house.collection, segment, f"tile {number}", b"key %d" % number)
        erasing.add_erasure(session, request(house, "e"), [])
    return house


def request(house: Any, name: str, minutes: int = 0) -> ErasureRow:
    return ErasureRow(name, house.collection, "requested", T0 + timedelta(minutes=minutes), {"reason": "17"})


def versions(session: Any, house: Any) -> dict[str, int]:
    return {row.id: row.version for row in registry.list_segments(session, house.collection)}


def test_hidden_documents_are_gone_while_their_rows_and_tiles_stay(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        before = versions(session, furnished)
        assert erasing.hide_many(session, furnished.collection, ["a", "none", "a"], "e") == 1
        assert erasing.hide_many(session, furnished.collection, ["a"], "other") == 0  # once hidden, it stays so
        after = versions(session, furnished)
    assert {name for name in after if after[name] != before[name]} == {furnished.segment}
    with furnished.fresh() as catalog, catalog.read() as session:
        assert documents.select_ids(session, furnished.collection) == ["b", "c", "d"]
        assert documents.existing(session, furnished.collection, NAMES) == set(NAMES)  # its id is not free yet
        assert erasing.hidden(session, furnished.collection) == {furnished.segment: ["a"]}
        assert erasing.left_of(session, "e") == (1, 0)
        assert erasing.left_of(session, "other") == (0, 0)
        assert registry.named_tiles(session) == {"tile 0", "tile 1"}
        assert registry.doomed(session) == []
        assert check(session, furnished.collection) == []  # the row's seal does not cover what was changed


def test_rows_go_with_the_second_commit_and_their_keys_are_doomed(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        erasing.hide_many(session, furnished.collection, ["a", "c"], "e")
    with furnished.catalog.write() as session:
        before = versions(session, furnished)
        keys = {row.id: row.key for row in session.execute(text("SELECT id, key FROM document"))}
        assert erasing.delete_many(session, furnished.collection, ["a", "a", "none"]) == 1
        assert versions(session, furnished) == before  # it left the memory when it was hidden
        assert registry.named_tiles(session) == {"tile 0", "tile 1"}
        assert registry.doomed(session) == [keys["a"]]
        assert erasing.left_of(session, "e") == (1, 0)
        # a live one leaves only now: its segment changes, and a tile that holds it is named no longer
        assert erasing.delete_many(session, furnished.collection, ["d"]) == 1
        assert versions(session, furnished)[furnished.second] > before[furnished.second]
        assert registry.named_tiles(session) == {"tile 0"}
        assert set(registry.doomed(session)) == {keys["a"], keys["d"], b"key 1"}
    with furnished.fresh() as catalog, catalog.read() as session:
        assert documents.existing(session, furnished.collection, NAMES) == {"b", "c"}
        assert erasing.hidden(session, furnished.collection) == {furnished.second: ["c"]}
        assert check(session, furnished.collection) == catalog.integrity() == []


def test_what_is_held_is_hidden_but_stays(furnished: Any) -> None:
    place = furnished.places
    with furnished.catalog.write() as session:
        keeping.add_hold(session, furnished.collection, "case 1", [place["a"], place["c"]], T0)
        keeping.add_hold(session, furnished.collection, "case 2", [place["a"]], T0)
        assert erasing.hide_many(session, furnished.collection, NAMES, "e") == 4
    with furnished.catalog.read() as session:
        assert documents.select_ids(session, furnished.collection) == []
        assert erasing.hidden(session, furnished.collection) == {furnished.segment: ["b"], furnished.second: ["d"]}
        assert erasing.left_of(session, "e") == (4, 2)
        assert erasing.collections_with_unfinished(session) == ["default"]
        # kept, and readable for whom the hold is
        kept = documents.tokens_of(session, furnished.collection, ["a"], Scope.ANY)
        assert kept["a"].tolist() == [1, 2, 300]
    with furnished.catalog.write() as session:
        assert erasing.delete_many(session, furnished.collection, ["b", "d"]) == 2
        assert keeping.remove_hold(session, furnished.collection, "case 1") == ["a", "c"]
        assert erasing.hidden(session, furnished.collection) == {furnished.second: ["c"]}  # another hold keeps a
        assert erasing.left_of(session, "e") == (2, 1)
        keeping.remove_hold(session, furnished.collection, "case 2")
        assert erasing.left_of(session, "e") == (2, 0)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_held_row_cannot_be_deleted_by_anybody(furnished: Any, hidden: bool) -> None:
    with furnished.catalog.write() as session:
        keeping.add_hold(session, furnished.collection, "case", [furnished.places["b"]], T0)
        if hidden:
            erasing.hide_many(session, furnished.collection, NAMES, "e")
    with furnished.outside() as raw:
        before = list(raw.iterdump())

    def attempt() -> None:
        with furnished.catalog.write() as session:
            erasing.delete_many(session, furnished.collection, NAMES)

    with pytest.raises(Conflict, match="FOREIGN KEY"):
        attempt()
    with furnished.outside() as raw:
        assert list(raw.iterdump()) == before  # no row, no doomed key, no tile: nothing of the attempt


def test_a_document_cannot_name_an_erasure_that_is_not_on_record(furnished: Any) -> None:
    def attempt() -> None:
        with furnished.catalog.write() as session:
            erasing.hide_many(session, furnished.collection, ["a"], "none")

    with pytest.raises(Conflict, match="FOREIGN KEY"):
        attempt()
    with furnished.catalog.read() as session:
        assert documents.select_ids(session, furnished.collection) == list(NAMES)


def test_a_deletion_keeps_to_its_collection(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        other = registry.add_collection(session, "other").id
        segment = registry.add_segment(session, other, {}).id
        documents.insert_many(session, other, [furnished.new("a", segment_id=segment)])
        assert erasing.hide_many(session, other, NAMES, "e") == 1
        assert erasing.hidden(session, furnished.collection) == {}
        assert erasing.hidden(session, other) == {segment: ["a"]}
        assert documents.select_ids(session, furnished.collection) == list(NAMES)
        assert erasing.erasures(session, other) == []
        erasing.advance(session, "e", "verified", {})
        assert erasing.collections_with_unfinished(session) == ["other"]  # of its rows
        assert erasing.delete_many(session, other, NAMES) == 1
        assert erasing.collections_with_unfinished(session) == []


def test_ids_that_no_document_could_have_are_refused(furnished: Any) -> None:
    for call in (
        lambda s: erasing.hide_many(s, furnished.collection, ["a", "b\0"], "e"),
        lambda s: erasing.delete_many(s, furnished.collection, ["a", ""]),
    ):
        with pytest.raises(InvalidInput), furnished.catalog.write() as session:
            call(session)


def test_every_state_is_recorded_and_the_row_stays_sealed(furnished: Any) -> None:
    assert erasing.STATES[0] == "requested"
    assert erasing.STATES[-1] == "verified"
    facts: dict[str, Any] = {"reason": "17"}
    for number, state in enumerate(erasing.STATES):
        facts[state] = {"at": number, "counts": [number, None, 0.5]}
        with furnished.catalog.write() as session:
            erasing.advance(session, "e", state, facts)
        with furnished.fresh() as catalog, catalog.read() as session:
            found = erasing.find_erasure(session, "e")
            assert found == ErasureRow("e", furnished.collection, state, T0, facts)
            assert erasing.erasures(session, furnished.collection) == [found]
            left = [found] if state != "verified" else []
            assert erasing.erasures(session, furnished.collection, unfinished=True) == left
            assert erasing.collections_with_unfinished(session) == ["default"] * len(left)
            assert check(session, furnished.collection) == []


def test_a_receipt_is_kept_sealed_and_can_be_replaced(furnished: Any) -> None:
    with furnished.catalog.read() as session:
        assert erasing.receipt_of(session, "e") is None
        assert erasing.receipt_of(session, "none") is None
    for receipt in ("first", '{"é": "\0"}' * 1000):
        with furnished.catalog.write() as session:
            erasing.set_receipt(session, "e", receipt)
        with furnished.fresh() as catalog, catalog.read() as session:
            assert erasing.receipt_of(session, "e") == receipt
            assert check(session, furnished.collection) == []
            assert erasing.find_erasure(session, "e").state == "requested"


def test_erasures_are_listed_by_age_and_found_by_id(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        for name, minutes in (("z", -1), ("y", 1), ("x", 1)):
            erasing.add_erasure(session, request(furnished, name, minutes), [])
        erasing.advance(session, "x", "verified", {})
        assert [row.id for row in erasing.erasures(session, furnished.collection)] == ["z", "e", "x", "y"]
        unfinished = erasing.erasures(session, furnished.collection, unfinished=True)
        assert [row.id for row in unfinished] == ["z", "e", "y"]
        with pytest.raises(NotFound, match=r"'w'.*erasures\(\)"):
            erasing.find_erasure(session, "w")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=st.lists(st.binary(min_size=16, max_size=16), max_size=6))
def test_pseudonyms_come_back_in_an_order_that_tells_nothing(
    memory: tuple[Catalog, str, str], made: list[bytes]
) -> None:
    catalog, collection, _ = memory
    name = secrets.token_hex(8)
    with catalog.write() as session:
        erasing.add_erasure(session, ErasureRow(name, collection, "requested", T0, {}), made)
        assert erasing.pseudonyms_of(session, name) == sorted(one.hex() for one in made)
        assert erasing.pseudonyms_of(session, "none") == []


def test_a_damaged_erasure_is_not_listed_as_if_it_were_sound(furnished: Any) -> None:
    with furnished.outside() as raw:
        raw.execute("UPDATE erasure SET facts = '{}'")
    with furnished.catalog.read() as session:
        with pytest.raises(CorruptStore, match="erasure 'e' is damaged"):
            erasing.erasures(session, furnished.collection)
        assert check(session, furnished.collection) == ["erasure 'e': its row is not as it was written"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    states=st.lists(st.sampled_from(list(DocumentState)), max_size=6),
    held=st.sets(st.integers(0, 5)),
    hiding=st.sets(st.integers(0, 6)),
)
def test_what_is_left_agrees_with_a_model(
    memory: tuple[Catalog, str, str], states: list[DocumentState], held: set[int], hiding: set[int]
) -> None:
    catalog, collection, segment = memory
    name = secrets.token_hex(8)
    held &= set(range(len(states)))
    with catalog.write() as session:
        rows = [documents.NewDocument(f"d{i}", segment, bytes(32), LITTLE, T0, place=i) for i in range(len(states))]
        documents.insert_many(session, collection, rows)
        erasing.add_erasure(session, ErasureRow(name, collection, "requested", T0, {}), [])
        for i, state in enumerate(states):
            session.execute(text("UPDATE document SET state = :s WHERE place = :i"), {"s": state.value, "i": i})
        keeping.add_hold(session, collection, "h", held, T0)
        stored = {i for i, state in enumerate(states) if state is not DocumentState.ERASING}
        assert erasing.hide_many(session, collection, [f"d{i}" for i in hiding], name) == len(stored & hiding)
        erasing_now = set(range(len(states))) - (stored - hiding)
        expected = [f"d{i}" for i in sorted(erasing_now - held)]
        assert sorted(erasing.hidden(session, collection).get(segment, [])) == expected
        assert erasing.left_of(session, name) == (len(stored & hiding), len(stored & hiding & held))
        left = documents.select_ids(session, collection, Filters(scope=Scope.STORED))
        assert left == [f"d{i}" for i in sorted(stored - hiding)]
        assert erasing.delete_many(session, collection, expected) == len(expected)
        keeping.remove_hold(session, collection, "h")
        erasing.delete_many(session, collection, [f"d{i}" for i in range(6)])
