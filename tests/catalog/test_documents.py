"""Documents in, found, streamed, moved and gone."""

import dataclasses
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from sqlalchemy import inspect, select, text

from memodb.catalog import (
    Catalog,
    DocumentRow,
    DocumentState,
    Filters,
    Scope,
    check,
    documents,
    erasing,
    expiring,
    registry,
)
from memodb.catalog.codec import encode_tokens
from memodb.catalog.models import Document
from memodb.cipher import MemoryKeys
from memodb.errors import CorruptStore, DocumentExists, InvalidInput

T0 = datetime(2024, 5, 17, 12, 30, 15, 123456, tzinfo=UTC)


def test_a_document_comes_back_as_it_was(house: Any) -> None:
    metadata = {"b": [1, {"c": None}], "a": "é\0"}
    row = house.new(
        "d",
        [5, 70_000],
        source="s",
        subject="u",
        writer="w",
        batch="b",
        metadata=metadata,
        created_at=T0.astimezone(timezone(timedelta(hours=-9))),
        expires_at=datetime.max.replace(tzinfo=UTC),
        digest=bytes(range(32)),
        text="Text\0 é",
    )
    house.insert(row)
    with house.fresh() as catalog, catalog.read() as session:
        found = documents.find(session, house.collection, "d")
        assert found == DocumentRow(
            id="d",
            source="s",
            subject="u",
            writer="w",
            batch="b",
            metadata=metadata,
            created_at=T0,
            expires_at=datetime.max.replace(tzinfo=UTC),
            state=DocumentState.LIVE,
            token_count=2,
            segment_id=house.segment,
            digest=bytes(range(32)),
            place=row.place,
        )
        assert found.created_at.tzinfo is UTC
        found.metadata["a"] = 1
        assert documents.find(session, house.collection, "d").metadata == metadata
        assert documents.texts_of(session, house.collection, ["d", "e"]) == {"d": "Text\0 é"}
        tokens = documents.tokens_of(session, house.collection, ["d", "e"])
        assert {name: value.tolist() for name, value in tokens.items()} == {"d": [5, 70_000]}
        assert tokens["d"].dtype == np.int32
        assert documents.find(session, house.collection, "e") is None
        assert documents.find(session, "other", "d") is None
        assert documents.existing(session, house.collection, ["d", "e"]) == {"d"}


def test_blobs_are_not_read_until_asked_for(house: Any) -> None:
    house.insert(house.new("d"))
    with house.catalog.read() as session:
        loaded = session.scalars(select(Document)).one()
        assert {"tokens", "text"} <= inspect(loaded).unloaded
        assert loaded.tokens not in (None, encode_tokens(np.array([1, 2, 300])))  # once asked for; encrypted


@pytest.mark.parametrize(
    "when", [datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), T0]
)
def test_times_keep_their_microsecond(house: Any, when: datetime) -> None:
    house.insert(house.new("d", created_at=when))
    with house.fresh() as catalog, catalog.read() as session:
        assert documents.find(session, house.collection, "d").created_at == when
        for created_before, count in ((when, 0), (when + timedelta(microseconds=1), 1)):
            assert documents.count(session, house.collection, Filters(created_before=created_before)) == count


BAD = {
    "id": ["", "a\0b", "\ud800", "x" * 4097, 1, None, b"a"],
    "source": ["", "\0", 7],
    "subject": ["\udfff"],
    "writer": [b"w"],
    "batch": ["", b"b"],
    "digest": [b"", bytes(31), "x" * 32, None],
    "metadata": [[], "a", {1: 2}, {"a": float("nan")}, {"a": {1, 2}}, {"a": "x" * (1 << 20)}],
    "created_at": [
        datetime(2024, 1, 1),
        "2024-01-01",
        None,
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))),
    ],
    "expires_at": [datetime(2024, 1, 1)],
    "tokens": [np.array([-1]), np.array([0.5])],
    "text": ["\ud800"],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in BAD for value in BAD[field]])
def test_what_cannot_be_stored_is_refused(house: Any, field: str, value: object) -> None:
    row = dataclasses.replace(house.new("d"), **{field: value})
    with house.catalog.write() as session, pytest.raises(InvalidInput):
        documents.insert_many(session, house.collection, [house.new("good"), row])
    with house.fresh() as catalog, catalog.read() as session:
        assert documents.count(session, house.collection) == 0


def test_a_taken_id_refuses_all_and_is_named(house: Any) -> None:
    house.insert(house.new("d1"))
    with house.catalog.write() as session:
        with pytest.raises(DocumentExists, match=r"twice: 'd1'$") as caught:
            documents.insert_many(session, house.collection, [house.new("d0"), house.new("d1"), house.new("d2")])
        assert caught.value.__cause__ is not None
        with pytest.raises(DocumentExists, match="'t0', 't1', 't2', 't3', 't4' and 2 more"):
            documents.insert_many(session, house.collection, [house.new(f"t{i}") for i in range(7)] * 2)
    with house.fresh() as catalog, catalog.read() as session:  # the block committed in spite of both
        assert documents.select_ids(session, house.collection) == ["d1"]


def test_collections_do_not_see_each_other(house: Any) -> None:
    house.insert(house.new("d"))
    with house.catalog.write() as session:
        other = registry.add_collection(session, "other").id
        segment = registry.add_segment(session, other, {}).id
        documents.insert_many(session, other, [house.new("d", [9], segment_id=segment)])
        assert documents.tokens_of(session, other, ["d"])["d"].tolist() == [9]
        assert erasing.delete_many(session, other, ["d"]) == 1
        assert documents.count(session, house.collection) == 1
        assert expiring.set_expiry(session, other, ["d"], T0) == 0
        assert list(documents.stream_segment(session, other, house.segment)) == []


def test_many_ids_at_once(house: Any) -> None:
    names = [f"d{i:05}" for i in range(6_000)]
    house.insert(*(house.new(name, [i]) for i, name in enumerate(names)))
    random.Random(3).shuffle(names)
    asked = [*names, *(f"none{i}" for i in range(35_000))]
    with house.catalog.write() as session:
        second = registry.add_segment(session, house.collection, {}).id
        assert documents.existing(session, house.collection, asked) == set(names)
        assert len(documents.tokens_of(session, house.collection, asked)) == 6_000
        assert documents.count(session, house.collection, Filters(ids=tuple(asked))) == 6_000
        assert documents.token_total(session, house.collection) == 6_000
        assert documents.move(session, house.collection, asked[3000:], second) == 3000
        streamed = list(documents.stream_segment(session, house.collection, second))
        assert [name for name, _ in streamed] == sorted(names[3000:])
        assert all(tokens.tolist() == [int(name[1:])] for name, tokens in streamed)
        assert expiring.set_expiry(session, house.collection, asked, datetime.max.replace(tzinfo=UTC)) == 6_000
        assert erasing.delete_many(session, house.collection, [*asked[:3500], *asked[:10]]) == 3500
    with house.fresh() as catalog, catalog.read() as session:
        assert documents.select_ids(session, house.collection) == sorted(names[3500:])
        assert catalog.integrity() == []
        assert check(session, house.collection) == []


def test_orders_are_total_and_limited(house: Any) -> None:
    ages = {"b": 0, "a": 0, "c": 1, "d": -1}
    house.insert(*(house.new(name, source="s", created_at=T0 + timedelta(days=age)) for name, age in ages.items()))
    with house.catalog.read() as session:
        assert documents.select_ids(session, house.collection, Filters(source="s"), order="newest") == list("cbad")
        for order, expected in (("oldest", "dabc"), ("newest", "cbad"), ("id", "abcd")):
            assert "".join(documents.select_ids(session, house.collection, order=order)) == expected
            rows = documents.select(session, house.collection, order=order, limit=2)
            assert "".join(row.id for row in rows) == expected[:2]
        assert documents.select_ids(session, house.collection, limit=0) == []
        assert len(documents.select_ids(session, house.collection, limit=2**80)) == 4
        for bad in (-1, True, 1.0, "1"):
            with pytest.raises(InvalidInput, match="limit"):
                documents.select(session, house.collection, limit=bad)
        with pytest.raises(InvalidInput, match="newest, oldest, id"):
            documents.select(session, house.collection, order="id; DROP TABLE document")


def test_row_keys_tell_no_order_and_no_count(house: Any) -> None:
    house.insert(*(house.new(f"d{i:03}") for i in range(200)))
    with house.catalog.read() as session:
        keys = session.execute(text("SELECT place FROM document ORDER BY id")).scalars().all()
    assert min(keys) > 1 << 40
    assert keys != sorted(keys)


DAMAGE = {
    "tokens = x'1102'": "no encrypted data",
    "tokens = zeroblob(30)": "damaged, or of another key",
    "tokens = 'a'": "bytes are missing",
    "token_count = 4": "token_count is 4, but 3",
    "token_count = '3'": None,  # the column's affinity makes it a number again
    "text = x'00'": "no encrypted data",
    "text = tokens": "damaged, or of another key",
    "key = x'00'": "key was destroyed or lost",
    "key = 'a'": "key was destroyed or lost",
    "batch = 'a'": "not as it was written",
    "metadata = '[]'": "canonical",
    "metadata = '{ }'": "canonical",
    "metadata = '{'": "JSON is damaged",
    "created_at = 'x'": "time is damaged",
    "expires_at = 9223372036854775807": "time is damaged",
    "digest = x'00'": "digest",
    "state = 'lost'": "state 'lost' is unknown",
    "segment_id = 'none'": "not one of its collection",
    "id = 'a' || char(0)": "NUL",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_check_finds_what_contradicts(house: Any, damage: str) -> None:
    house.insert(house.new("d"), house.new("e"))
    with house.catalog.read() as session:
        assert check(session, house.collection) == []
    vandalise(house, damage)
    with house.fresh() as catalog, catalog.read() as session:
        findings = check(session, house.collection)
    if DAMAGE[damage] is None:
        assert findings == []
    else:
        assert len(findings) == 1
        assert DAMAGE[damage] in findings[0]
        assert findings[0].startswith(("document 'd': ", "document 'a\\x00': "))


def vandalise(house: Any, damage: str) -> None:
    with house.outside() as raw:
        raw.execute(f"UPDATE document SET {damage} WHERE id = 'd'")


@pytest.mark.parametrize(
    ("damage", "call"),
    [
        ("tokens = x'00'", lambda s, c: documents.tokens_of(s, c, ["d"])),
        ("tokens = x'00'", lambda s, c: list(documents.stream_segment(s, c, s.info["segment"]))),
        ("text = x'00'", lambda s, c: documents.texts_of(s, c, ["d"])),
        ("metadata = '{'", lambda s, c: documents.find(s, c, "d")),
        ("metadata = '{\"a\":1,'", lambda s, c: documents.count(s, c, Filters(metadata={"a": 1}))),
        ("state = 'lost'", lambda s, c: list(documents.select(s, c, Filters(scope=Scope.ANY)))),
        ("created_at = 'x'", lambda s, c: documents.find(s, c, "d")),
    ],
)
def test_damage_is_raised_where_it_is_read(house: Any, damage: str, call: Any) -> None:
    house.insert(house.new("d"), house.new("e"))
    vandalise(house, damage)

    def attempt() -> None:
        with house.fresh() as catalog, catalog.read() as session:
            session.info["segment"] = house.segment
            call(session, house.collection)

    with pytest.raises(CorruptStore):
        attempt()


@pytest.mark.parametrize(
    "damage", ["expires_at = expires_at + 1", "tokens = zeroblob(30)", "key = x'00'", "place = place + 1"]
)
def test_a_row_found_by_its_key_is_as_it_was_written(house: Any, damage: str) -> None:
    """But for its id, which whoever knows the key of an id looks at."""
    house.insert(house.new("d", expires_at=datetime.now(UTC) + timedelta(days=1), place=7), house.new("e", place=9))
    with house.catalog.read() as session:
        assert {row.id for row in documents.stored_at(session, house.collection, [7, 9])} == {"d", "e"}
    vandalise(house, damage)
    with house.fresh() as catalog, catalog.read() as session:
        assert [row.id for row in documents.stored_at(session, house.collection, [9])] == ["e"]
        with pytest.raises(CorruptStore, match="'d'"):
            list(documents.stored_at(session, house.collection, [7, 8]))


READ = """
import sys
from memodb.catalog import Catalog, documents, registry
class Keys:
    def read(self, names):
        return [bytes.fromhex(sys.argv[2])] * len(names)
with Catalog.open(sys.argv[1], keys=Keys(), read_only=True) as catalog, catalog.read() as session:
    collection = registry.find_collection(session, "default").id
    print(documents.tokens_of(session, collection, ["d"])["d"].tolist())
"""


def test_another_process_reads_what_was_committed(house: Any, in_process: Any) -> None:
    house.insert(house.new("d"))
    with house.catalog.read() as session:
        (key,) = house.keys.read(session.execute(text("SELECT key FROM document")).scalars().all())
    assert in_process(READ, house.path, key.hex()) == "[1, 2, 300]\n"


def test_memory_serves_all_of_it() -> None:
    with Catalog.create(":memory:", keys=MemoryKeys()) as catalog:
        with catalog.write() as session:
            collection = registry.add_collection(session, "default").id
            segment = registry.add_segment(session, collection, {}).id
            row = documents.NewDocument("d", segment, bytes(32), np.array([1]), T0, metadata={"a": 1})
            documents.insert_many(session, collection, [row])
        with catalog.read() as session:
            assert documents.select_ids(session, collection, Filters(metadata={"a": 1})) == ["d"]
        assert catalog.integrity() == []
