"""Settings, collections and segments, committed and rolled back, seen from a fresh catalog."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from memodb.catalog import Filters, Scope, documents, erasing, expiring, history, keeping, quarantine, registry
from memodb.catalog.models import TABLES
from memodb.errors import CollectionNotFound, Conflict, InvalidInput, NotFound

T0 = datetime(2024, 5, 17, tzinfo=UTC)
MUTATORS: dict[str, Callable[[Session, Any], object]] = {
    "put_setting": lambda s, h: registry.put_setting(s, "a", {"b": [1, None]}),
    "replace_setting": lambda s, h: registry.put_setting(s, "old", 2),
    "add_collection": lambda s, h: registry.add_collection(s, "other", key=bytes(32)),
    "bump_collection": lambda s, h: registry.bump_collection(s, h.collection),
    "add_segment": lambda s, h: registry.add_segment(s, h.collection, [1]),
    "bump_segments": lambda s, h: registry.bump_segments(s, h.collection, [h.segment]),
    "remove_segment": lambda s, h: registry.remove_segment(s, h.collection, h.empty),
    "insert_many": lambda s, h: documents.insert_many(s, h.collection, [h.new("n1"), h.new("n2", [])]),
    "delete_many": lambda s, h: erasing.delete_many(s, h.collection, ["d1", "none"]),
    "move": lambda s, h: documents.move(s, h.collection, ["d1"], h.empty),
    "set_tile": lambda s, h: registry.set_tile(s, h.collection, h.segment, "t", b"k"),
    "reshape_segment": lambda s, h: registry.reshape_segment(s, h.collection, h.segment, [2]),
    "doom": lambda s, h: registry.doom(s, [b"n", None, b"n"]),
    "undoom": lambda s, h: registry.undoom(s, [b"doomed", b"none"]),
    "hide_many": lambda s, h: erasing.hide_many(s, h.collection, ["d1", "none"], "e"),
    "set_aside": lambda s, h: quarantine.set_aside(s, h.collection, ["d1"]),
    "release": lambda s, h: quarantine.release(s, h.collection, ["aside"]),
    "add_erasure": lambda s, h: erasing.add_erasure(
        s, erasing.ErasureRow("f", h.collection, "requested", T0, {}), [bytes(16)]
    ),
    "advance": lambda s, h: erasing.advance(s, "e", "hidden", {"a": 1}),
    "set_receipt": lambda s, h: erasing.set_receipt(s, "e", "signed"),
    "add_hold": lambda s, h: keeping.add_hold(s, h.collection, "other", [h.place], T0),
    "remove_hold": lambda s, h: keeping.remove_hold(s, h.collection, "hold"),
    "add_suppression": lambda s, h: keeping.add_suppression(s, h.collection, b"new", None),
    "remove_suppression": lambda s, h: keeping.remove_suppression(s, h.collection, b"old"),
    "append_lines": lambda s, h: history.append_lines(s, [b"line"]),
    "add_backup": lambda s, h: history.add_backup(s, history.BackupRow("c", T0, None)),
    "destroy_backup": lambda s, h: history.destroy_backup(s, "b", T0),
    "set_expiry": lambda s, h: expiring.set_expiry(s, h.collection, ["d1"], datetime(2130, 1, 1, tzinfo=UTC)),
}


FOLLOWED = {
    *("bump_collection", "add_segment", "bump_segments", "remove_segment", "reshape_segment"),
    *("insert_many", "delete_many", "move", "hide_many", "set_expiry", "set_aside", "release"),
}
"""What readers of other processes must see."""


def everything(house: Any) -> dict[str, Any]:
    with house.fresh() as catalog, catalog.read() as session:
        return {
            "settings": [registry.get_setting(session, name) for name in ("a", "old")],
            "rows": {
                name: session.execute(select(*table.columns).order_by(*table.primary_key)).all()
                for name, table in TABLES.items()
            },
            "collections": registry.list_collections(session),
            "segments": registry.list_segments(session, house.collection),
            "documents": list(documents.select(session, house.collection, Filters(scope=Scope.ANY), order="id")),
            "tokens": {
                k: v.tolist() for k, v in documents.tokens_of(session, house.collection, ["d1", "d2", "n1"]).items()
            },
        }


@pytest.fixture
def furnished(house: Any) -> Any:
    house.place = 17
    with house.catalog.write() as session:
        registry.put_setting(session, "old", 1)
        house.empty = registry.add_segment(session, house.collection, {}).id
        rows = [house.new("d1"), house.new("d2", place=house.place), house.new("aside")]
        documents.insert_many(session, house.collection, rows)
        quarantine.set_aside(session, house.collection, ["aside"])
        erasing.add_erasure(session, erasing.ErasureRow("e", house.collection, "requested", T0, {}), [])
        keeping.add_hold(session, house.collection, "hold", [house.place], T0)
        keeping.add_suppression(session, house.collection, b"old", None)
        history.add_backup(session, history.BackupRow("b", T0, None))
        registry.doom(session, [b"doomed"])
    return house


@pytest.mark.parametrize("name", MUTATORS)
def test_a_change_is_there_once_committed_and_never_after_a_rollback(furnished: Any, name: str) -> None:
    before = everything(furnished)

    def attempt() -> None:
        with furnished.catalog.write() as session:
            MUTATORS[name](session, furnished)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        attempt()
    assert everything(furnished) == before
    with furnished.catalog.write() as session:
        MUTATORS[name](session, furnished)
    after = everything(furnished)
    assert after != before
    was, now = (state["collections"][0].collection.version for state in (before, after))
    assert (now > was) == (name in FOLLOWED)


@pytest.mark.parametrize(
    ("name", "touched"),
    [
        ("insert_many", {"segment"}),
        ("delete_many", {"segment"}),
        ("hide_many", {"segment"}),
        ("set_aside", {"segment"}),
        ("release", {"segment"}),
        ("reshape_segment", {"segment"}),
        ("move", {"segment", "empty"}),
        ("set_expiry", {"segment"}),
        ("set_tile", set()),
    ],
)
def test_only_segments_whose_membership_changed_get_a_version(furnished: Any, name: str, touched: set[str]) -> None:
    before = {row.id: row.version for row in everything(furnished)["segments"]}
    with furnished.catalog.write() as session:
        MUTATORS[name](session, furnished)
    after = {row.id: row.version for row in everything(furnished)["segments"]}
    assert {i for i in after if after[i] != before[i]} == {getattr(furnished, part) for part in touched}


def test_what_changes_nothing_bumps_nothing(furnished: Any) -> None:
    before = everything(furnished)
    with furnished.catalog.write() as session:
        assert documents.insert_many(session, furnished.collection, []) == 0
        assert erasing.delete_many(session, furnished.collection, ["none"]) == 0
        assert documents.move(session, furnished.collection, ["d1", "none"], furnished.segment) == 0
        assert expiring.set_expiry(session, furnished.collection, ["none"], None) == 0
        assert erasing.hide_many(session, furnished.collection, ["none"], "e") == 0
        assert keeping.add_hold(session, furnished.collection, "hold", [furnished.place], T0) == 0
        assert keeping.remove_hold(session, furnished.collection, "none") == []
        assert not keeping.remove_suppression(session, furnished.collection, b"none")
        registry.doom(session, [None, b""])
        registry.undoom(session, [])
        history.append_lines(session, [])
    assert everything(furnished) == before


def test_settings_hold_any_json_and_nothing_else(house: Any) -> None:
    values = [None, True, 0, -(2**70), 1.5, "", "\0", [], {"a": {"": [None]}}, "é😀"]
    with house.catalog.write() as session:
        for number, value in enumerate(values):
            registry.put_setting(session, f"s{number}", value)
        for bad in ({1: 2}, (1,), b"", float("nan"), float("inf"), "\ud800", {"\ud800": 1}, object(), 10**5000):
            with pytest.raises(InvalidInput):
                registry.put_setting(session, "bad", bad)
    with house.fresh() as catalog, catalog.read() as session:
        found = [registry.get_setting(session, f"s{number}", "absent") for number in range(len(values))]
        assert found == values
        assert [type(value) for value in found] == [type(value) for value in values]
        assert registry.get_setting(session, "bad", "absent") == "absent"


def test_a_loop_is_no_json(house: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidInput, match="nested"), house.catalog.write() as session:
        registry.put_setting(session, "a", loop)


def test_collections_are_found_by_name_and_counted(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        other = registry.add_collection(session, "another", key=b"k" * 32)
        with pytest.raises(Conflict, match="another"):
            registry.add_collection(session, "another")
        for key in (b"", b"k" * 31, "k" * 32):
            with pytest.raises(InvalidInput, match="32 bytes"):
                registry.add_collection(session, "third", key=key)
        with pytest.raises(InvalidInput, match="timezone"):
            registry.add_collection(session, "third", created_at=datetime(2024, 1, 1))
    with furnished.fresh() as catalog, catalog.read() as session:
        assert registry.find_collection(session, "another") == other
        assert other.key == b"k" * 32
        assert "kkk" not in repr(other)
        listed = registry.list_collections(session)
        assert [(row.collection.name, row.documents, row.tokens) for row in listed] == [
            ("another", 0, 0),
            ("default", 2, 6),
        ]
        assert listed[1].collection.key != bytes(32)
        with pytest.raises(CollectionNotFound, match="'none'"):
            registry.find_collection(session, "none")


def test_segments_belong_to_their_collection(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        other = registry.add_collection(session, "other")
        foreign = registry.add_segment(session, other.id, None)
        for call in (registry.remove_segment, lambda s, c, i: registry.bump_segments(s, c, [i])):
            with pytest.raises(NotFound):
                call(session, furnished.collection, foreign.id)
        with pytest.raises(Conflict, match="move or delete"):
            registry.remove_segment(session, furnished.collection, furnished.segment)
        with pytest.raises(CollectionNotFound):
            registry.add_segment(session, "none", {})
        assert registry.list_segments(session, other.id) == [foreign]


def test_a_segment_of_another_collection_cannot_be_named(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        foreign = registry.add_segment(session, registry.add_collection(session, "other").id, {}).id
    for change in (
        lambda s: documents.move(s, furnished.collection, ["d1"], foreign),
        lambda s: documents.insert_many(s, furnished.collection, [furnished.new("d3", segment_id=foreign)]),
        lambda s: documents.insert_many(s, "none", [furnished.new("d3")]),
    ):
        with pytest.raises(Conflict, match=r"of its own|of this collection"), furnished.catalog.write() as session:
            change(session)


def test_keys_that_leave_the_catalog_are_doomed_until_they_are_destroyed(furnished: Any) -> None:
    def named(kind: Callable[[Session], Any]) -> set[bytes]:
        with furnished.fresh() as catalog, catalog.read() as session:
            return set(kind(session))

    with furnished.catalog.write() as session:
        registry.undoom(session, [b"doomed"])
        registry.set_tile(session, furnished.collection, furnished.segment, "t1", b"k1")
        registry.set_tile(session, furnished.collection, furnished.empty, "t2", b"k2")
    assert named(registry.doomed) == set()
    before = named(registry.named_keys)
    assert {b"k1", b"k2"} < before
    assert len(before) == 5
    with furnished.catalog.write() as session:
        registry.set_tile(session, furnished.collection, furnished.segment, "t3", b"k3")
        registry.remove_segment(session, furnished.collection, furnished.empty)
    assert named(registry.doomed) == {b"k1", b"k2"}
    with furnished.catalog.write() as session:
        registry.reshape_segment(session, furnished.collection, furnished.segment, {})
        (key,) = session.scalars(select(TABLES["document"].c.key).where(TABLES["document"].c.id == "d1"))
        erasing.delete_many(session, furnished.collection, ["d1"])
        assert registry.list_segments(session, furnished.collection)[0].tile_key is None
        assert registry.named_tiles(session) == set()
    assert named(registry.doomed) == {b"k1", b"k2", b"k3", key}
    # until it is destroyed, a key has a name: the store tells by it which keys are nobody's
    assert named(registry.named_keys) == before | {b"k3"}
    with furnished.catalog.write() as session:
        registry.undoom(session, [b"k1", key])
    assert named(registry.doomed) == {b"k2", b"k3"}
    assert named(registry.named_keys) == before - {b"k1", key} | {b"k3"}


def test_a_move_dooms_the_key_of_the_tile_that_documents_left(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        for segment, key in ((furnished.segment, b"from"), (furnished.empty, b"to")):
            registry.set_tile(session, furnished.collection, segment, key.decode(), key)
        documents.move(session, furnished.collection, ["d1"], furnished.empty)
        assert registry.doomed(session) == [b"doomed", b"from"]
        assert registry.named_tiles(session) == {"to"}
