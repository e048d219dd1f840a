"""Looks at a store after it was hurt, through its public calls, and says whether it is one of the stores it may be."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Collection, Iterable
from pathlib import Path

import pytest
from crash.harness import Outcome
from crash.workload import DEFAULT, Scenario, State, every_text, seed_of, source_of

import memodb

__all__ = ["SETTINGS", "read_state", "reader_view", "verify", "verify_outcome"]

SETTINGS = {"segment_tokens": 4096, "seed": seed_of(DEFAULT)}
"""As zygote.py opens its stores."""

_OPENING_WORDS = 6
"""Words of a text that no other text has; see workload.marker."""
_RECITED, _CHANCE = 16, 20
"""Tokens asked for after the beginning of a deleted text, and the characters of it that may be said by chance: unknown
contexts are answered at the promised rate of false recall, but not with the sentence that was deleted."""

_chance = random.Random(5)


def verify(
    path: Path, possible: Collection[State], known: set[tuple[str, str, str]], *, thorough: bool = False
) -> State:
    """Open a store, first as a reader and then for writing, and compare it with the states that it may be in.

    What a reader saw before a writer mended the store is what the writer must find: no document that was hidden from
    readers comes back.

    Parameters
    ----------
    path : Path
    possible : collection of State
    known : set of (collection, id, text)
        Every document that was ever stored, or tried: none answers but those of the state.
    thorough : bool
        Also open it a second time, compare its memories with those of a new store, and write to it.

    Returns
    -------
    State
        The one that it is in.
    """
    seen = reader_view(path)
    db = memodb.connect(path, **SETTINGS)
    try:
        state = read_state(db)
        allowed = list(possible) if seen is None else [seen]
        assert seen is None or seen in possible, _difference(seen, list(possible))
        assert state in allowed, _difference(state, allowed)
        for info in db.collections():
            handle = db.collection(info.name, create=False)
            report = handle.check()
            assert report.ok, report.findings
            _require_answers(handle, state, known, most=None if thorough else 1)
        if thorough:
            for info in db.collections():
                _require_memory(db.collection(info.name, create=False), state)
    finally:
        db.close()
    _require_tidy(path)
    if thorough:
        _require_serviceable(path, state)
    return state


def verify_outcome(root: Path, scenario: Scenario, state: State, outcome: Outcome, *, thorough: bool = False) -> None:
    """What a case left behind: its store, and the backup that it may have made."""
    steps = scenario.steps
    known = every_text((*scenario.before, *steps))
    verify(root / "store", outcome.possible(state, steps), known, thorough=thorough)
    for number, step in enumerate(steps):
        if step.do == "backup":
            finished = ["done", number] in outcome.lines
            assert (root / "backup").exists() or not finished
            if (root / "backup").exists():  # put there whole, or not at all
                memodb.restore(root / "backup", root / "restored", without_ledger=True)
                verify(root / "restored", outcome.possible(state, steps[:number]), known)


def reader_view(path: Path) -> State | None:
    """What a reader finds, before anybody has mended the store; None where it is told that this must come first."""
    try:
        with memodb.connect(path, read_only=True) as db:
            return read_state(db)
    except (memodb.StoreError, memodb.NotFound):
        return None


def read_state(db: memodb.Store) -> State:
    """Every document of every collection with its text; each way to ask for them says the same."""
    found = set()
    for info in db.collections():
        handle = db.collection(info.name, create=False)
        documents = {document.id: document for document in handle.documents()}
        exported = {record["id"]: record for record in handle.export()}
        assert len(handle) == len(documents) == info.documents
        assert documents.keys() == exported.keys()
        for name, record in exported.items():
            assert documents[name].source == record["source"] == source_of(name)
            found.add((info.name, name, record["text"]))
    return frozenset(found)


def _difference(state: State, allowed: list[State]) -> str:
    nearest = min(allowed, key=lambda other: len(other ^ state))
    lost = sorted((collection, name, text[:60]) for collection, name, text in nearest - state)
    extra = sorted((collection, name, text[:60]) for collection, name, text in state - nearest)
    return f"of {len(allowed)} possible states none; to the nearest, lost: {lost}, not expected: {extra}"


def _require_answers(db: memodb.Store, state: State, known: set[tuple[str, str, str]], *, most: int | None) -> None:
    """What is stored is found, and what is not answers nowhere."""
    texts = {document_id: text for collection, document_id, text in state if collection == db.name}
    for document_id, text in _some(texts.items(), most):
        assert any(source.id == document_id for span in db.trace(text) for source in span.documents), document_id
    for document_id, text in _some(((name, text) for where, name, text in known - state if where == db.name), most):
        if document_id not in texts:
            assert document_id not in db
            for ask in (db.get, db.text, db.tokens):
                with pytest.raises(memodb.DocumentNotFound):
                    ask(document_id)
        words = text.split(" ")
        opening = " ".join(words[:_OPENING_WORDS])
        for span in db.trace(text):
            assert all(span.text in texts[source.id] for source in span.documents), span
        if not any(other.startswith(opening) for other in texts.values()):
            said = db.complete(opening, max_tokens=_RECITED).text
            assert len(said) < _CHANCE or not " ".join(words[_OPENING_WORDS:]).startswith(said.strip()), said


def _some(documents: Iterable[tuple[str, str]], most: int | None) -> list[tuple[str, str]]:
    """At most so many of them, other ones each time."""
    found = sorted(documents)
    return found if most is None else _chance.sample(found, min(most, len(found)))


def _require_memory(db: memodb.Store, state: State) -> None:
    """After compact() the memory is, byte for byte, that of a new store with the same documents."""
    db.compact()
    settings = {**SETTINGS, "seed": seed_of(db.name)}
    with memodb.connect(":memory:", collection=db.name, **settings) as fresh:
        documents = sorted((name, text) for collection, name, text in state if collection == db.name)
        fresh.append_many({"id": name, "text": text, "source": source_of(name)} for name, text in documents)
        fresh.compact()
        assert db.digest() == fresh.digest()


def _require_tidy(path: Path) -> None:
    """No temporary file is left, and no tile that no row names.

    The store must be closed: closing a file drops every lock that the process has on it.
    """
    catalog = sqlite3.connect(path / "catalog.db")
    try:
        named = {row[0] for row in catalog.execute("SELECT tile FROM segment WHERE tile IS NOT NULL")}
        hidden = catalog.execute("SELECT count(*) FROM document WHERE state <> 'live'").fetchone()[0]
    finally:
        catalog.close()
    assert hidden == 0, "a deletion that was begun is not finished by opening for writing"
    assert not [found for found in path.rglob("*") if found.name.endswith(".tmp")]
    tiles = {found.name for found in (path / "segments").iterdir()} if (path / "segments").is_dir() else set()
    assert tiles == named, (tiles, named)


def _require_serviceable(path: Path, state: State) -> None:
    """A second opening finds the same, and the store takes and forgets documents as ever."""
    with memodb.connect(path, **SETTINGS) as db:
        assert read_state(db) == state
        text = "The store works on after it was hurt, and this sentence is the proof of it."
        db.append(text, id="proof", source=source_of("proof"))
        assert [source.id for source in db.trace(text)[0].documents] == ["proof"]
        assert db.delete("proof").verified
        assert read_state(db) == state
        assert db.check().ok
        assert db.name == DEFAULT
