"""Appending and reading back: what is stored is what was given, and a refused call changes nothing."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import memodb

EXPIRY = datetime(2031, 5, 17, 12, 30, tzinfo=UTC)
PROVENANCE = {
    "source": "notebook",
    "subject": "harbour",
    "writer": "me",
    "metadata": {"page": 3, "ok": True, "nested": {"a": [1, None]}},
    "expires_at": EXPIRY,
}


def together(db: memodb.Store, *records: dict[str, Any]) -> None:
    with db.transaction():
        for record in records:
            db.append(**record)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.lists(TEXTS, max_size=6))
@example([""])
@example(["\0", "\r\n", "‮‏", "e\u0301\u00e9", "😀" * 9, " ", "<|endoftext|>", "\x7f\x80\uffff"])
@example(["same", "same", "same"])
@settings(max_examples=14, deadline=None)
def test_texts_come_back_exactly(fresh: Callable[..., memodb.Store], texts: list[str]) -> None:
    with fresh() as db:
        stored = [db.append(text) for text in texts]
        assert len({document.id for document in stored}) == len(texts) == len(db)
        for text, document in zip(texts, stored, strict=True):
            assert db.text(document.id) == text
            assert db.get(document.id) == document
            assert document.id in db
            tokens = db.tokens(document.id)
            assert tokens.dtype == np.int32
            assert tokens.tolist() == db.tokenizer.encode(text).tolist()
            assert document.token_count == len(tokens)
        assert {document.id for document in db.documents()} == {document.id for document in stored}


def test_a_document_keeps_its_provenance_in_a_fresh_handle(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    with fresh(tmp_path / "s") as db:
        before = datetime.now(UTC)
        document = db.append("some text", id="a", **PROVENANCE)
        assert before <= document.created_at <= datetime.now(UTC)
    with memodb.connect(tmp_path / "s", read_only=True) as db:
        assert db.get("a") == document
        assert {name: getattr(document, name) for name in PROVENANCE} == PROVENANCE
        assert (document.id, document.collection, document.state) == ("a", "default", "live")
        assert db.text("a") == "some text"


def test_ids_are_random_and_opaque(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as one, fresh() as other:
        ids = [db.append("same text").id for db in (one, one, other)]
    assert len(set(ids)) == 3
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in ids)


def test_appending_again_adds_nothing(fresh: Callable[..., memodb.Store], contents: Callable[..., Any]) -> None:
    with fresh() as db:
        first = db.append("a text", id="a", **PROVENANCE)
        before = contents(db)
        moved = {**PROVENANCE, "expires_at": EXPIRY.astimezone(timezone(timedelta(hours=5)))}
        assert db.append("a text", id="a", **PROVENANCE) == first
        assert db.append("a text", id="a", **moved) == first
        assert db.append("a text", id="a") == first
        assert db.append_many([{"text": "a text", "id": "a"}]).existing == 1
        assert contents(db) == before


@pytest.mark.parametrize(
    "other",
    [
        {"text": "another text"},
        {"text": "a text "},
        {"source": "Notebook"},
        {"subject": "x"},
        {"writer": "x"},
        {"metadata": {}},
        {"metadata": {"page": 3, "ok": 1, "nested": {"a": [1, None]}}},
        {"metadata": {"page": 3.0, "ok": True, "nested": {"a": [1, None]}}},
        {"expires_at": EXPIRY + timedelta(microseconds=1)},
    ],
    ids=str,
)
def test_an_id_that_means_something_else_is_refused(
    fresh: Callable[..., memodb.Store], contents: Callable[..., Any], other: dict[str, Any]
) -> None:
    record = {"text": "a text", "id": "a", **PROVENANCE, **other}
    with fresh() as db:
        db.append("a text", id="a", **PROVENANCE)
        before = contents(db)
        with pytest.raises(memodb.DocumentExists, match="'a'"):
            db.append(**record)
        with pytest.raises(memodb.DocumentExists):
            together(db, {"text": "by the way"}, record)
        with pytest.raises(memodb.DocumentExists):
            db.append_many([record])
        assert contents(db) == before
        with pytest.raises(memodb.DocumentExists):
            together(db, {"text": "a text", "id": "b", **PROVENANCE}, {**record, "id": "b"})
        assert contents(db) == before


LONG = "x" * 5000
INVALID: list[dict[str, Any]] = [
    {"text": 5},
    {"text": None},
    {"text": b"bytes"},
    {"text": "lone \ud800 surrogate"},
    {"text": "x" * (memodb.MAX_TEXT_CHARACTERS + 1)},
    *({"id": bad} for bad in ("", "a\0b", "\ud800", LONG, 5, b"a", ["a"])),
    *({name: bad} for name in ("source", "subject", "writer") for bad in ("", "a\0b", "\ud800", LONG, 5)),
    *(
        {"metadata": bad}
        for bad in ([], "x", 5, {1: 2}, {"a": {2: 3}}, {"a": float("nan")}, {"a": object()}, {"a": ()})
    ),
    {"metadata": {"a": "\ud800"}},
    {"metadata": {"a": "x" * 2**20}},
    *({"expires_at": bad} for bad in (datetime(2031, 1, 1), 5, "soon", datetime(1, 1, 1, tzinfo=timezone.max))),
]


@pytest.mark.parametrize("bad", INVALID, ids=lambda bad: f"{next(iter(bad))}={type(next(iter(bad.values()))).__name__}")
def test_invalid_input_is_refused_and_changes_nothing(
    fresh: Callable[..., memodb.Store], contents: Callable[..., Any], bad: dict[str, Any]
) -> None:
    error = memodb.InvalidText if "text" in bad else memodb.InvalidInput
    record = {"text": "good", **bad}
    with fresh() as db:
        db.append("what was there", id="z")
        before = contents(db)
        with pytest.raises(error):
            db.append(**record)
        with pytest.raises(error):
            together(db, {"text": "before it"}, record)
        with pytest.raises(error):
            db.append_many([record])
        assert contents(db) == before


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", 5, None])
def test_reading_by_an_impossible_id_is_a_typed_error(fresh: Callable[..., memodb.Store], name: Any) -> None:
    with fresh() as db:
        for read in (db.get, db.text, db.tokens, db.delete):
            with pytest.raises(memodb.InvalidInput):
                read(name)


def test_reading_an_unknown_id(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        db.append("text", id="a")
        for read in (db.get, db.text, db.tokens):
            with pytest.raises(memodb.DocumentNotFound, match="'b'"):
                read("b")
        assert "b" not in db
        assert 5 not in db


def test_a_document_longer_than_a_segment(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], model: Any, tmp_path: Path
) -> None:
    text = prose(3000, 1)
    expected = model()
    with fresh(tmp_path / "s", false_recall=1e-7) as db:
        document = db.append(text, id="long")
        assert document.token_count > 4096
        db.append("short", id="short")
        expected.put("long", text, db.tokens("long"))
        expected.put("short", "short", db.tokens("short"))
        assert db.text("long") == text
        assert db.stats().false_recall <= 1e-7
        digest = db.digest()
    with memodb.connect(tmp_path / "s", read_only=True) as db:
        assert db.text("long") == text
        assert db.digest() == digest
        expected.require(db, expected.prompts(1, [1, 4, 16, 17] * 5), exact=False)
        assert db.check().ok


def test_the_same_text_under_two_ids_counts_twice(fresh: Callable[..., memodb.Store]) -> None:
    with fresh(false_recall=1e-7) as db:
        db.append("one two three four", id="a")
        db.append("one two three four", id="b")
        assert db.next_tokens("one two three")[0].support == 2
        db.delete("a")
        assert db.next_tokens("one two three")[0].support == 1
        assert db.text("b") == "one two three four"


def test_what_a_caller_does_with_its_metadata_changes_no_document(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        metadata = {"list": [1]}
        document = db.append("text", id="a", metadata=metadata)
        metadata["list"].append(2)
        document.metadata["more"] = 1
        assert db.get("a").metadata == {"list": [1]}
        db.get("a").metadata["x"] = 1
        assert db.get("a").metadata == {"list": [1]}


# -- many ----------------------------------------------------------------------------------------------------------


def test_any_iterable_and_every_kind_of_record(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        records = iter(
            ["plain", {"text": "mapped", "id": "m", "source": "s"}, memodb.Record("recorded", "r", metadata={"a": 1})]
        )
        result = db.append_many(records)
        assert (result.appended, result.existing, result.characters) == (3, 0, len("plainmappedrecorded"))
        assert result.tokens == sum(document.token_count for document in db.documents())
        assert db.get("m").source == "s"
        assert db.get("r").metadata == {"a": 1}
        assert sorted(map(db.text, (document.id for document in db.documents()))) == ["mapped", "plain", "recorded"]
        assert db.append_many([]) == memodb.AppendResult()


@pytest.mark.parametrize(
    "bad", [5, None, b"x", ["text"], {}, {"id": "a"}, {"text": "x", "colour": 1}, {"text": "x", "expires_at": "soon"}]
)
def test_a_bad_record_keeps_all_before_it_and_says_so(
    fresh: Callable[..., memodb.Store], bad: Any, tmp_path: Path
) -> None:
    with fresh(tmp_path / "s") as db, pytest.raises(memodb.InvalidInput) as caught:
        db.append_many([*(f"text {i}" for i in range(5)), bad, "after"])
    assert any("at record 6" in note and "stored before it: 5" in note for note in caught.value.__notes__)
    with memodb.connect(tmp_path / "s", read_only=True) as db:
        assert sorted(db.text(d.id) for d in db.documents()) == [f"text {i}" for i in range(5)]
        assert db.check().ok


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_conflict_in_the_middle_keeps_all_before_it_once(
    fresh: Callable[..., memodb.Store], named: bool, inside: bool
) -> None:
    """Records without an id, tried again one by one, must not be stored under two ids."""
    with fresh() as db:
        db.append("taken", id="taken")
        first = [{"text": f"text {i}", **({"id": f"{i}"} if named else {})} for i in range(4)]
        clash = {"text": "other", "id": "0" if named and inside else "taken"}
        with pytest.raises(memodb.DocumentExists) as caught:
            db.append_many([*first, clash, "after"])
        assert any("at record 5" in note and "stored before it: 4" in note for note in caught.value.__notes__)
        assert sorted(db.text(d.id) for d in db.documents()) == ["taken", *(f"text {i}" for i in range(4))]
        assert db.check().ok


def test_a_refused_batch_counts_what_it_stored(fresh: Callable[..., memodb.Store]) -> None:
    told: list[memodb.AppendResult] = []
    with fresh() as db:
        db.append("old", id="old")
        records = [{"text": "old", "id": "old"}, "new", "new", {"text": "clash", "id": "old"}]
        with pytest.raises(memodb.DocumentExists) as caught:
            db.append_many(records, progress=told.append)
        assert any("at record 4" in note and "stored before it: 3" in note for note in caught.value.__notes__)
        assert len(db) == 3


@pytest.mark.parametrize("several", ["one text", {"text": "one text"}, memodb.Record("one text")])
def test_one_record_is_not_several(fresh: Callable[..., memodb.Store], several: Any) -> None:
    with fresh() as db:
        with pytest.raises(memodb.InvalidInput):
            db.append_many(several)
        assert len(db) == 0


def test_progress_is_told_after_the_commit(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    told: list[memodb.AppendResult] = []
    pulled = 0

    def records() -> Any:
        nonlocal pulled
        for number in range(4500):
            pulled += 1
            yield {"text": f"{number % 7}", "id": f"{number}"}

    with fresh(tmp_path / "s") as db, memodb.connect(tmp_path / "s", read_only=True) as reader:

        def progress(result: memodb.AppendResult) -> None:
            told.append(result)
            assert len(reader) == result.appended == pulled
            assert result.tokens == reader.stats().tokens
            assert reader.digest() == db.digest()

        result = db.append_many(records(), progress=progress)
    assert told[-1] == result
    assert result.appended == 4500
    steps = np.diff([0, *(t.appended for t in told)])
    assert len(told) > 2
    assert steps.min() > 0
    assert steps.max() <= 2048


def test_batches_are_bounded_in_characters(fresh: Callable[..., memodb.Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memodb.collection.streams._CHARACTERS", (250_000, 250_000))
    told: list[memodb.AppendResult] = []
    with fresh(segment_tokens=1 << 20) as db:
        db.append_many(("x " * 50_000 for _ in range(6)), progress=told.append)
    assert [result.appended for result in told] == [3, 6]


def test_batches_grow_with_what_a_stream_has_stored(
    fresh: Callable[..., memodb.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of it, between two bounds."""
    monkeypatch.setattr("memodb.collection.streams._CHARACTERS", (10_000, 30_000))
    told: list[memodb.AppendResult] = []
    with fresh() as db:
        db.append_many(("x " * 500 for _ in range(300)), progress=told.append)
    stored = [0, *(result.characters for result in told)]
    steps = np.diff(stored)
    assert steps[:4].tolist() == [10_000, 10_000, 10_000, 10_000]
    for before, step in zip(stored[:-1], steps[:-1], strict=False):
        assert 0 <= step - min(max(10_000, before // 4), 30_000) < 1000
    assert steps.max() == 30_000
    assert stored[-1] == 300_000


def test_batches_of_short_records_grow_too(fresh: Callable[..., memodb.Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memodb.collection.streams._RECORDS", (8, 20))
    told: list[memodb.AppendResult] = []
    with fresh() as db:
        db.append_many((f"text {number}" for number in range(140)), progress=told.append)
    assert np.diff([0, *(result.appended for result in told)]).tolist() == [8, 8, 8, 8, 8, 10, 12, 15, 19, 20, 20, 4]


def test_an_error_of_the_iterable_goes_through(fresh: Callable[..., memodb.Store]) -> None:
    def records() -> Any:
        yield "one"
        raise RuntimeError("the file broke")

    with fresh() as db:
        with pytest.raises(RuntimeError, match="the file broke"):
            db.append_many(records())
        assert db.check().ok


PROVENANCES = st.fixed_dictionaries(
    {"text": TEXTS},
    optional={
        "source": st.sampled_from(["s", "ß", "a b"]),
        "subject": st.sampled_from(["x", "y"]),
        "writer": st.just("w"),
        "metadata": st.dictionaries(
            st.text("ab", max_size=3),
            st.none() | st.booleans() | st.integers(-9, 9) | st.text("é", max_size=2),
            max_size=3,
        ),
        "expires_at": st.datetimes(min_value=datetime(2100, 1, 1), timezones=st.just(UTC)),
        "batch": st.sampled_from(["monday", "tuesday"]),
    },
)


@given(st.lists(PROVENANCES, max_size=5))
@settings(max_examples=10, deadline=None)
def test_an_export_appended_elsewhere_is_the_same(fresh: Callable[..., memodb.Store], records: list[Any]) -> None:
    def provenance(db: memodb.Store) -> Any:
        return {
            d.id: (db.text(d.id), d.source, d.subject, d.writer, d.batch, repr(d.metadata), d.expires_at)
            for d in db.documents()
        }

    with fresh() as one, fresh() as other:
        one.append_many(records)
        exported = list(one.export())
        assert [record["id"] for record in exported] == sorted(record["id"] for record in exported)
        other.append_many(exported)
        assert provenance(other) == provenance(one)
        one.compact()
        other.compact()
        assert one.digest() == other.digest()
        assert other.append_many(one.export()).existing == len(records)


def test_export_by_filter(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        db.append("a", id="a", source="x")
        db.append("b", id="b", source="y")
        assert [record["id"] for record in db.export(source="y")] == ["b"]
        with pytest.raises(memodb.InvalidInput):
            list(db.export(colour="y"))


def test_threads_append_each_document_once(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    with fresh(tmp_path / "s") as db:
        threads = [
            threading.Thread(target=lambda: [db.append(f"text {i}", id=f"{i}") for i in range(12)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(db) == 12
        assert db.check().ok


def test_a_store_may_require_provenance(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    path = tmp_path / "s"
    with fresh(path, require_provenance=True) as db:
        for given in ({}, {"source": "s"}, {"writer": "w"}):
            with pytest.raises(memodb.InvalidInput, match="require_provenance"):
                db.append("a text", **given)
        with pytest.raises(memodb.InvalidInput, match="record 2; stored before it: 1"):
            db.append_many([{"text": "a text", "source": "s", "writer": "w"}, {"text": "another", "source": "s"}])
        assert len(db) == 1
    with pytest.raises(memodb.StoreMismatch):
        memodb.connect(path, require_provenance=False)
    with memodb.connect(path, actor="loader-1") as db:  # whoever opened it is the writer of what names none
        document = db.append("another", source="s")
        assert (document.writer, db.get(document.id).writer) == ("loader-1", "loader-1")
        assert document.batch is not None
        assert db.check().ok


def test_a_segment_that_there_is_no_room_for_changes_nothing(
    fresh: Callable[..., memodb.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Growing needs a second segment beside the one that is full: refused before anything is allocated."""
    with fresh() as db:
        db.append("the sky over the harbour was the colour of slate", id="first")
        digest = db.digest()
        with monkeypatch.context() as patch:
            patch.setattr("memodb.memory.willshaw_memory._SMALL", 0)
            patch.setattr("memodb.memory.backend.Backend.available_bytes", lambda self: 1000)
            with pytest.raises(memodb.OutOfMemory, match="nothing was changed"):
                db.append_many({"text": f"{number} " * 900, "id": f"{number}"} for number in range(40))
        assert db.digest() == digest
        assert db.check().ok
        db.append_many({"text": f"{number} " * 900, "id": f"{number}"} for number in range(40))
        assert len(db) == 41
        assert db.check().ok
