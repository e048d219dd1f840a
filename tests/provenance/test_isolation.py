"""Two collections of one store are two tenants: whatever one is asked, nothing of the other is in the answer.

The requirement is that of OWASP's AISVS, 8.1.1: adversarial tests across tenants. Both hold documents under the same
ids, of the same subjects and sources, some with the very same text; what A alone holds must be nowhere in B.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb

Stores = Callable[..., memodb.Store]
SHARED = "Both tenants were sent this letter, word for word, by the harbour office in spring."
OWN = {
    "1": "Anna told the notary that her brother had sold the boat before their father died.",
    "2": "The clinic's record says: Anna, allergic to penicillin, was treated twice in 2019.",
    "3": "Between us, the account at the savings bank has not been declared to anybody yet.",
}
OTHERS = {
    "1": "Minutes of the gardening club: the hedge is cut in June, the roses in March.",
    "2": "A recipe for plum cake with cinnamon, enough for eight, baked for forty minutes.",
    "3": "The bus to the lake leaves at nine, and comes back when the museum has closed.",
}


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[memodb.Store, memodb.Store, memodb.Store]]:
    """Handles on A and B of one store, and a store that has B alone; with a promise that leaves nothing to chance."""
    settings: dict[str, Any] = {"segment_tokens": 4096, "false_recall": 1e-9}
    seed = bytes(range(32))
    with (
        memodb.connect(tmp_path_factory.mktemp("tenants") / "s", collection="b", seed=seed, **settings) as b,
        memodb.connect(":memory:", collection="b", seed=seed, **settings) as alone,
    ):
        a = b.collection("a")
        for name, text in {**OWN, "4": SHARED}.items():
            a.append(text, id=name, source="letters", subject="anna", writer="w", batch="1", metadata={"page": 1})
        for handle in (b, alone):
            for name, text in {**OTHERS, "4": SHARED}.items():
                handle.append(text, id=name, source="letters", subject="anna", writer="w", batch="1")
        yield a, b, alone


def answers(db: memodb.Store, text: str) -> Any:
    """Everything that can be asked with a text."""
    ids = db.tokenizer.encode(text).tolist()
    found = db.lookup([ids[max(0, at - 16) : at] for at in range(1, len(ids) + 1)] or [[0]], 50)
    return [
        [(c.text, c.support) for c in db.next_tokens(text, 50)],
        [db.complete(text, 30, min_context=1, temperature=heat, seed=1).text for heat in (0.0, 2.0)],
        [(token.text, token.known) for token in db.score(text).tokens],
        [(span.start, span.end, [source.id for source in span.documents]) for span in db.trace(text)],
        [found.token_ids.tolist(), found.support.tolist(), found.context_length.tolist()],
    ]


PIECES = st.builds(
    lambda texts, cuts: " ".join(text[min(cut) : max(cut)] for text, cut in zip(texts, cuts, strict=False)),
    st.lists(st.sampled_from([*OWN.values(), SHARED]), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=3, max_size=3),
)
"""Prompts that somebody writes who knows A's texts: whole, cut anywhere, put together."""


@settings(max_examples=40)
@given(prompt=PIECES)
def test_b_answers_as_if_there_were_no_a(tenants: tuple[memodb.Store, memodb.Store, memodb.Store], prompt: str) -> None:
    _, b, alone = tenants
    assert answers(b, prompt) == answers(alone, prompt)


@pytest.mark.stress
@settings(max_examples=3000)
@given(prompt=st.one_of(PIECES, st.text(max_size=60)))
def test_b_answers_as_if_there_were_no_a_at_length(
    tenants: tuple[memodb.Store, memodb.Store, memodb.Store], prompt: str
) -> None:
    _, b, alone = tenants
    assert answers(b, prompt) == answers(alone, prompt)


def test_the_question_can_be_answered(tenants: tuple[memodb.Store, memodb.Store, memodb.Store]) -> None:
    """The control: A itself does tell."""
    a, b, _ = tenants
    for name, text in OWN.items():
        assert a.complete(text[:30].rsplit(" ", 1)[0], 60).text
        assert a.trace(text)[0].documents[0].id == name
        assert b.trace(text) == []
        assert b.complete(text[:30].rsplit(" ", 1)[0], 60).stop_reason == "unknown_context"


def test_no_listing_and_no_id_crosses(tenants: tuple[memodb.Store, memodb.Store, memodb.Store]) -> None:
    a, b, alone = tenants
    for filters in ({}, {"source": "letters"}, {"subject": "anna"}, {"writer": "w"}, {"batch": "1"}, {"ids": ["1"]}):
        assert {record["text"] for record in b.export(**filters)} == {
            record["text"] for record in alone.export(**filters)
        }
        assert {document.collection for document in b.documents(**filters)} == {"b"}
    assert b.documents(metadata={"page": 1}) == []
    for name in "1234":
        assert b.text(name) == alone.text(name)
        assert (b.text(name) == a.text(name)) == (name == "4")
    assert [source.id for source in b.trace(SHARED)[0].documents] == ["4"]
    assert b.next_tokens(SHARED[:40])[0].support == 1  # not counted twice
    assert (len(a), len(b)) == (4, 4)
    assert (a.get("1").metadata, b.get("1").metadata) == ({"page": 1}, {})
    told = json.dumps([list(b.export()), [document.to_dict() for document in b.documents()]])
    assert not any(text[:15] in told for text in OWN.values())
    exported = list(b.export_subject("anna"))
    assert {record["text"] for record in exported} == {*OTHERS.values(), SHARED}


def test_nothing_secret_is_shared(tenants: tuple[memodb.Store, memodb.Store, memodb.Store]) -> None:
    a, b, alone = tenants
    assert a.seed != b.seed == alone.seed
    assert a.digest() != b.digest() == alone.digest()
    for name in ("1", "4", "anna"):
        assert a.pseudonym(name) != b.pseudonym(name)
        assert a._collection.symbol(name) != b._collection.symbol(name)
    assert a.suppress("a text that neither has") != b.suppress("a text that neither has")
    assert a.end_suppression("a text that neither has")
    with pytest.raises(memodb.Suppressed):
        b.append("a text that neither has")
    b.end_suppression("a text that neither has")


def test_what_is_done_to_one_is_not_done_to_the_other(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"segment_tokens": 4096, "false_recall": 1e-9}
    with memodb.connect(tmp_path / "s", collection="b", **settings) as b:
        a = b.collection("a")
        for handle in (a, b):
            for name in "12345":
                handle.append(f"{SHARED} {name}", id=name, subject="anna", source="letters")
        before = b.digest()

        def untouched() -> None:
            assert b.digest() == before
            assert len(b) == 5
            assert (b.holds(), b.quarantined(), b.erasures()) == ([], [], [])
            assert b.text("1") == f"{SHARED} 1"
            assert b.check().ok

        a.hold("case-1", "1")
        a.quarantine("2")
        receipt = a.delete("1", "3", reason="ticket-1")
        untouched()
        with pytest.raises(memodb.NotFound):
            b.release_hold("case-1")
        with pytest.raises(memodb.NotFound):
            list(b.export_held("case-1"))
        with pytest.raises(memodb.NotFound):
            b.receipt(receipt.id)
        with pytest.raises(memodb.DocumentNotFound):
            b.release("2")
        with pytest.raises(memodb.EmptySelection):
            b.sweep()
        a.suppress(f"{SHARED} 9")
        b.append(f"{SHARED} 9", id="9")
        b.delete("9")
        assert len(b.erasures()) == 1
        a.release_hold("case-1")
        assert [erasure.state for erasure in a.erasures()] == ["verified"]
        assert (
            a.receipt(receipt.id)["statement"]["collection"] != b.receipt(b.erasures()[0].id)["statement"]["collection"]
        )
        a.delete(subject="anna")
        assert len(a) == 0
        assert (b.digest(), len(b)) == (before, 5)
        # a hold of the same name is another hold
        b.hold("case-1", "1")
        assert a.holds() == []
        with pytest.raises(memodb.NotFound):
            a.release_hold("case-1")
        assert b.delete("1").held == ("1",)
        exported = list(a.export_subject("anna"))
        assert exported == []


def test_a_document_cannot_be_moved_to_the_other_collection(tmp_path: Path) -> None:
    """Not even by who can write the file: its key, its seal and its digest are bound to where it is."""
    import sqlite3

    with memodb.connect(tmp_path / "s", collection="a") as a:
        a.append(OWN["1"], id="1")
        a.collection("b").append(OTHERS["1"], id="2")
    raw = sqlite3.connect(tmp_path / "s" / "catalog.db")
    (target,) = raw.execute("SELECT id FROM collection WHERE name = 'b'").fetchone()
    (segment,) = raw.execute("SELECT id FROM segment WHERE collection_id = ?", (target,)).fetchone()
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute("UPDATE document SET collection_id = ? WHERE id = '1'", (target,))
    (trigger,) = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'document_immutable'").fetchone()
    raw.execute("DROP TRIGGER document_immutable")
    raw.execute("UPDATE document SET collection_id = ?, segment_id = ? WHERE id = '1'", (target, segment))
    raw.execute(trigger)
    raw.commit()
    raw.close()
    with memodb.connect(tmp_path / "s", collection="b") as b:
        with pytest.raises(memodb.CorruptStore):
            b.text("1")
        with pytest.raises(memodb.CorruptStore):
            b.complete("Anna told the notary that")
        assert not b.check().ok
