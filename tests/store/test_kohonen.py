"""A store on MeMo's memory: every verb works, and what the engine cannot promise is said."""

from __future__ import annotations

import contextlib
import importlib
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memodb
from memodb.erasure import SegmentProof

verification = importlib.import_module("memodb.erasure.verification")

CODES = ("rademacher", "gaussian")
TEXTS = {
    "sky": "The sky over the harbour was the colour of slate, and nobody who worked there looked up.",
    "tea": "Green tea should never be made with boiling water; eighty degrees are enough for three minutes.",
    "key": "The spare key of the boat house hangs behind the second plank, wrapped in a piece of oilcloth.",
}


@pytest.fixture(params=CODES)
def codes(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def filled(db: memodb.Store) -> memodb.Store:
    for name, text in TEXTS.items():
        db.append(text, id=name, source="notebook", subject=name)
    return db


@pytest.fixture(scope="module")
def tokenizer(tokenizer_of: Callable[..., Path]) -> Path:
    return tokenizer_of([*TEXTS.values(), "word other word"])


@pytest.fixture
def opened(fresh: Callable[..., memodb.Store], tokenizer: Path, tmp_path: Path, codes: str) -> Iterator[memodb.Store]:
    """Too small to answer well, which most of what is promised does not depend on."""
    with fresh(tmp_path / "s", engine="kohonen", codes=codes, dim=64, tokenizer=tokenizer) as db:
        yield filled(db)


@pytest.fixture(scope="module")
def _roomy(
    fresh: Callable[..., memodb.Store], tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    made = {codes: tmp_path_factory.mktemp("roomy") / codes for codes in CODES}
    for codes, path in made.items():
        with fresh(path, engine="kohonen", codes=codes, dim=512, tokenizer=tokenizer) as db:
            filled(db)
    return made


@pytest.fixture
def roomy(_roomy: dict[str, Path], tmp_path: Path, codes: str) -> Iterator[memodb.Store]:
    shutil.copytree(_roomy[codes], tmp_path / "s")
    with memodb.connect(tmp_path / "s") as db:
        yield db


def test_every_reading_verb_answers(roomy: memodb.Store) -> None:
    db = roomy
    assert {document.id for document in db.documents()} == set(TEXTS)
    assert db.text("sky") == TEXTS["sky"]
    assert db.get("sky").source == "notebook"
    assert db.complete("The sky over the", 8).text.startswith(" harbour was the colour")
    first, *_ = db.next_tokens("Green tea should never be")
    assert (first.text, first.support) == (" made", 1)
    assert first.context_length == 4
    assert db.score(TEXTS["key"]).known == 1
    assert db.score("zebra quartz onyx").known < 1
    (span,) = db.trace(TEXTS["tea"])
    assert (span.start, span.end) == (0, len(TEXTS["tea"]))
    assert [source.id for source in span.documents] == ["tea"]
    ids = db.tokens("tea")
    looked = db.lookup(np.array([ids[2:6], ids[3:7]]), k=1)
    assert looked.token_ids.ravel().tolist() == ids[6:8].tolist()
    assert looked.context_length.tolist() == [4, 4]
    assert db.lookup([ids[4:6].tolist(), [ids[5]]], k=1).context_length.tolist() == [2, 1]


def test_figures_name_the_engine_and_promise_nothing(roomy: memodb.Store) -> None:
    stats = roomy.stats()
    (segment,) = stats.segments
    assert (stats.engine, stats.promised_false_recall) == ("kohonen", None)
    assert segment.layer_cells == 2 * 512 * 512
    assert segment.read_bytes == 4 * segment.layer_cells
    assert 0 <= segment.miss_rate < 1e-6
    assert 0 <= segment.false_recall <= stats.false_recall < 1e-6


def test_a_deletion_says_whether_it_is_exact(
    fresh: Callable[..., memodb.Store], opened: memodb.Store, tokenizer: Path, codes: str
) -> None:
    receipt = opened.delete("sky", reason="asked for")
    (proof,) = receipt.segments
    assert receipt.signed is not None
    layer = receipt.signed["statement"]["layers"]["memory"]
    valid = memodb.proof.verify(receipt.signed, public_key=opened.public_key.encode())
    assert valid.valid, valid.problems
    if codes == "rademacher":
        assert receipt.verified
        assert proof.digest == proof.rebuilt_digest
        assert "residue" not in proof.to_dict()
        assert layer["result"] == "verified"
        with fresh(engine="kohonen", dim=64, tokenizer=tokenizer) as never:
            never.append_many({"id": name, "text": TEXTS[name]} for name in ("key", "tea"))
            assert never.digest() == opened.digest()
    else:
        assert not receipt.verified
        assert proof.residue is not None
        assert 0 < float(proof.residue) < 1e-5
        assert layer["result"] == "inexact"
        assert "byte for byte" not in layer["method"]
        assert any("Gaussian" in limit for limit in receipt.signed["statement"]["limits"])
        assert all(found["result"] != "failed" for found in receipt.signed["statement"]["layers"].values() if found)
    assert opened.check().ok
    assert opened.complete("The sky over the").text != TEXTS["sky"][16:]
    assert not opened.trace(TEXTS["sky"])


def test_an_inexact_erasure_is_not_looked_at_at_every_opening(
    opened: memodb.Store, codes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = opened.delete("sky")
    opened.close()
    with monkeypatch.context() as patch:
        patch.delattr("memodb.erasure.verification.prove")
        with memodb.connect(tmp_path / "s") as again:
            (erasure,) = again.erasures()
            assert ("verified" in erasure.states) == (codes == "rademacher")
    # Who asks for the receipt gets a fresh one; and without a tile the memory was memorised anew from what is left.
    with memodb.connect(tmp_path / "s") as again:
        assert again.receipt(receipt.id)["statement"]["verified"]
        assert again.check().ok


@pytest.mark.parametrize(
    ("held", "rebuilt", "residue", "result"),
    [
        ("a", "b", "1.0e-07", "inexact"),
        ("a", "a", "0.0e+00", "verified"),
        (None, None, None, "verified"),
        ("a", "b", "2.0e-01", "failed"),
        ("a", "b", "inf", "failed"),
        (None, "b", None, "failed"),
        ("a", None, None, "failed"),
    ],
)
def test_only_rounding_that_was_measured_is_called_so(
    held: str | None, rebuilt: str | None, residue: str | None, result: str
) -> None:
    """A memory that is missing, or that should not be there, differs by more than that."""
    sound = SegmentProof("1", "x", "x", True, "0.0e+00")
    proofs = (sound, SegmentProof("2", held, rebuilt, True, residue))
    assert verification._memory(proofs, exact=False)["result"] == result


def test_transactions_expiry_quarantine_and_holds(opened: memodb.Store) -> None:
    db = opened
    digest, count = db.digest(), len(db)
    with contextlib.suppress(ZeroDivisionError), db.transaction():
        db.append("something else altogether", id="other")
        raise ZeroDivisionError
    assert (db.digest(), len(db)) == (digest, count)
    db.quarantine("tea", reason="complaint")
    assert not db.trace(TEXTS["tea"])
    db.release("tea")
    assert db.trace(TEXTS["tea"])
    db.append("This note is worth nothing after a while.", id="soon", expires_at=datetime.now(UTC) + timedelta(days=1))
    db.hold("case-7", ids=["key"])
    assert db.delete("key").held == ("key",)
    assert not db.trace(TEXTS["key"])
    assert db.check().ok
    db.compact()
    assert db.check().ok


def test_it_is_the_same_after_reopening_backing_up_and_restoring(opened: memodb.Store, tmp_path: Path) -> None:
    opened.checkpoint()
    opened.append("One more that came after the checkpoint.", id="later")
    digest, completion = opened.digest(), opened.complete("Green tea").text
    opened.backup(tmp_path / "b")
    opened.close()
    memodb.restore(tmp_path / "b", tmp_path / "r", without_ledger=True)
    for path in (tmp_path / "s", tmp_path / "r"):
        with memodb.connect(path, engine="kohonen") as db, memodb.connect(path, read_only=True) as reader:
            assert db.check().ok
            assert db.digest() == reader.digest() == digest
            assert db.complete("Green tea").text == completion
            assert reader.stats().engine == "kohonen"


def test_rounding_is_no_damage_and_damage_is_no_rounding(opened: memodb.Store) -> None:
    for turn in range(3):
        opened.append(f"A passing remark, number {turn}.", id="passing")
        opened.delete("passing", verify=False)
    assert opened.check().ok
    with opened._collection.reading() as memory:
        (segment,) = memory.segments.values()
        segment.correlations[-1][3, 5] += 100
    (finding,) = opened.check().findings
    assert "differs from the one its documents make" in finding
    assert opened.check(fix=True).remaining == ()
    assert opened.check().ok


def test_a_damaged_tile_is_memorised_again(roomy: memodb.Store, tmp_path: Path) -> None:
    roomy.checkpoint()
    digest = roomy.digest()
    roomy.close()
    (tile,) = (path for path in (tmp_path / "s").rglob("*") if len(path.name) == 64)
    data = bytearray(tile.read_bytes())
    data[len(data) // 2] ^= 1
    tile.write_bytes(data)
    with memodb.connect(tmp_path / "s") as db:
        assert np.isclose(db.stats().segments[0].miss_rate, 0, atol=1e-3)
        assert db.complete("The sky over the", 3).text.startswith(" harbour")
        assert any("tile" in finding for finding in db.check().findings)
        if db.delete("tea").verified:
            with memodb.connect(tmp_path / "s", read_only=True) as reader:
                assert reader.digest() == db.digest() != digest


MISMATCHES: list[dict[str, Any]] = [
    {"engine": "willshaw"},
    {"codes": "gaussian"},
    {"dim": 1024},
    {"encodings": "recalled"},
    {"layers": 3},
    {"false_recall": 0.01},
]


@pytest.mark.parametrize("settings", MISMATCHES, ids=str)
def test_a_store_keeps_the_engine_it_was_created_with(
    fresh: Callable[..., memodb.Store], tmp_path: Path, settings: dict[str, Any]
) -> None:
    fresh(tmp_path / "s", engine="kohonen", dim=64).close()
    with pytest.raises(memodb.StoreMismatch, match=next(iter(settings))):
        memodb.connect(tmp_path / "s", **settings)
    fresh(tmp_path / "w").close()
    with pytest.raises(memodb.StoreMismatch, match="no dim"):
        memodb.connect(tmp_path / "w", dim=64)


REFUSED: list[dict[str, Any]] = [
    {"engine": "hopfield"},
    {"engine": "kohonen", "false_recall": 0.01},
    {"engine": "kohonen", "codes": "binary"},
    {"engine": "kohonen", "dim": 63},
    {"engine": "kohonen", "layers": 0},
    {"engine": "kohonen", "encodings": "guessed"},
    {"dim": 64},
    {"engine": "willshaw", "codes": "gaussian"},
]


@pytest.mark.parametrize("settings", REFUSED, ids=str)
def test_a_store_that_cannot_be_is_not_begun(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(memodb.InvalidConfiguration, match=str(list(settings)[-1])):
        memodb.connect(tmp_path / "s", **settings)
    assert not list(tmp_path.iterdir())


def test_a_memory_larger_than_the_machine_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(memodb.OutOfMemory, match="choose a smaller dim, or fewer layers"):
        memodb.connect(tmp_path / "s", engine="kohonen", dim=32768, heads=16, layers=3)
    assert not list(tmp_path.iterdir())


def test_a_document_of_more_tokens_than_can_be_counted_is_refused(
    opened: memodb.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memodb.memory.configuration.EXACT_FLOAT32", 100)
    with pytest.raises(memodb.InvalidInput, match="at most 49"):
        opened.append("word " * 60)
    assert len(opened) == 3
    opened.append("word " * 20)
    opened.append("other word " * 12)
    assert len(opened.stats().segments) > 1
    assert opened.check().ok
