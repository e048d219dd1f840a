"""A disk that does not confirm a write: what was acknowledged stands, and the handle serves nothing any more."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import memodb
from memodb.catalog.failures import translate


@contextlib.contextmanager
def unconfirmed(monkeypatch: pytest.MonkeyPatch, after: int = 0) -> Iterator[None]:
    """Every sync but the first ones fails."""
    sync, left = os.fsync, [None] * after

    def failing(descriptor: int) -> None:
        if left:
            left.pop()
            return sync(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        yield


def require_refused(db: memodb.Store) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: db.append("more"),
        lambda: db.text("a"),
        lambda: db.next_tokens("one two"),
        lambda: db.delete("a"),
        lambda: len(db),
        lambda: db.check(),
        lambda: db.checkpoint(),
    ]
    for call in calls:
        with pytest.raises(memodb.SyncFailed, match="open it again"):
            call()


def test_after_a_checkpoint(
    fresh: Callable[..., memodb.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh(tmp_path / "s") as db, memodb.connect(tmp_path / "s", read_only=True) as other:
        db.append("one two three four", id="a")
        with unconfirmed(monkeypatch), pytest.raises(memodb.SyncFailed, match="did not confirm"):
            db.checkpoint()
        require_refused(db)
        assert other.text("a") == "one two three four"  # another handle knows nothing of it
    with memodb.connect(tmp_path / "s") as db:
        assert db.text("a") == "one two three four"
        assert db.check().ok


def test_after_a_commit_the_commit_stands(
    fresh: Callable[..., memodb.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh(tmp_path / "s", checkpoint_tokens=1) as db:
        # the first is of the document's key, before the commit
        with unconfirmed(monkeypatch, after=1), pytest.warns(RuntimeWarning, match="commit is durable"):
            assert db.append("one two three four", id="a").id == "a"
        require_refused(db)
    with memodb.connect(tmp_path / "s") as db:
        assert db.text("a") == "one two three four"
        assert db.check().ok


def test_in_the_middle_of_a_deletion(
    fresh: Callable[..., memodb.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh(tmp_path / "s") as db:
        db.append("one two three four", id="a")
        db.append("five six seven eight", id="b")
        db.checkpoint()
        with unconfirmed(monkeypatch), pytest.raises(memodb.SyncFailed) as caught:
            db.delete("b")
        assert any("hidden from every answer" in note for note in caught.value.__notes__)
        require_refused(db)
    with memodb.connect(tmp_path / "s") as db:
        assert [document.id for document in db.documents()] == ["a"]
        assert db.check().ok


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, memodb.SyncFailed),
        (sqlite3.SQLITE_IOERR_DIR_FSYNC, memodb.SyncFailed),
        (sqlite3.SQLITE_IOERR_TRUNCATE, memodb.SyncFailed),
        (sqlite3.SQLITE_IOERR_WRITE, memodb.StoreError),
        (sqlite3.SQLITE_FULL, memodb.DiskFull),
    ],
)
def test_what_sqlite_says_is_told_apart(code: int, kind: type[Exception]) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    assert type(translate(error, "c.db")) is kind
