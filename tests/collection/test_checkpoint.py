"""Checkpoints: whatever the tiles hold, a store opens with exactly the memory that its documents make."""

from __future__ import annotations

import importlib
import sqlite3
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb.errors import StoreError

module = importlib.import_module("memodb.collection.checkpoint")


def tiles(path: Path) -> list[Path]:
    return sorted((path / "segments").glob("*")) if (path / "segments").exists() else []


def text(number: int) -> str:
    return f"Document {number} says that the bridge of arch {number % 7} was painted {number * number} times since May."


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints fall due after a few tokens."""
    monkeypatch.setattr(module, "CHECKPOINT_TOKENS", 40)


def test_a_small_store_writes_none_by_itself_and_one_when_asked(tmp_path: Path) -> None:
    with memodb.connect(tmp_path / "s") as db:
        db.append(text(1), id="1")
        assert tiles(tmp_path / "s") == []
        assert db.checkpoint() == 1
        assert db.checkpoint() == 0
        assert len(tiles(tmp_path / "s")) == 1
    with memodb.connect(":memory:") as db:
        db.append(text(1))
        assert db.checkpoint() == 0


def test_how_much_opening_may_memorise_again_can_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memorised: list[int] = []
    extend = module.extend

    def counted(segment: Any, documents: Any) -> Any:
        memorised.append(sum(len(tokens) for _, tokens in documents))
        return extend(segment, documents)

    with memodb.connect(tmp_path / "s", checkpoint_tokens=100) as db:
        tokens = 0
        for n in range(12):
            tokens += db.append(text(n), id=str(n)).token_count
            with monkeypatch.context() as patch:
                patch.setattr(module, "extend", counted)
                with memodb.connect(tmp_path / "s", read_only=True) as reader:
                    assert reader.digest() == db.digest()
    assert len(memorised) == 12
    assert max(memorised) < 100 < tokens
    for wrong in (0, -1, 1.5, True, "9"):
        with pytest.raises(memodb.InvalidConfiguration, match="checkpoint_tokens"):
            memodb.connect(tmp_path / "s", checkpoint_tokens=wrong)  # type: ignore[arg-type]


def test_opening_reads_the_tile_and_memorises_only_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with memodb.connect(tmp_path / "s") as db:
        db.append_many({"id": str(n), "text": text(n)} for n in range(30))
        db.checkpoint()
        db.append_many({"id": str(n), "text": text(n)} for n in range(30, 33))
        digest = db.digest()
    memorised: list[int] = []
    extend = module.extend

    def counted(segment: Any, documents: Any) -> Any:
        found = list(documents)
        memorised.append(len(found))
        return extend(segment, found)

    monkeypatch.setattr(module, "extend", counted)
    with memodb.connect(tmp_path / "s") as db:
        assert db.digest() == digest
        assert memorised == [3]


@settings(max_examples=6)
@given(st.data())
def test_any_history_with_checkpoints_opens_to_the_same_memory(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("store") / "s"
    live: dict[str, str] = {}
    db = memodb.connect(path, segment_tokens=4096)
    for step in range(data.draw(st.integers(1, 12))):
        action = data.draw(st.sampled_from(["append", "append", "delete", "again", "checkpoint", "compact", "reopen"]))
        if action == "append":
            for n in range(data.draw(st.integers(1, 4))):
                live[f"{step}.{n}"] = text(100 * step + n)
                db.append(text(100 * step + n), id=f"{step}.{n}")
        elif action in ("delete", "again") and live:
            gone = data.draw(st.sampled_from(sorted(live)))
            del live[gone]
            with db.transaction():
                db.delete(gone)
                if action == "again":  # the same id, hence the same symbol, with another text
                    live[gone] = text(7000 + step)
                    db.append(live[gone], id=gone)
        elif action == "checkpoint":
            db.checkpoint()
        elif action == "compact":
            db.compact()
        elif action == "reopen":
            before = db.digest()
            db.close()
            db = memodb.connect(path)
            assert db.digest() == before
    report = db.check()
    assert report.ok, report.findings
    assert {d.id: db.text(d.id) for d in db.documents()} == live
    db.close()
    with memodb.connect(path) as db:
        assert db.check().ok


@pytest.mark.usefixtures("eager")
def test_a_deletion_leaves_no_tile_that_holds_it(tmp_path: Path) -> None:
    with memodb.connect(tmp_path / "s") as db:
        db.append_many({"id": str(n), "text": text(n)} for n in range(40))
        (before,) = tiles(tmp_path / "s")
        assert db.delete("7").verified
        (after,) = tiles(tmp_path / "s")
        assert before.name != after.name
        digest = db.digest()
    with memodb.connect(tmp_path / "s") as db:
        assert db.digest() == digest
        assert db.trace(text(7), min_tokens=16) == []


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "swap"])
def test_a_damaged_tile_is_not_believed(tmp_path: Path, damage: str) -> None:
    with memodb.connect(tmp_path / "s") as db:
        db.append_many({"id": str(n), "text": text(n)} for n in range(40))
        digest = db.digest()
    (tile,) = tiles(tmp_path / "s")
    data = tile.read_bytes()
    if damage == "flip":
        tile.write_bytes(data[:-9] + bytes([data[-9] ^ 4]) + data[-8:])
    elif damage == "truncate":
        tile.write_bytes(data[: len(data) // 2])
    elif damage == "remove":
        tile.unlink()
    else:
        with memodb.connect(tmp_path / "other") as other:
            other.append_many({"id": str(n), "text": text(n + 1)} for n in range(40))
        tile.write_bytes(tiles(tmp_path / "other")[0].read_bytes())
    with memodb.connect(tmp_path / "s") as db:
        assert db.digest() == digest  # the documents decide
        report = db.check(fix=True)
        assert not report.ok
        assert "tile" in report.findings[0]
        assert report.fixed
        assert db.check().ok
        assert db.checkpoint() == 1
        assert db.check().ok


def test_a_full_disk_does_not_undo_an_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager: None) -> None:
    def full(*_: object) -> str:
        raise StoreError("the tile cannot be written: no space left on device")

    with memodb.connect(tmp_path / "s") as db:
        monkeypatch.setattr(module, "write_tile", full)
        with pytest.warns(RuntimeWarning, match="no space left"):
            db.append_many({"id": str(n), "text": text(n)} for n in range(40))
        with pytest.raises(StoreError, match="no space left"):
            db.checkpoint()
        assert len(db) == 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with memodb.connect(tmp_path / "s") as db:
            assert len(db) == 40
            assert db.check().ok


def test_what_a_crash_left_is_removed_at_open(tmp_path: Path) -> None:
    with memodb.connect(tmp_path / "s") as db:
        db.append(text(1), id="1")
        db.checkpoint()
    (kept,) = tiles(tmp_path / "s")
    (tmp_path / "s" / "segments" / "cafe.tmp").write_bytes(b"half a tile")
    (tmp_path / "s" / "segments" / ("0" * 64)).write_bytes(kept.read_bytes())
    with memodb.connect(tmp_path / "s", read_only=True) as db:
        assert len(tiles(tmp_path / "s")) == 3  # a reader removes nothing
    with memodb.connect(tmp_path / "s") as db:
        assert tiles(tmp_path / "s") == [kept]
        assert db.check().ok


@pytest.mark.usefixtures("eager")
def test_a_reader_follows_when_tiles_are_superseded(tmp_path: Path) -> None:
    with memodb.connect(tmp_path / "s") as db:
        db.append_many({"id": str(n), "text": text(n)} for n in range(40))
        with memodb.connect(tmp_path / "s", read_only=True) as reader:
            assert reader.digest() == db.digest()
            for n in range(0, 40, 5):
                db.delete(str(n), verify=False)
                db.append(text(n + 900), id=str(n))
                assert reader.digest() == db.digest()
            assert reader.check().ok


def test_collections_keep_their_own_tiles(tmp_path: Path) -> None:
    with memodb.connect(tmp_path / "s") as db:
        db.append(text(1), id="1")
        other = db.collection("other")
        other.append(text(2), id="1")
        assert db.checkpoint() == other.checkpoint() == 1
        assert len(tiles(tmp_path / "s")) == 2
        db.delete("1")
        assert len(tiles(tmp_path / "s")) == 1
        digest = other.digest()
    with memodb.connect(tmp_path / "s", collection="other") as other:
        assert other.digest() == digest
        assert other.check().ok


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("tampering", "told"),
    [
        ("DELETE FROM document WHERE id = '7'", "tile"),
        ("""UPDATE segment SET geometry = replace(geometry, '"ordinal":0', '"ordinal":1')""", "row is not as it was"),
        ("UPDATE segment SET geometry = '{}'", "row is not as it was written"),
    ],
)
def test_a_tile_that_the_rows_contradict_is_not_believed(tmp_path: Path, tampering: str, told: str) -> None:
    """What no code of ours does: rows changed behind a tile that stays named."""
    with memodb.connect(tmp_path / "s") as db:
        db.append_many({"id": str(n), "text": text(n)} for n in range(40))
    connection = sqlite3.connect(tmp_path / "s" / "catalog.db")
    assert connection.execute(tampering).rowcount == 1
    connection.commit()
    connection.close()
    with memodb.connect(tmp_path / "s") as db:
        report = db.check()
        assert len(report.findings) == 1
        assert told in report.findings[0]
        mended = db.check(fix=True)
        assert mended.fixed
        assert mended.remaining == ()
        assert db.check().ok
        assert "14" in [source.id for span in db.trace(text(14)) for source in span.documents]
