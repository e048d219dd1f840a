"""What goes is overwritten before its name goes, whatever it is and wherever this is interrupted."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb.errors import CorruptStore, DiskFull, StoreError, SyncFailed
from memodb.storage import Destroyed, destroy_orphans, durable
from memodb.storage.copying import beside, place


class Held:
    """A file that stays readable after its name is gone: what its blocks hold then is what a disk is found with."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.descriptor).st_size

    def zeroed(self) -> bool:
        assert os.fstat(self.descriptor).st_size == self.size
        return os.pread(self.descriptor, self.size, 0) == bytes(self.size)

    def close(self) -> None:
        os.close(self.descriptor)


names = st.text("abc0.tmp", min_size=1, max_size=6).filter(lambda name: name.strip("."))


@given(st.dictionaries(names, st.binary(max_size=2000)), st.sets(names))
def test_orphans_are_overwritten_and_go_and_all_else_stays(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], kept: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("segments")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "a directory").mkdir()
    held = {name: Held(folder / name) for name in files}
    gone = files.keys() - kept
    assert destroy_orphans(folder, kept) == Destroyed(tuple(sorted(gone)), sum(len(files[name]) for name in gone))
    assert {path.name for path in folder.iterdir()} == {"a directory", *files.keys() & kept}
    for name, data in files.items():
        assert held[name].zeroed() or (name in kept and (folder / name).read_bytes() == data)
        held[name].close()
    assert destroy_orphans(folder, kept) == Destroyed((), 0)
    assert destroy_orphans(folder / "missing", set()) == Destroyed((), 0)


@pytest.mark.parametrize("size", [0, 1, 4096, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 5])
def test_files_of_every_size_are_overwritten_to_their_end(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"s" * size)
    held = Held(tmp_path / "f")
    assert destroy_orphans(tmp_path, set()).nbytes == size
    assert held.zeroed()
    held.close()


def test_what_is_somebody_elses_is_not_overwritten(tmp_path: Path) -> None:
    folder, outside = tmp_path / "segments", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (outside / "shared").write_text("ours")
    os.link(outside / "shared", folder / "hard link")
    (folder / "link").symlink_to(outside / "precious")
    (folder / "folder link").symlink_to(outside)
    (folder / "dangling").symlink_to(outside / "nothing")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket"))
    gone = ("dangling", "folder link", "hard link", "link", "pipe", "socket")
    assert destroy_orphans(folder, set()) == Destroyed(gone, 0)
    assert list(folder.iterdir()) == []
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"precious": "mine", "shared": "ours"}
    (tmp_path / "led").symlink_to(outside)
    with pytest.raises(StoreError, match="is a link or a file"):
        destroy_orphans(tmp_path / "led", set())
    assert sorted(path.name for path in outside.iterdir()) == ["precious", "shared"]


def test_a_sparse_terabyte_costs_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, written = tmp_path / "f", os.pwrite, 0

    def bounded(descriptor: int, data: bytes, at: int) -> int:
        nonlocal written
        written += len(data)
        assert written < 2**22, "the disk would be full before this failed by itself"
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", bounded)
    with path.open("wb") as file:
        for at in (0, 2**30, 2**39):
            file.seek(at)
            file.write(b"s" * 5000)
        file.truncate(2**40)
    held = Held(path)
    assert destroy_orphans(tmp_path, set()).nbytes < 2**20
    for at in (0, 2**30, 2**39):
        assert os.pread(held.descriptor, 5000, at) == bytes(5000)
    held.close()


def test_where_holes_cannot_be_told_all_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"s" * 5000)
    held = Held(tmp_path / "f")

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "lseek", refuse)
    assert destroy_orphans(tmp_path, set()).nbytes == 5000
    assert held.zeroed()
    held.close()


class Crash(BaseException):
    """The process ends here."""


def steps(monkeypatch: pytest.MonkeyPatch, at: int, done: list[str]) -> None:
    """Note each call that changes a disk, and end the process before the one of this number."""
    for owner, name in ((os, "pwrite"), (os, "fsync"), (Path, "unlink")):
        real = getattr(owner, name)

        def call(*arguments: object, _real: Callable[..., object] = real, _name: str = name, **named: object) -> object:
            if len(done) == at:
                raise Crash
            directory = _name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)  # type: ignore[arg-type]
            done.append("directory" if directory else _name)
            return _real(*arguments, **named)

        monkeypatch.setattr(owner, name, call)


def test_whatever_a_crash_leaves_the_next_call_brings_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_ZEROS", memoryview(bytes(1000)))
    whole = ["pwrite", "pwrite", "pwrite", "fsync", "unlink"] * 2 + ["directory"]
    for at in range(len(whole) + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        for name in ("a", "b"):
            (folder / name).write_bytes(b"s" * 2500)
        held = [Held(folder / name) for name in ("a", "b")]
        done: list[str] = []
        with monkeypatch.context() as patch:
            steps(patch, at, done)
            with contextlib.suppress(Crash):
                destroy_orphans(folder, set())
            assert done == whole[:at]
        for file in held:
            assert file.zeroed() or len(list(folder.iterdir())) > 0
        destroy_orphans(folder, set())
        assert list(folder.iterdir()) == []
        assert all(file.zeroed() for file in held)
        for file in held:
            file.close()


@pytest.mark.parametrize(
    ("call", "code", "kind"),
    [
        ("pwrite", errno.EIO, StoreError),
        ("pwrite", errno.ENOSPC, DiskFull),
        ("open", errno.EACCES, StoreError),
        ("fsync", errno.EIO, SyncFailed),
    ],
)
def test_what_cannot_be_overwritten_stays_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, kind: type[StoreError]
) -> None:
    (tmp_path / "f").write_bytes(b"secret")

    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(kind) as caught:
        destroy_orphans(tmp_path, set())
    assert type(caught.value) is kind
    monkeypatch.undo()
    assert (tmp_path / "f").exists()


def test_a_replaced_directory_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "store"
    (target / "segments").mkdir(parents=True)
    files = [target / "catalog.db", target / "segments" / "tile"]
    for file in files:
        file.write_text("a text")
    held = list(map(Held, files))
    with beside(target) as made:
        (made / "catalog.db").write_text("new")
        place(made, target)
    assert all(file.zeroed() for file in held)
    assert [(path.name, path.read_text()) for path in target.iterdir()] == [("catalog.db", "new")]
    for file in held:
        file.close()


def test_half_a_copy_is_overwritten(tmp_path: Path) -> None:
    """Where making it failed, and where a crash left it."""
    left = tmp_path / "store.01234567.tmp"
    left.mkdir()
    (left / "catalog.db").write_text("a text")
    held = [Held(left / "catalog.db")]

    def interrupted() -> None:
        with beside(tmp_path / "store") as made:
            assert not left.exists()
            (made / "catalog.db").write_text("another")
            held.append(Held(made / "catalog.db"))
            raise CorruptStore("it is not sound")

    with pytest.raises(CorruptStore):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    assert all(file.zeroed() for file in held)
    for file in held:
        file.close()


def test_own_files_are_regular_ones(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("own")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "nothing", "."):
        with pytest.raises((OSError, CorruptStore)):
            durable.open_own(tmp_path / name)
    parent = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for descriptor in (durable.open_own(tmp_path / "f"), durable.open_own("f", directory=parent)):
        assert os.read(descriptor, 9) == b"own"
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
    os.close(durable.open_own(tmp_path / "new", os.O_WRONLY | os.O_CREAT))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    os.close(parent)
