"""Tracing against brute force: every common run is found, and nothing that is not one."""

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb

tracing = importlib.import_module("memodb.provenance.trace")  # the package calls its function so


def common_runs(query: list[int], document: list[int], least: int) -> set[tuple[int, int]]:
    """Maximal runs of the query that occur in the document, by the table of common suffixes, O(n m)."""
    ends = {}
    row = [0] * (len(document) + 1)
    for i, token in enumerate(query):
        row = [0, *(row[j] + 1 if other == token else 0 for j, other in enumerate(document))]
        longest = max(row)
        if longest >= least:
            ends[i + 1] = i + 1 - longest
    found: set[tuple[int, int]] = set()
    for end, start in ends.items():
        if not any(s <= start and end < e for e, s in ends.items()):
            found.add((start, end))
    return found


RUNS = st.lists(st.integers(0, 2), max_size=40)


@given(RUNS, RUNS, st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_runs_are_those_of_the_table(query: list[int], document: list[int], window: int) -> None:
    found = tracing._runs(np.array(query, dtype=np.int64), np.array(document, dtype=np.int64), window)
    assert {(start, end) for start, end, _ in found} == common_runs(query, document, window)
    for start, end, place in found:
        piece = query[start:end]
        first = next(p for p in range(len(document)) if document[p : p + end - start] == piece)
        assert place == first


@given(RUNS, RUNS, st.integers(1, 5), st.data())
@settings(max_examples=200, deadline=None)
def test_runs_are_found_from_where_windows_may_be_equal(
    query: list[int], document: list[int], window: int, data: st.DataObject
) -> None:
    """From the windows that are, and any others that only seem to be."""

    def begins(sequence: list[int], other: list[int]) -> np.ndarray:
        windows = {tuple(other[at : at + window]) for at in range(len(other) - window + 1)}
        places = range(len(sequence) - window + 1)
        equal = {at for at in places if tuple(sequence[at : at + window]) in windows}
        false = data.draw(st.sets(st.sampled_from(places), max_size=3)) if places else set()
        return np.array(sorted(equal | false), dtype=np.int64)

    ours, theirs = np.array(query, dtype=np.int64), np.array(document, dtype=np.int64)
    found = tracing._common_runs(ours, begins(query, document), theirs, begins(document, query), window)
    assert sorted(found) == sorted(tracing._runs(ours, theirs, window))


@pytest.mark.stress
@given(st.lists(st.integers(0, 3), max_size=300), st.lists(st.integers(0, 3), max_size=300), st.integers(1, 9))
@settings(max_examples=2000, deadline=None)
def test_runs_are_those_of_the_table_at_length(query: list[int], document: list[int], window: int) -> None:
    found = tracing._runs(np.array(query, dtype=np.int64), np.array(document, dtype=np.int64), window)
    assert {(start, end) for start, end, _ in found} == common_runs(query, document, window)


WORDS = st.lists(st.sampled_from(["one", "two", "three", "four"]), max_size=30)
QUERY = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25), st.integers(1, 15)), max_size=3)


@given(st.lists(WORDS, min_size=1, max_size=4), QUERY, st.integers(3, 6))
@settings(max_examples=24, deadline=None)
def test_a_trace_is_complete_and_exact(
    fresh: Callable[..., memodb.Store], documents: list[list[str]], pieces: list[Any], least: int
) -> None:
    cut = [" ".join(documents[which % len(documents)][at : at + length]) for which, at, length in pieces]
    text = " five ".join(cut)
    with fresh(window=3) as db:
        for number, words in enumerate(documents):
            db.append(" ".join(words), id=f"{number}")
        if len(documents) > 1:
            db.delete("0")
        spans = db.trace(text, min_tokens=least)
        assert [(s.start, -s.end) for s in spans] == sorted((s.start, -s.end) for s in spans)
        query, offsets = db.tokenizer.encode_with_offsets(text)
        wanted = set()
        for document in db.documents():
            for start, end in common_runs(query.tolist(), db.tokens(document.id).tolist(), least):
                wanted.add((document.id, int(offsets[start, 0]), int(offsets[end - 1, 1])))
        assert {(source.id, s.start, s.end) for s in spans for source in s.documents} == wanted
        for span in spans:
            assert span.tokens >= least
            assert text[span.start : span.end] == span.text
            for source in span.documents:
                assert db.text(source.id)[source.offset : source.offset + len(span.text)] == span.text


@given(st.text(st.sampled_from("aé日😀 \n"), min_size=1, max_size=40), st.data())
@settings(max_examples=24, deadline=None)
def test_offsets_are_characters(fresh: Callable[..., memodb.Store], text: str, data: Any) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start, len(text)))
    with fresh(window=2) as db:
        db.append(text, id="a")
        spans = db.trace(text[start:end], min_tokens=2)
        whole = db.trace(text, min_tokens=2)
        assert len(whole) == (len(db.tokens("a")) >= 2)
        assert all(span.text == text[span.start : span.end] for span in whole)
        for span in spans:
            assert span.text == text[start:end][span.start : span.end]
            (source,) = span.documents
            assert source.offset in db.tokenizer.encode_with_offsets(text)[1][:, 0]
            if "�" not in "".join(db.tokenizer.pieces(db.tokenizer.encode(text))):
                assert text[source.offset : source.offset + len(span.text)] == span.text


def test_a_span_that_begins_inside_of_a_character_is_told_at_that_character(fresh: Callable[..., memodb.Store]) -> None:
    """The two faces differ in their third byte of four, so the common run begins with the fourth."""
    with fresh(window=2) as db:
        db.append("seen: 😀 and nothing else", id="a")
        (span,) = db.trace("told: 🙀 and nothing else")[-1:]
        assert span.text == "🙀 and nothing else"
        assert span.documents == (memodb.Source("a", 6),)


def test_an_altered_quotation_is_traced_around_the_change(fresh: Callable[..., memodb.Store]) -> None:
    text = "the ship left the harbour before the sun was over the hills and nobody saw it go out to sea that morning"
    with fresh() as db:
        db.append(text, id="ship")
        db.append("nothing of the kind was ever said in this one, whatever you may have heard about it", id="other")
        (whole,) = db.trace(text)
        assert (whole.start, whole.end, whole.text) == (0, len(text), text)
        assert whole.documents == (memodb.Source("ship", 0),)
        altered = text.replace("nobody", "everybody")
        spans = db.trace(altered)
        assert [source.id for span in spans for source in span.documents] == ["ship", "ship"]
        first, second = spans
        assert first.end <= altered.index("everybody")
        assert second.start >= altered.index("everybody")
        assert first.tokens + second.tokens >= whole.tokens - 2
        assert text[second.documents[0].offset :] == altered[second.start :]
        assert db.trace("words in an order that no document here has ever had them in before today") == []


def test_a_span_in_several_documents_names_them_all(fresh: Callable[..., memodb.Store]) -> None:
    shared = "one two three four five six seven eight nine ten"
    with fresh() as db:
        for name in ("c", "a", "b"):
            db.append(f"{name} said: {shared}", id=name)
        spans = db.trace(f"they said: {shared}")
        assert [source.id for source in spans[0].documents] == ["a", "b", "c"]
        db.delete("b")
        assert [source.id for source in db.trace(f"they said: {shared}")[0].documents] == ["a", "c"]


@pytest.mark.parametrize("bad", [7, 0, -1, True, "8", 8.0])
def test_a_span_below_the_window_is_refused(fresh: Callable[..., memodb.Store], bad: Any) -> None:
    with fresh() as db:
        db.append("x " * 20, id="a")
        with pytest.raises(memodb.InvalidInput, match="window"):
            db.trace("x " * 20, min_tokens=bad)


def test_texts_shorter_than_a_window_have_no_spans(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        assert db.trace("nothing is stored here yet, so nothing can be found either") == []
        db.append("one two three", id="a")
        assert db.trace("one two three") == []
        assert db.trace("") == []


@pytest.mark.parametrize("least", [8, 500, 1500])
def test_repeated_content_is_one_span(fresh: Callable[..., memodb.Store], least: int) -> None:
    """A window that occurs a thousand times: a table of zeros."""
    with fresh() as db:
        db.append("start" + " 0" * 2000, id="zeros")
        started = time.monotonic()
        spans = db.trace(" 0" * 1500, min_tokens=least)
        assert time.monotonic() - started < 5
        assert [(span.tokens, span.documents) for span in spans] == [(1500, (memodb.Source("zeros", 5),))]


def test_several_segments_are_all_asked(fresh: Callable[..., memodb.Store], prose: Callable[..., str]) -> None:
    with fresh() as db:
        texts = {f"{i}": prose(1500, i) for i in range(6)}
        db.append_many({"id": name, "text": text} for name, text in texts.items())
        assert len(db.stats().segments) > 1
        for name, text in texts.items():
            at = text.index(" ", 1000)
            quoted = text[at : at + 200]
            found = [(s.tokens, source) for s in db.trace(quoted) for source in s.documents if source.id == name]
            tokens, source = max(found, key=lambda item: item[0])
            assert tokens >= len(db.tokenizer.encode(quoted)) - 1
            assert source.offset in (at, at + 1)
