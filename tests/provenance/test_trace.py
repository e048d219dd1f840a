"""Tracing against brute force: every common run is found, and nothing that is not one."""

import importlib
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb.catalog.models import TABLES
from memodb.catalog.seals import seal, sealed_columns
from memodb.provenance.characters import characters_before

tracing = importlib.import_module("memodb.provenance.trace")  # the package calls its function so

RESEAL = f"UPDATE document SET seal = memodb_seal({', '.join(sealed_columns(TABLES['document']))})"
Oracle = Callable[[list[int], list[int], int], set[tuple[int, int]]]

WORD = st.sampled_from(["one", "two", "three", "four"])
WORDS = st.one_of(st.lists(WORD, min_size=8, max_size=30), st.lists(WORD, min_size=8, max_size=30), st.lists(WORD))
QUERY = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(3, 15)), min_size=1, max_size=3)


@given(st.lists(WORDS, min_size=2, max_size=4), QUERY, st.integers(3, 6), st.sampled_from([1, 40, 1 << 18]))
@settings(max_examples=24, deadline=None)
def test_a_trace_is_complete_and_exact(
    fresh: Callable[..., memodb.Store],
    runs_of: Oracle,
    documents: list[list[str]],
    pieces: list[Any],
    least: int,
    at_once: int,
) -> None:
    cut = [" ".join(documents[which % len(documents)][at : at + length]) for which, at, length in pieces]
    text = " five ".join(cut)
    with patch.object(tracing, "_TOKENS_AT_ONCE", at_once), fresh(window=3) as db:
        for number, words in enumerate(documents):
            db.append(" ".join(words), id=f"{number}")
        if len(documents) > 1:
            db.delete("0")
        spans = db.trace(text, min_tokens=least)
        assert [(s.start, -s.end) for s in spans] == sorted((s.start, -s.end) for s in spans)
        query, offsets = db.tokenizer.encode_with_offsets(text)
        wanted = set()
        for document in db.documents():
            for start, end in runs_of(query.tolist(), db.tokens(document.id).tolist(), least):
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


CHARACTERS = st.one_of(st.sampled_from("ab é日😀\ufffd\n"), st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.text(CHARACTERS, max_size=20), min_size=1, max_size=4), st.data())
def test_characters_are_counted_without_the_text(texts: list[str], data: Any) -> None:
    """As the tokenizer says, that made the tokens; also where one begins inside of a character."""
    tokenizer = memodb.Tokenizer.shipped()
    encoded = [tokenizer.encode_with_offsets(text) for text in texts]
    joined = np.concatenate([part for ids, _ in encoded for part in (ids, [-3])]).astype(np.int32)
    edges = np.cumsum([0, *(ids.size + 1 for ids, _ in encoded[:-1])])
    for edge, (ids, offsets) in zip(edges.tolist(), encoded, strict=True):
        if ids.size:
            chosen = data.draw(st.lists(st.integers(0, ids.size - 1)))
            before = characters_before(tokenizer, joined, np.array([edge, *(edge + at for at in chosen)]))
            assert before is not None
            assert (before[1:] - before[0]).tolist() == offsets[chosen, 0].tolist()


def test_an_added_token_is_spelled_as_it_is_said(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    """Not a character for each byte: one that stands for no character, which bytes that are none decode to."""
    engine = tokenizers.Tokenizer.from_str(memodb.Tokenizer.shipped().json.decode())
    engine.add_tokens([tokenizers.AddedToken("\ufffd\u00e9\ufffd", normalized=False)])
    engine.save(str(tmp_path / "added.json"))
    said = "one two three four five six seven eight nine ten"
    with fresh(tokenizer=tmp_path / "added.json") as db:
        db.append(f"\ufffd\u00e9\ufffd, {said}", id="a")
        (span,) = db.trace(said.removeprefix("one"))
        assert span.documents == (memodb.Source("a", 8),)


def test_a_token_outside_of_the_vocabulary_is_damage() -> None:
    tokenizer = memodb.Tokenizer.shipped()
    tokens = np.array([5, tokenizer.vocabulary_size - 1], dtype=np.int32)
    characters_before(tokenizer, tokens, np.array([0]))
    with pytest.raises(memodb.CorruptStore, match="vocabulary"):
        characters_before(tokenizer, tokens + np.int32(1), np.array([0]))


@pytest.mark.parametrize("lossless", [True, False])
def test_a_tokenizer_of_words_is_asked_where_a_span_begins(
    fresh: Callable[..., memodb.Store], tmp_path: Path, lossless: bool
) -> None:
    """Its pieces are joined by spaces; and one that lower-cases has texts that are kept."""
    words = ["[UNK]", *"abcdefg"]
    engine = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    engine.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if not lossless:
        engine.normalizer = tokenizers.normalizers.Lowercase()
    engine.save(str(tmp_path / "words.json"))
    with fresh(window=3, tokenizer=tmp_path / "words.json") as db:
        text = "a b c d e f g" if lossless else "a B  c D e f G"
        db.append(text, id="d")
        (span,) = db.trace("c d e f" if lossless else "C d e F")
        assert span.documents == (memodb.Source("d", text.lower().index("c")),)


def test_where_a_text_is_kept_the_text_decides(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    """A tokenizer of bytes that makes two characters of one: what it decodes is longer than what was said."""
    engine = tokenizers.Tokenizer.from_str(memodb.Tokenizer.shipped().json.decode())
    engine.normalizer = tokenizers.normalizers.Replace("\u00df", "ss")
    engine.save(str(tmp_path / "normalising.json"))
    said = "one two three four five six seven eight nine ten"
    with fresh(tokenizer=tmp_path / "normalising.json") as db:
        db.append(f"\u00df\u00df\u00df, {said}", id="a")
        (span,) = db.trace(said)
        assert f"\u00df\u00df\u00df, {said}"[span.documents[0].offset :].strip() == span.text.strip()


def test_a_document_under_another_name_is_damage(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    """Whoever can write the file can seal a row: the key of the row is a keyed hash of the name."""
    said = "one two three four five six seven eight nine ten"
    with fresh(tmp_path / "s") as db:
        db.append(said, id="a")
        with closing(sqlite3.connect(tmp_path / "s" / "catalog.db")) as raw, raw:
            raw.create_function("memodb_seal", -1, seal)
            for (trigger,) in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                raw.execute(f"DROP TRIGGER {trigger}")
            raw.execute("UPDATE document SET id = 'b'")
            raw.execute(RESEAL)
        with pytest.raises(memodb.CorruptStore, match="damaged"):
            db.trace(said)


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
