"""What keeps a store's files safe: ballast, leases, local disks, locks that no child inherits, syncs."""

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from memodb.errors import CorruptStore, DiskFull, StoreError, StoreLocked, SyncFailed
from memodb.storage import Ballast, Leases, StoreDirectory, WriterLock, durable, lease, require_local, write_manifest
from memodb.storage.copying import beside, place


def refusing(code: int) -> Callable[..., None]:
    def call(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, StoreError)]
)
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    durable.write_file(tmp_path / "f", [b"old"])

    def parts() -> object:
        yield b"half"
        raise OSError(code, os.strerror(code))

    with pytest.raises(kind, match="cannot be written") as caught:
        durable.write_file(tmp_path / "f", parts())  # type: ignore[arg-type]
    assert type(caught.value) is kind
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"old")]


def test_a_failed_sync_is_an_error_of_its_own_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(SyncFailed, match="did not confirm"):
        durable.write_file(tmp_path / "f", [b"new"])
    with pytest.raises(SyncFailed):
        durable.sync_directory(tmp_path)
    with pytest.raises(SyncFailed):
        durable.make_empty(tmp_path / "g")
    assert not list(tmp_path.glob("*.tmp"))


def test_a_ballast_takes_real_space_grows_with_the_catalog_and_is_given_up_once(tmp_path: Path) -> None:
    catalog, path = tmp_path / "catalog.db", tmp_path / "ballast"
    catalog.write_bytes(b"x")
    ballast = Ballast(path, catalog)
    assert not ballast.release()
    ballast.fill()
    assert path.stat().st_size == 1 << 18
    assert path.stat().st_blocks * 512 >= 1 << 18
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    catalog.write_bytes(bytes(1 << 22))
    ballast.fill()
    assert path.stat().st_size == 1 << 20
    catalog.write_bytes(b"x")
    ballast.fill()
    assert path.stat().st_size == 1 << 20  # never smaller: shrinking would be one more write
    assert ballast.release()
    assert not path.exists()
    assert not ballast.release()


def test_a_full_disk_has_no_ballast_and_that_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "catalog.db").touch()
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.ENOSPC))
    Ballast(tmp_path / "ballast", tmp_path / "catalog.db").fill()
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.db"]
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.EIO))
    with pytest.raises(StoreError):
        Ballast(tmp_path / "ballast", tmp_path / "catalog.db").fill()


def test_readers_share_a_lease_and_hold_destruction_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = Leases(tmp_path / "LEASES")
    with leases.reading():  # no file yet: a store that no writer has opened since leases were invented
        pass
    with leases.destroying():
        assert (tmp_path / "LEASES").exists()
    monkeypatch.setattr(lease, "PATIENCE", 0.05)
    with leases.reading(), leases.reading():
        with pytest.raises(StoreLocked, match="readers keep reading"), leases.destroying():
            pass
        destroyed: list[float] = []
        monkeypatch.setattr(lease, "PATIENCE", 30.0)

        def destroy() -> None:
            with leases.destroying():
                destroyed.append(time.monotonic())

        thread = threading.Thread(target=destroy)
        thread.start()
        time.sleep(0.1)
        assert destroyed == []
        released = time.monotonic()
    thread.join()
    assert destroyed[0] >= released


def test_a_dead_readers_lease_is_given_back(tmp_path: Path, in_process: Callable[..., str]) -> None:
    with Leases(tmp_path / "LEASES").destroying():
        pass
    in_process(
        "import os, sys\nfrom pathlib import Path\nfrom memodb.storage import Leases\n"
        "Leases(Path(sys.argv[1])).reading().__enter__()\nos._exit(0)",
        tmp_path / "LEASES",
    )
    with Leases(tmp_path / "LEASES").destroying():
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    held = WriterLock(tmp_path / "LOCK")
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b".")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    held.release()
    try:
        WriterLock(tmp_path / "LOCK").release()
    finally:
        os.write(go[1], b".")
        os.waitpid(child, 0)


def test_the_lock_is_never_somebody_elses_file(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "LOCK").symlink_to(precious)
    with pytest.raises(StoreError):
        WriterLock(tmp_path / "LOCK")
    assert precious.read_text() == "kept"
    (tmp_path / "LOCK").unlink()
    os.mkfifo(tmp_path / "LOCK")
    with pytest.raises(StoreError, match="regular file"):
        WriterLock(tmp_path / "LOCK")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.sshfs", "fuse.rclone"])
def test_network_file_systems_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mounts = [("/", "ext4"), (str(tmp_path.resolve()), "ext4"), (str(tmp_path.resolve() / "far"), kind)]
    found = [SimpleNamespace(mountpoint=point, fstype=fstype) for point, fstype in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: found)
    require_local(tmp_path / "near" / "s")
    require_local(tmp_path / "farther")
    for path in (tmp_path / "far", tmp_path / "far" / "a" / "b"):
        with pytest.raises(StoreError, match=f"network file system \\({kind}, mounted at"):
            require_local(path)
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far")
    with pytest.raises(StoreError, match="local disk"):
        require_local(tmp_path / "link" / "s")


def test_a_journal_that_names_another_file_is_refused(tmp_path: Path) -> None:
    directory = StoreDirectory(tmp_path)
    directory.prepare_journal("truncate")
    assert (tmp_path / "catalog.db-journal").stat().st_size == 0
    directory.prepare_journal("truncate")
    (tmp_path / "catalog.db-journal").write_bytes(bytes(100) + bytes.fromhex("d9d505f920a163d7"))
    with pytest.raises(CorruptStore, match="was not written by memodb"):
        directory.prepare_journal("truncate")


def test_a_directory_takes_anothers_place_at_once(tmp_path: Path) -> None:
    for there in ("nothing", "empty", "full"):
        target = tmp_path / there
        if there != "nothing":
            target.mkdir()
        if there == "full":
            (target / "old").write_text("old")
        with beside(target) as made:
            (made / "new").write_text("new")
            place(made, target)
        assert [path.name for path in target.iterdir()] == ["new"]
        assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "nothing"]


def test_what_a_crash_left_beside_goes_with_the_next_one(tmp_path: Path) -> None:
    """And nothing else: neither what somebody is still making, nor what only looks alike."""
    kept = ["b.0123456.tmp", "b.zzzzzzzz.tmp", "xb.01234567.tmp", "b.01234567.tmpx"]
    for name in (*kept, "b.01234567.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").touch()
    with beside(tmp_path / "b") as first, beside(tmp_path / "b") as second:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, first.name, second.name])
        place(second, tmp_path / "b")
    with pytest.raises(KeyError), beside(tmp_path / "b"):
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "b"])


@pytest.mark.parametrize("name", ["../x", "segments/../../x", "/etc/passwd", "LOCK", "segments/" + "0" * 63])
def test_a_manifest_names_no_file_outside_of_its_backup(tmp_path: Path, name: str) -> None:
    file = {"bytes": 1, "sha256": "0" * 64}
    files = {"catalog.db": file, "tokenizer.json.zst": file, name: file}
    write_manifest(tmp_path / "BACKUP", {"created_at": "2026-01-01T00:00:00+00:00", "collections": [], "files": files})
    from memodb.storage import read_manifest

    with pytest.raises(CorruptStore, match="no manifest"):
        read_manifest(tmp_path / "BACKUP")


def test_locks_are_the_kernels(tmp_path: Path) -> None:
    """A lock file that says it is held, and is not, holds nobody off."""
    (tmp_path / "LOCK").write_text("process 1\n")
    lock = WriterLock(tmp_path / "LOCK")
    with (tmp_path / "LOCK").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert (tmp_path / "LOCK").read_text() == f"process {os.getpid()}\n"
    lock.release()
