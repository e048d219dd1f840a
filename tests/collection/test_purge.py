"""The two commits of a deletion: hidden everywhere by the first, and brought to its end whatever came between."""

from __future__ import annotations

import importlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb.collection import Collection, purge, transaction
from memodb.errors import DiskFull

checkpoint = importlib.import_module("memodb.collection.checkpoint")
"""The module; the room exports a function of the same name."""

SECRET = "The secret of the lighthouse keeper is that the third lamp was never lit before the war ended."


def rows(path: Path) -> dict[str, str]:
    """Ids and states, as the file has them."""
    raw = sqlite3.connect(path / "catalog.db")
    found = dict(raw.execute("SELECT id, state FROM document").fetchall())
    raw.close()
    return found


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Deletions that stop after their first commit, as if the process had been killed there."""

    class Stopping:
        def __enter__(self) -> None:
            self.patch = monkeypatch.context()
            self.patch.__enter__().setattr(transaction, "finish_deletions", lambda collection: None)

        def __exit__(self, *_: object) -> None:
            self.patch.__exit__(None, None, None)

    return Stopping


@pytest.fixture
def interrupted(fresh: Callable[..., memodb.Store], prose: Callable[..., str], tmp_path: Path, stopping: Any) -> Path:
    """A store whose document "secret" is hidden, and still in its rows and its tile."""
    with fresh(tmp_path / "s") as db:
        for n in range(9):
            db.append(prose(50, n), id=str(n), source="x")
        db.append(SECRET, id="secret", source="x", subject="keeper")
        db.checkpoint()
        db.append(prose(50, 10), id="later")
        with stopping():
            db.delete("secret", verify=False)
    assert rows(tmp_path / "s")["secret"] == "erasing"
    return tmp_path / "s"


def require_hidden(db: memodb.Store) -> None:
    """No read path returns anything of it."""
    assert len(db) == 10
    assert "secret" not in db
    for call in (db.get, db.text, db.tokens):
        with pytest.raises(memodb.DocumentNotFound):
            call("secret")
    assert db.documents(subject="keeper") == db.documents(ids=("secret",)) == list(db.export(ids=("secret",))) == []
    assert SECRET not in json.dumps(list(db.export()))
    assert db.trace(SECRET) == []
    assert "lamp was never lit" not in db.complete(SECRET[:60]).text
    assert db.score(SECRET).known < 0.9
    ids = db.tokenizer.encode(SECRET)
    contexts = [ids[max(0, at - 16) : at].tolist() for at in range(16, len(ids))]
    assert not (db.lookup(contexts).context_length >= 16).any()
    assert [info.documents for info in db.collections()] == [10]
    assert db.stats().documents == 10
    for name in ("state", "states"):
        with pytest.raises(memodb.InvalidInput, match="unknown filter"):
            db.documents(**{name: "erasing"})


def test_hidden_by_the_first_commit_for_every_reader(interrupted: Path) -> None:
    with memodb.connect(interrupted, read_only=True) as db:
        require_hidden(db)
        assert db.check().ok
    assert rows(interrupted)["secret"] == "erasing"  # a reader finishes nothing


def test_a_reader_that_was_there_follows(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], tmp_path: Path, stopping: Any
) -> None:
    with fresh(tmp_path / "s") as db, memodb.connect(tmp_path / "s", read_only=True) as reader:
        for n in range(10):
            db.append(prose(50, n), id=str(n))
        db.append(SECRET, id="secret", subject="keeper")
        db.checkpoint()
        assert reader.trace(SECRET)
        with stopping():
            db.delete("secret", verify=False)
        require_hidden(db)
        require_hidden(reader)
        assert reader.digest() == db.digest()


def test_opening_for_writing_brings_it_to_its_end(interrupted: Path) -> None:
    (before,) = (path.name for path in (interrupted / "segments").iterdir())
    with memodb.connect(interrupted) as db:
        assert "secret" not in rows(interrupted)
        require_hidden(db)
        assert db.check().ok
        digest = db.digest()
    (after,) = (path.name for path in (interrupted / "segments").iterdir())
    assert after != before
    with memodb.connect(interrupted, read_only=True) as db:  # what the new tile holds
        assert db.digest() == digest


def test_the_tile_is_subtracted_from_and_not_made_again(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memorised: list[int] = []
    extend = checkpoint.extend

    def counted(segment: Any, documents: Any) -> Any:
        memorised.append(len(documents))
        return extend(segment, documents)

    monkeypatch.setattr(checkpoint, "extend", counted)
    with memodb.connect(interrupted) as db:
        require_hidden(db)
    assert memorised == [1]  # the one that came after the tile


def test_the_next_write_brings_it_to_its_end_and_its_id_is_free(interrupted: Path, stopping: Any) -> None:
    with memodb.connect(interrupted) as db:
        with stopping():
            db.delete("3", verify=False)
        assert rows(interrupted)["3"] == "erasing"
        db.append("another text under the id", id="3")
        assert rows(interrupted)["3"] == "live"
        assert db.text("3") == "another text under the id"
        assert db.check().ok


@pytest.mark.parametrize("where", ["_subtracted_tiles", "_settle_file", "_destroy", "_drop_empty_segments"])
def test_what_cannot_be_finished_now_is_told_and_finished_later(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object) -> None:
        raise DiskFull("no space left")

    with memodb.connect(interrupted) as db:
        with monkeypatch.context() as patch:
            patch.setattr(purge, where, full)
            with pytest.raises(DiskFull) as caught:
                db.delete("4")
        assert any("hidden from every answer" in note for note in caught.value.__notes__)
        assert "4" not in db
        assert db.check().ok
        db.append("and on", id="on")
        assert "4" not in rows(interrupted)
        assert db.check().ok


@pytest.mark.parametrize("refusals", [1, 2])
def test_room_is_made_for_the_second_commit_and_no_lost_tile_is_named(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """On a disk so full that the ballast goes, then the tiles, among them the one that was just written."""
    delete_many, left = purge.erasing.delete_many, [None] * refusals

    def full(*arguments: Any) -> int:
        if left:
            left.pop()
            raise DiskFull("no space left")
        return delete_many(*arguments)

    monkeypatch.setattr(purge.erasing, "delete_many", full)
    with memodb.connect(interrupted) as db:
        assert left == []
        require_hidden(db)
        assert db.check().findings == ()
        assert (interrupted / "ballast").exists()  # made again
        assert len(list((interrupted / "segments").iterdir())) == 2 - refusals


def test_the_last_document_takes_its_segment_along(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    with fresh(tmp_path / "s") as db, memodb.connect(tmp_path / "s", read_only=True) as reader:
        empty = db.digest()
        db.append(SECRET, id="secret")
        db.checkpoint()
        assert reader.digest() == db.digest() != empty
        assert db.delete("secret").verified
        assert db.digest() == reader.digest() == empty
        assert db.stats().segments == ()
        assert list((tmp_path / "s" / "segments").iterdir()) == []


@pytest.mark.parametrize("column", ["tokens = x'1101'", "tokens = substr(tokens, 2)", "source = 'other'"])
@pytest.mark.parametrize("tile", [True, False])
def test_a_damaged_document_can_be_deleted(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], tmp_path: Path, column: str, tile: bool
) -> None:
    with fresh(tmp_path / "s") as db:
        for n in range(5):
            db.append(prose(50, n), id=str(n), source="x")
        if tile:
            db.checkpoint()
    raw = sqlite3.connect(tmp_path / "s" / "catalog.db")
    ((trigger,),) = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'document_immutable'").fetchall()
    raw.execute("DROP TRIGGER document_immutable")
    raw.execute(f"UPDATE document SET {column} WHERE id = '2'")
    raw.execute(trigger)
    raw.commit()
    raw.close()
    with memodb.connect(tmp_path / "s") as db:
        report = db.check(fix=True)
        assert any("'2'" in finding for finding in report.remaining)
        with pytest.raises(memodb.CorruptStore):
            db.text("2")
        assert db.delete("2").committed
        assert db.check().ok
        assert db.trace(prose(50, 3))[0].documents[0].id == "3"
        db.append(prose(50, 9), id="2")
        assert db.check().ok


@settings(max_examples=6)
@given(st.data())
def test_any_history_with_interruptions_ends_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Deletions of several documents, stopped after either commit, with checkpoints, replacements and reopenings."""
    path = tmp_path_factory.mktemp("store") / "s"
    live: dict[str, str] = {}
    number = 0
    db = memodb.connect(path, segment_tokens=4096)
    try:
        for _ in range(data.draw(st.integers(1, 10))):
            action = data.draw(st.sampled_from(["append", "append", "delete", "stopped", "replace", "tile", "reopen"]))
            if action == "append":
                for _ in range(data.draw(st.integers(1, 5))):
                    number += 1
                    live[str(number)] = (
                        f"Document {number} tells of {number * number} ships and of the {number % 3} tides."
                    )
                    db.append(live[str(number)], id=str(number))
            elif action == "tile":
                db.checkpoint()
            elif action == "reopen":
                db.close()
                db = memodb.connect(path)
            elif live:
                gone = data.draw(st.lists(st.sampled_from(sorted(live)), min_size=1, max_size=4, unique=True))
                where = data.draw(st.sampled_from(["finish_deletions", "due_checkpoint"]))
                with pytest.MonkeyPatch.context() as patch:
                    if action == "stopped":
                        patch.setattr(transaction, where, lambda *_: None)
                    with db.transaction():
                        db.delete(*gone)
                        for name in gone:
                            del live[name]
                        if action == "replace":
                            number += 1
                            live[gone[0]] = f"Another text, the {number}th, under the id of one that went."
                            db.append(live[gone[0]], id=gone[0])
            assert {d.id: db.text(d.id) for d in db.documents()} == live
        with memodb.connect(path, read_only=True) as reader:
            assert reader.digest() == db.digest()
            assert reader.check().ok
        assert db.check().ok
        db.close()
        db = memodb.connect(path)
        assert set(rows(path).items()) == {(name, "live") for name in live}
        assert db.check().ok
    finally:
        db.close()


def test_the_collection_knows_of_no_unfinished_deletion_afterwards(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        db.append(SECRET, id="secret")
        db.delete("secret")
        assert isinstance(db._collection, Collection)
        assert not db._collection.unfinished
