"""The files of a store: names, modes, the lock, and writes that are whole or not there."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from memodb.errors import Conflict, CorruptStore, StoreError, StoreLocked, StoreNotFound
from memodb.storage import StoreDirectory, WriterLock


def test_one_holder_at_a_time_who_is_named(tmp_path: Path) -> None:
    first = WriterLock(tmp_path / "LOCK")
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}") as caught:
        WriterLock(tmp_path / "LOCK")
    assert str(tmp_path) in str(caught.value)
    assert "read_only=True" in str(caught.value)
    first.release()
    first.release()
    second = WriterLock(tmp_path / "LOCK")
    second.release()
    assert stat.S_IMODE((tmp_path / "LOCK").stat().st_mode) == 0o600


def test_a_lock_dies_with_its_holder(tmp_path: Path, in_process: Callable[..., str]) -> None:
    source = (
        "import os, sys\nfrom pathlib import Path\nfrom memodb.storage import WriterLock\n"
        "lock = WriterLock(Path(sys.argv[1]))\nprint(os.getpid(), flush=True)\nos.kill(os.getpid(), 9)"
    )
    pid = in_process(source, tmp_path / "LOCK", code=-9)
    assert pid.strip() in (tmp_path / "LOCK").read_text()
    WriterLock(tmp_path / "LOCK").release()


def test_a_shorter_pid_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    (tmp_path / "LOCK").write_text("process 123456789012345\n")
    lock = WriterLock(tmp_path / "LOCK")
    assert (tmp_path / "LOCK").read_text() == f"process {os.getpid()}\n"
    lock.release()


def test_a_lock_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "LOCK").mkdir()
    with pytest.raises(StoreError, match="read_only=True"):
        WriterLock(tmp_path / "LOCK")


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    directory = StoreDirectory(tmp_path)
    with pytest.raises(Conflict, match=r"holiday\.jpg"):
        directory.holds_store()
    with pytest.raises(Conflict, match="is a file"):
        StoreDirectory(tmp_path / "holiday.jpg").holds_store()


def test_where_there_is_no_store(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "new"):
        with pytest.raises(StoreNotFound, match="connect"):
            StoreDirectory(path).require()
    assert list(tmp_path.iterdir()) == []


def test_the_leavings_of_an_interrupted_creation_are_no_store(tmp_path: Path) -> None:
    for name in ("LOCK", "catalog.db-journal", "0123.tmp"):
        (tmp_path / name).touch()
    assert not StoreDirectory(tmp_path).holds_store()


@pytest.mark.parametrize("left", ["tokenizer.json.zst", "segments"])
@pytest.mark.parametrize("emptied", [True, False])
def test_a_store_that_lost_its_catalog_is_no_new_one(tmp_path: Path, left: str, emptied: bool) -> None:
    (tmp_path / left).mkdir() if left == "segments" else (tmp_path / left).touch()
    if emptied:
        (tmp_path / "catalog.db").touch()
    with pytest.raises(CorruptStore, match="restore the store from a backup"):
        StoreDirectory(tmp_path).holds_store()


def test_the_directory_is_private(tmp_path: Path) -> None:
    StoreDirectory(tmp_path / "a" / "b").create()
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        StoreDirectory(tmp_path / "file" / "b").create()


@pytest.mark.parametrize("data", [b"", b"{}", bytes(range(256)) * 999])
def test_the_tokenizer_comes_back(tmp_path: Path, data: bytes) -> None:
    directory = StoreDirectory(tmp_path)
    directory.write_tokenizer(b"what was there")
    directory.write_tokenizer(data)
    assert directory.read_tokenizer() == data
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json.zst"]
    assert stat.S_IMODE(directory.tokenizer.stat().st_mode) == 0o600
    assert directory.nbytes() == directory.tokenizer.stat().st_size


def test_a_tokenizer_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = StoreDirectory(tmp_path)
    directory.write_tokenizer(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space"):
            directory.write_tokenizer(b"new")
    assert directory.read_tokenizer() == b"old"


def test_the_file_is_synced_before_its_name_is_and_then_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    StoreDirectory(tmp_path).write_tokenizer(b"x" * 1000)
    assert done == ["file", "rename", "directory"]


def test_a_damaged_tokenizer_is_said_to_be_one(tmp_path: Path) -> None:
    directory = StoreDirectory(tmp_path)
    with pytest.raises(CorruptStore, match="missing"):
        directory.read_tokenizer()
    data = os.urandom(300)
    directory.write_tokenizer(data)
    whole = directory.tokenizer.read_bytes()
    for size in range(len(whole)):
        directory.tokenizer.write_bytes(whole[:size])
        with pytest.raises(CorruptStore):
            directory.read_tokenizer()
    directory.tokenizer.write_bytes(zstandard.ZstdCompressor(write_content_size=False).compress(data))
    with pytest.raises(CorruptStore, match="size"):
        directory.read_tokenizer()
    bomb = zstandard.ZstdCompressor().compress(bytes(300 * 2**20))
    directory.tokenizer.write_bytes(bomb)
    with pytest.raises(CorruptStore, match="size"):
        directory.read_tokenizer()
