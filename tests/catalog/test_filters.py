"""Which documents a filter means: against a model in Python, and under hostile strings."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.dialects import sqlite

from memodb.catalog import Catalog, Filters, Scope, documents, erasing
from memodb.catalog.filters import conditions
from memodb.catalog.models import Document
from memodb.errors import InvalidInput

T0 = datetime(2024, 5, 17, tzinfo=UTC)

# Few keys and values, alike in every way that a careless comparison confuses, so that hits and near misses are common.
KEYS = ["a", "a.b", '"a"', "$", "[0]", "a\0", "a\0b", "", "é", "\\u0061", "' OR 1=1 --"]
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -0.0,
    1.0,
    1.5,
    "",
    "1",
    "true",
    "null",
    "a\0",
    "a\0b",
    "é",
    2**53,
    2**53 + 1,
    2**70,
    1e300,
]
scalars = st.one_of(
    st.sampled_from(VALUES), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=4)
)
scalars = scalars.filter(lambda value: not isinstance(value, str) or value.isprintable() or value.isascii())
keys = st.one_of(st.sampled_from(KEYS), st.text("ab.\"'[]$\\:,{}", max_size=4))
nested = st.one_of(scalars, st.dictionaries(keys, scalars, max_size=2), st.lists(scalars, max_size=2))


def same(one: object, other: object) -> bool:
    """JSON equality by kinds, written without the code under test."""

    def kind(value: object) -> str:
        return {bool: "bool", int: "number", float: "number"}.get(type(value), type(value).__name__)

    return kind(one) == kind(other) and one == other


@settings(max_examples=100, deadline=None)
@given(
    stored=st.lists(st.dictionaries(keys, nested, max_size=4), max_size=6),
    wanted=st.dictionaries(keys, scalars, max_size=2),
    drawn=st.booleans(),
)
def test_metadata_filter_agrees_with_python(
    memory: tuple[Catalog, str, str], stored: list[dict[str, Any]], wanted: dict[str, Any], drawn: bool
) -> None:
    catalog, collection, segment = memory
    if drawn and stored:  # a filter that hits
        wanted = {key: value for key, value in stored[0].items() if not isinstance(value, dict | list)}
    rows = [
        documents.NewDocument(f"d{i}", segment, bytes(32), np.array([i]), T0, metadata=metadata)
        for i, metadata in enumerate(stored)
    ]
    with catalog.write() as session:
        documents.insert_many(session, collection, rows)
    with catalog.read() as session:
        found = documents.select_ids(session, collection, Filters(metadata=wanted))
        read = {row.id: row.metadata for row in documents.select(session, collection)}
        counted = documents.count(session, collection, Filters(metadata=wanted))
    with catalog.write() as session:
        assert erasing.delete_many(session, collection, read) == len(stored)
    assert read == {f"d{i}": metadata for i, metadata in enumerate(stored)}
    assert found == [f"d{i}" for i, m in enumerate(stored) if all(k in m and same(m[k], v) for k, v in wanted.items())]
    assert counted == len(found)


@pytest.mark.parametrize(
    ("stored", "wanted", "hit"),
    [
        ("1", 1, False),
        (1, "1", False),
        (1, True, False),
        (True, 1, False),
        (0, False, False),
        (1, 1.0, True),
        (1.0, 1, True),
        (1e300, 10**300, False),
        (2**53 + 1, float(2**53), False),
        (2**70, 2**70, True),
        (2**70, 2**70 + 1, False),
        (None, None, True),
        ("null", None, False),
        (None, "null", False),
        ("a", "A", False),
        ("a\0b", "a", False),
        ("é", "e\u0301", False),
        ({"k": 1}, 1, False),
        ([1], 1, False),
    ],
)
def test_equality_is_typed_and_exact(house: Any, stored: object, wanted: Any, hit: bool) -> None:
    house.insert(
        house.new("d", metadata={"k": stored}),
        house.new("nested", metadata={"other": {"k": wanted}}),
        house.new("none"),
    )
    with house.catalog.read() as session:
        assert documents.select_ids(session, house.collection, Filters(metadata={"k": wanted})) == ["d"] * hit


PARTS = [
    "'",
    '"',
    "`",
    "]",
    "[",
    "$",
    ".",
    "%",
    "_",
    "*",
    "?",
    ":x",
    ";--",
    "\\",
    "\n",
    "/../..",
    "\x7f",
    "\ufeff",
    "\uffff",
    "😀",
]
HOSTILE = [
    *PARTS,
    *(one + two for one in PARTS for two in PARTS if one < two),
    "'; DROP TABLE document; --",
    "' OR '1'='1",
    '$."a"',
    "$[0]",
    "../../etc/passwd",
    "C:\\con",
    "-rf",
    "{}",
    "null",
    "NaN",
    "%s%n",
    "{0}",
    "\u202e",
    "e\u0301",
    "é",
    "x" * 4000,
][:216]


def test_hostile_strings_are_only_strings(house: Any) -> None:
    assert len(set(HOSTILE)) >= 200
    named = (
        dict.fromkeys(("source", "subject", "writer", "batch"), name) | {"metadata": {name: name}} for name in HOSTILE
    )
    house.insert(*(house.new(name, **values) for name, values in zip(HOSTILE, named, strict=True)))
    with house.fresh() as catalog, catalog.read() as session:
        for name in HOSTILE:
            for filters in (
                Filters(ids=(name,)),
                Filters(source=name),
                Filters(subject=name),
                Filters(writer=name),
                Filters(batch=name),
                Filters(metadata={name: name}),
            ):
                assert documents.select_ids(session, house.collection, filters) == [name]
        assert documents.existing(session, house.collection, HOSTILE) == set(HOSTILE)
    with house.catalog.write() as session:
        assert erasing.delete_many(session, house.collection, HOSTILE[:100]) == 100
        assert documents.count(session, house.collection) == len(HOSTILE) - 100


@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_id_selects_itself_alone(memory: tuple[Catalog, str, str], name: str) -> None:
    catalog, collection, segment = memory
    names = {name, name + "x", "x" + name}
    with catalog.write() as session:
        rows = [documents.NewDocument(i, segment, bytes(32), np.array([1]), T0) for i in names]
        documents.insert_many(session, collection, rows)
        assert documents.existing(session, collection, [name]) == {name}
        assert erasing.delete_many(session, collection, [name]) == 1
        assert erasing.delete_many(session, collection, names) == len(names) - 1  # "x" makes two, not three


def test_times_bound_as_promised(house: Any, clock: Any) -> None:
    day = timedelta(days=1)
    clock(T0)
    house.insert(
        *(
            house.new(f"d{i}", created_at=T0 + i * day, expires_at=None if i == 0 else T0 + 10 * i * day)
            for i in range(4)
        )
    )
    cases = [
        (Filters(created_before=T0 + day), ["d0"]),
        (Filters(created_after=T0 + day), ["d1", "d2", "d3"]),
        (Filters(created_after=T0 + day, created_before=T0 + 3 * day), ["d1", "d2"]),
        (Filters(expires_before=T0 + 20 * day), ["d1"]),
        (Filters(expires_before=T0 + 20 * day + timedelta(microseconds=1)), ["d1", "d2"]),
        (Filters(ids=("d3", "d0", "d3", "none")), ["d0", "d3"]),
        (Filters(ids=()), []),
        (Filters(scope=Scope.STORED), ["d0", "d1", "d2", "d3"]),
    ]
    with house.catalog.read() as session:
        for filters, expected in cases:
            assert documents.select_ids(session, house.collection, filters) == expected
            assert documents.count(session, house.collection, filters) == len(expected)
            assert documents.token_total(session, house.collection, filters) == 3 * len(expected)
            assert sorted(row.id for row in documents.select(session, house.collection, filters)) == expected


def test_documents_of_later_states_are_hidden_unless_asked_for(house: Any) -> None:
    house.insert(house.new("d"), house.new("e"))
    with house.catalog.write() as session:
        session.execute(text("UPDATE document SET state = 'unheard of' WHERE id = 'e'"))
    with house.catalog.read() as session:
        for scope, expected in zip(Scope, (["d"], [], ["d"], ["d", "e"]), strict=True):
            assert documents.select_ids(session, house.collection, Filters(scope=scope)) == expected


@pytest.mark.parametrize("limit", [None, 5])
@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({}, "abc"),
        ({"source": "s"}, "ac"),
        ({"created_before": T0 + timedelta(seconds=1)}, "ab"),
        ({"metadata": {"k": 1}}, "b"),
        ({"writer": "w", "source": "s"}, "c"),
    ],
)
def test_ids_are_combined_with_other_filters(house: Any, limit: int | None, more: dict[str, Any], names: str) -> None:
    later = T0 + timedelta(seconds=2)
    house.insert(
        house.new("a", source="s", created_at=T0),
        house.new("b", metadata={"k": 1}, created_at=T0),
        house.new("c", source="s", writer="w", created_at=later),
        house.new("d", source="s", metadata={"k": 1}, writer="w", created_at=T0),
    )
    with house.catalog.read() as session:
        filters = Filters(ids=("c", "a", "b", "none"), **more)
        assert documents.select_ids(session, house.collection, filters, limit=limit) == list(names)
        rows = documents.select(session, house.collection, filters, order="oldest", limit=limit)
        assert [row.id for row in rows] == list(names)
        assert documents.token_total(session, house.collection, filters) == 3 * len(names)
        assert documents.count(session, house.collection, filters) == len(names)


def test_build_names_the_filters() -> None:
    assert Filters.build(source="a") == Filters(source="a")
    with pytest.raises(InvalidInput, match=r"unknown filter 'sauce', 'sbject'; the filters are: ids, source, subject"):
        Filters.build(sauce="a", sbject="b", source="c")
    assert Filters.build(Scope.STORED, batch="a") == Filters(batch="a", scope=Scope.STORED)
    with pytest.raises(InvalidInput, match="unknown filter 'scope'"):  # a caller cannot ask for hidden documents
        Filters.build(scope=Scope.ANY)


@pytest.mark.parametrize(
    "bad",
    [
        {"ids": "abc"},
        {"ids": b"abc"},
        {"ids": 5},
        {"ids": ("a", 1)},
        {"ids": ("a\0b",)},
        {"source": ""},
        {"source": 1},
        {"subject": ["a"]},
        {"writer": "\ud800"},
        {"created_before": datetime(2024, 1, 1)},
        {"created_after": "2024-01-01"},
        {"expires_before": T0.date()},
        {"metadata": "a"},
        {"metadata": {1: 2}},
        {"metadata": {"a": [1]}},
        {"metadata": {"a": {}}},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": "\ud800"}},
        {"batch": ""},
        {"batch": 1},
    ],
)
def test_what_no_document_could_have_is_refused(bad: dict[str, Any]) -> None:
    for make in (Filters, Filters.build):
        with pytest.raises(InvalidInput):
            make(**bad)


def test_empty_means_that_everything_matches() -> None:
    for empty in (Filters(), Filters(metadata={}), *(Filters(scope=scope) for scope in Scope)):
        assert empty.is_empty
    some = {"ids": (), "source": "a", "subject": "a", "writer": "a", "batch": "a", "metadata": {"a": None}}
    times = dict.fromkeys(("created_before", "created_after", "expires_before"), T0)
    for name, value in {**some, **times}.items():
        assert not Filters.build(**{name: value}).is_empty


def test_filters_do_not_change_with_what_they_were_made_of() -> None:
    metadata, ids = {"a": 1}, ["x"]
    filters = Filters(metadata=metadata, ids=ids)  # type: ignore[arg-type]
    metadata["a"], ids[0] = 2, "y"
    assert filters == Filters(metadata={"a": 1}, ids=("x",))
    with pytest.raises(TypeError):
        filters.metadata["a"] = 2  # type: ignore[index]


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters(source="a"), "ix_document_collection_id_source_id"),
        (Filters(subject="a"), "ix_document_collection_id_subject_id"),
        (Filters(writer="a"), "ix_document_collection_id_writer_id"),
        (Filters(batch="a"), "ix_document_collection_id_batch_id"),
        (Filters(created_before=T0), "ix_document_collection_id_created_at_id"),
        (Filters(expires_before=T0), "ix_document_collection_id_expires_at_id"),
        (Filters(ids=("a",)), "sqlite_autoindex_document"),
    ],
)
def test_filters_use_their_index(house: Any, filters: Filters, index: str) -> None:
    statement = select(Document.id).where(*conditions(house.collection, filters))
    compiled = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    with house.catalog.read() as session:
        plan = session.execute(text("EXPLAIN QUERY PLAN " + str(compiled).replace(":", "\\:"))).all()
    assert any(index in row[3] for row in plan), plan
