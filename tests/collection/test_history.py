"""History independence, segments, growth: what a memory holds is a function of its documents."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb

SIZES = {"empty": 0, "word": 1, "line": 12, "page": 900, "book": 2500}
DOCUMENTS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.tuples(st.sampled_from([*SIZES, "word", "line"]), st.integers(0, 3)), max_size=6
)
HISTORY = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "extra", "delete", "compact", "batch"]),
        st.integers(0, 7),
        st.sampled_from(["word", "line", "page"]),
    ),
    max_size=8,
)


def live(db: memodb.Store, wanted: dict[str, str], prose: Callable[..., str], history: Any, order: Any) -> None:
    """Play a history, whatever it does, and then bring the store to hold the wanted documents."""
    for number, (verb, which, size) in enumerate(history):
        held = sorted(document.id for document in db.documents())
        name = "abcdefgh"[which]
        if verb == "append" and name in wanted and name not in held:
            db.append(wanted[name], id=name)
        elif verb == "extra" and name not in held:
            db.append(prose(SIZES[size], 50 + number), id=name)
        elif verb == "delete" and held:
            db.delete(held[which % len(held)])
        elif verb == "compact":
            db.compact()
        elif verb == "batch":
            db.append_many({"id": f"batch {number} {i}", "text": prose(5, i)} for i in range(which))
    for document in db.documents():
        if wanted.get(document.id) != db.text(document.id):
            db.delete(document.id)
    for name in order:
        db.append(wanted[name], id=name)


def same_documents_same_digest(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], documents: Any, first: Any, then: Any, order: Any
) -> None:
    wanted = {name: prose(SIZES[size], seed) for name, (size, seed) in documents.items()}
    with fresh() as one, fresh() as other:
        live(one, wanted, prose, first, sorted(wanted))
        live(other, wanted, prose, then, order)
        for db in (one, other):
            assert db.check().ok
            assert db.compact() in (True, False)
            assert not db.compact(), "the canonical layout is canonical"
            assert db.stats().false_recall <= db.stats().promised_false_recall
            assert db.check().ok
            assert {d.id: db.text(d.id) for d in db.documents()} == wanted
        assert one.digest() == other.digest()


@given(DOCUMENTS, HISTORY, HISTORY, st.data())
@settings(max_examples=5, deadline=None)
def test_after_compaction_only_the_documents_tell(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], documents: Any, first: Any, then: Any, data: Any
) -> None:
    order = data.draw(st.permutations(sorted(documents)))
    same_documents_same_digest(fresh, prose, documents, first, then, order)


@pytest.mark.stress
@given(DOCUMENTS, HISTORY, HISTORY, st.data())
@settings(max_examples=round(300 * float(os.environ.get("MEMODB_STRESS", "1"))), deadline=None)
def test_after_compaction_only_the_documents_tell_stress(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], documents: Any, first: Any, then: Any, data: Any
) -> None:
    order = data.draw(st.permutations(sorted(documents)))
    same_documents_same_digest(fresh, prose, documents, first, then, order)


def test_other_seeds_settings_and_documents_tell(fresh: Callable[..., memodb.Store]) -> None:
    digests = set()
    for settings_, text, name in [
        ({}, "some text", "a"),
        ({"seed": bytes(32)}, "some text", "a"),
        ({"false_recall": 0.02}, "some text", "a"),
        ({"window": 4}, "some text", "a"),
        ({"heads": 3}, "some text", "a"),
        ({"segment_tokens": 8192}, "some text", "a"),
        ({}, "some text ", "a"),
        ({}, "some text", "b"),
    ]:
        with fresh(**settings_) as db:
            db.append(text, id=name)
            db.compact()
            digests.add(db.digest())
    assert len(digests) == 8


def test_compaction_keeps_every_answer(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], model: Any, tmp_path: Path
) -> None:
    expected = model()
    with fresh(tmp_path / "s") as db, memodb.connect(tmp_path / "s", read_only=True) as reader:
        for number in range(8):
            db.append(prose(1200, number), id=f"{number}")
        for number in (0, 3, 4):
            db.delete(f"{number}")
        for document in db.documents():
            expected.put(document.id, db.text(document.id), db.tokens(document.id))
        prompts = expected.prompts(1, [0, 1, 4, 16, 30])
        expected.require(reader, prompts, exact=False)
        created = {document.id: document for document in db.documents()}
        assert db.compact()
        assert {document.id: document for document in db.documents()} == created
        for handle in (db, reader):
            expected.require(handle, prompts, exact=False)
            assert handle.check().ok
        assert reader.digest() == db.digest()
        assert not db.compact()
        digest = db.digest()
    with memodb.connect(tmp_path / "s") as db:
        assert db.digest() == digest
        assert not db.compact()


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1, 300, 900, 2500]), st.integers(0, 9)), max_size=14))
@settings(max_examples=6, deadline=None)
def test_growth_keeps_the_promise_and_misses_nothing(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], model: Any, steps: Any
) -> None:
    """At every moment: the promise holds, supports of segments add up, no two segments have one place."""
    expected = model()
    with fresh() as db:
        for number, (deletes, words, which) in enumerate(steps):
            names = sorted(expected.texts)
            if deletes and names:
                name = names[which % len(names)]
                db.delete(name, verify=False)
                expected.drop(name)
            else:
                text = prose(words, which)
                db.append(text, id=f"{number}")
                expected.put(f"{number}", text, db.tokenizer.encode(text))
            stats = db.stats()
            assert stats.false_recall <= stats.promised_false_recall
            assert stats.documents == len(expected.texts) == sum(s.documents for s in stats.segments)
            assert stats.tokens == sum(map(len, expected.tokens.values())) == sum(s.tokens for s in stats.segments)
            assert all(segment.documents for segment in stats.segments)
            places = [segment.geometry.ordinal for segment in db._collection._memory.segments.values()]
            assert sorted(places) == sorted(set(places))
        expected.require(db, expected.prompts(1, [0, 1, 4, 16]), exact=False)
        assert db.check().ok


def test_the_place_of_an_emptied_segment_is_taken_again(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str]
) -> None:
    def places() -> list[int]:
        return sorted(segment.geometry.ordinal for segment in db._collection._memory.segments.values())

    with fresh() as db:
        for number in range(4):
            db.append(prose(2000, number), id=f"{number}")
        assert len(places()) > 1
        before = places()
        first = next(d.id for d in db.documents(order="id"))
        db.delete(first)
        assert 0 not in places()
        db.append(prose(2000, 9), id="9")
        assert places() == before
        assert db.check().ok


def test_supports_of_segments_add_up(fresh: Callable[..., memodb.Store], prose: Callable[..., str]) -> None:
    quoted = " this very sentence stands in every one of the documents of the store"
    with fresh(false_recall=1e-6) as db:
        for number in range(8):
            db.append(prose(900, number) + quoted, id=f"{number}")
        assert len(db.stats().segments) > 2
        assert db.next_tokens(" this very sentence stands in every one of the")[0].support == 8
        for left in range(7, 0, -1):
            db.delete(f"{left}")
            assert db.next_tokens(" this very sentence stands in every one of the")[0].support == left
