"""Keys in one file: where they lie, that destroying one leaves nothing of it, and what damage and crashes leave."""

import errno
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb.errors import CorruptStore, DiskFull, ReadOnlyStore, StoreClosed, StoreError, SyncFailed
from memodb.storage import KeyFile, keyfile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    KeyFile.make(tmp_path / "keys")
    return tmp_path / "keys"


def writer(path: Path) -> KeyFile:
    return KeyFile(path, read_only=False)


def slot_of(name: bytes) -> int:
    return int.from_bytes(name[:8], "big")


def test_the_file_is_as_it_is_documented(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    keys = writer(path)
    names = keys.create(5)
    keys.destroy([names[2]])
    data = path.read_bytes()
    assert data[:64] == b"memodb keys 1\n" + bytes(50)
    assert len(data) == 64 * 6
    for number, name in enumerate(names, 1):
        slot = data[64 * number : 64 * (number + 1)]
        if number == 3:
            assert slot == bytes(64)
            continue
        tag, key, check, rest = slot[:8], slot[8:40], slot[40:48], slot[48:]
        assert name == number.to_bytes(8, "big") + tag
        assert keys.read([name]) == [key]
        whole = tag + key + number.to_bytes(8, "big")
        assert check == hashlib.blake2b(whole, digest_size=8, person=b"memodb keys").digest()
        assert rest == bytes(16)
        assert 64 * number // 512 == (64 * number + 63) // 512, "straddles a sector"
    keys.close()


@given(st.integers(1, 200), st.sets(st.integers(0, 199)))
def test_nothing_of_a_destroyed_key_is_left_and_nothing_else_is_touched(
    tmp_path_factory: pytest.TempPathFactory, count: int, doomed: set[int]
) -> None:
    path = tmp_path_factory.mktemp("keys") / "keys"
    KeyFile.make(path)
    keys = writer(path)
    names = keys.create(count)
    secrets = keys.read(names)
    before = path.read_bytes()
    gone = {at for at in doomed if at < count}
    assert keys.destroy(names[at] for at in gone) == len(gone)
    expected = bytearray(before)
    for at in gone:
        start = slot_of(names[at]) * 64
        expected[start : start + 64] = bytes(64)
    assert path.read_bytes() == expected
    assert all((secret in path.read_bytes()) == (at not in gone) for at, secret in enumerate(secrets) if secret)
    keys.close()


def test_given_up_slots_are_used_again_under_other_names(path: Path) -> None:
    keys = writer(path)
    names = keys.create(100)
    keys.destroy(names[10:20])
    again = keys.create(4)
    keys.close()
    keys = writer(path)
    again += keys.create(10)
    assert sorted(map(slot_of, again)) == [*range(11, 21), *range(101, 105)]
    assert keys.read(names[10:20]) == [None] * 10
    assert keys.destroy(names[10:20]) == 0  # an old name does not reach the new key
    assert None not in keys.read(again)
    assert keys.count == 104
    keys.close()


def test_every_flipped_bit_is_found_and_a_damaged_key_can_be_destroyed(path: Path) -> None:
    keys = writer(path)
    before, name, after = keys.create(3)
    whole = path.read_bytes()
    for bit in range(64 * 8):
        damaged = bytearray(whole)
        damaged[128 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert not keyfile._is_sound(bytes(damaged[128:192]), 2)
        if bit % 16:  # what follows waits for the disk, and for a writer that may be half way
            continue
        with pytest.raises(CorruptStore, match=r"slot 2 of .* is damaged"):
            keys.read([name])
        assert None not in keys.read([before, after])
        assert list(keys.orphans([before, name, after])) == []  # a damaged key is its document's
        assert [slot_of(orphan) for orphan in keys.orphans([before, after])] == [2]
        assert keys.count == 3
        assert keys.destroy([name]) == 1
        assert keys.read([name]) == [None]
        assert path.read_bytes()[128:192] == bytes(64)
    keys.close()


@pytest.mark.parametrize("cut", [5, 8, 20, 40, 44])
def test_half_of_a_write_beside_a_read_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """What a kernel may show of a write that another process is in the middle of; a moment later all of it is there."""
    keys, real = writer(path), os.pread
    names = keys.create(2)
    truth = keys.read(names)
    slots = path.read_bytes()[64:]
    for expected in (truth, [truth[0], None]):
        half = [True]

        def pread(descriptor: int, length: int, at: int, half: list[bool] = half) -> bytes:
            data = bytearray(real(descriptor, length, at))
            if half and at == 64 and length == 128:
                data[64:128] = bytes(cut) + slots[64 + cut :]
                half.clear()
            return bytes(data)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", pread)
            assert keys.read(names) == expected
        assert not half
        keys.destroy(names[1:])
    keys.close()


def test_keys_do_not_move(path: Path) -> None:
    """A sound slot in another slot's place is damage."""
    keys = writer(path)
    one, other = keys.create(2)
    whole = path.read_bytes()
    path.write_bytes(whole[:64] + whole[128:192] + whole[64:128])
    for name in (one, other):
        with pytest.raises(CorruptStore):
            keys.read([name])
    keys.close()


def test_hostile_names_reach_neither_the_header_nor_anything_behind_the_end(path: Path) -> None:
    keys = writer(path)
    (own,) = keys.create(1)
    whole = path.read_bytes()
    hostile = [b"", b"x", own[:15], own + b"x", bytes(16), b"\xff" * 16, bytes(8) + own[8:], whole[:16]]
    hostile += [number.to_bytes(8, "big") + own[8:] for number in (0, 2, 3, 2**31, 2**57, 2**58, 2**63, 2**64 - 1)]
    hostile += [own[:8] + bytes(8)]
    assert keys.read(hostile) == [None] * len(hostile)
    assert keys.destroy(hostile) == 0
    assert path.read_bytes() == whole
    assert list(keys.orphans(hostile)) == [own]
    keys.close()


def test_one_sync_a_call_and_one_write_a_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = writer(path)
    calls: list[str] = []
    for name in ("pwrite", "fsync", "pread"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    names = keys.create(1000)
    assert [call for call in calls if call != "pread"] == ["pwrite", "fsync"]
    calls.clear()
    keys.read(names)
    assert calls == ["pread"]
    calls.clear()
    keys.destroy(names[:10] + names[20:30])
    assert calls.count("pwrite") == 2
    assert calls.count("fsync") == 1
    assert calls.index("fsync") < len(calls) - 1 - calls[::-1].index("pread"), "not read back"
    calls.clear()
    keys.create(20)
    assert calls.count("pwrite") == 2
    keys.create(0)
    keys.destroy([])
    assert calls.count("fsync") == 1
    keys.close()


def test_zeros_that_do_not_arrive_are_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = writer(path)
    names = keys.create(3)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda _, data, at: len(data))
        with pytest.raises(StoreError, match="still holds keys"):
            keys.destroy(names)
    assert keys.destroy(names) == 3
    keys.close()


def test_a_full_disk_stops_new_keys_and_no_destruction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = writer(path)
    names = keys.create(10)
    size, real = path.stat().st_size, os.pwrite

    def full(descriptor: int, data: bytes, at: int) -> int:
        if at + len(data) > size + 100:
            if at > size:
                raise OSError(errno.ENOSPC, "No space left on device")
            data = data[: size + 100 - at]
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFull):
        keys.create(4)
    assert keys.destroy(names[:5]) == 5
    assert None not in keys.read(keys.create(5))  # in the slots that were given up
    monkeypatch.undo()
    assert None not in keys.read(keys.create(7) + names[5:])
    assert keys.count == 18  # and one, in the slot that had been filled, of which nobody has the name
    keys.close()


def test_slots_that_a_failure_left_free_are_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = writer(path)
    keys.destroy(keys.create(10))
    size = path.stat().st_size

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(StoreError, match="cannot be written"):
            keys.create(10)
    assert None not in keys.read(keys.create(10))
    assert path.stat().st_size == size
    keys.close()


def test_a_disk_that_does_not_confirm(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = writer(path)
    names = keys.create(1)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    for call in (lambda: keys.create(1), lambda: keys.destroy(names)):
        with pytest.raises(SyncFailed):
            call()
    keys.close()


@pytest.mark.parametrize("torn", range(1, 64))
def test_a_slot_that_was_torn_while_the_file_grew_is_written_again(path: Path, torn: int) -> None:
    keys = writer(path)
    names = keys.create(3)
    keys.close()
    os.truncate(path, 64 * 3 + torn)
    keys = writer(path)
    assert keys.read(names)[2] is None
    assert keys.count == 2
    (new,) = keys.create(1)
    assert slot_of(new) == 3
    assert None not in keys.read([*names[:2], new])
    assert path.stat().st_size == 64 * 4
    keys.close()


def test_orphans_are_what_nothing_names(path: Path) -> None:
    keys = writer(path)
    names = keys.create(5000)
    chance = random.Random(0)
    named = set(chance.sample(names, 4000))
    found = list(keys.orphans(iter(named)))
    assert set(found) == set(names) - named
    assert keys.destroy(found) == 1000
    assert list(keys.orphans(named)) == []
    assert set(keys.orphans([])) == named
    keys.close()


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for read_only in (True, False):
        with pytest.raises(CorruptStore, match="is missing, and without its keys nothing can be read"):
            KeyFile(path, read_only=read_only)
    KeyFile.make(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    kinds: list[Callable[[], object]] = [
        lambda: path.symlink_to(tmp_path / "real"),
        lambda: os.mkfifo(path),
        lambda: path.write_bytes(b"memodb keys 2\n".ljust(64, b"\0")),
        lambda: path.write_bytes(b"memodb keys 1\n"),
        path.touch,
        path.mkdir,
    ]
    for make in kinds:
        path.unlink(missing_ok=True)
        make()
        for read_only in (True, False):
            with pytest.raises(CorruptStore, match=str(path)):
                KeyFile(path, read_only=read_only)


def test_a_key_file_is_never_made_over_another(path: Path) -> None:
    keys = writer(path)
    names = keys.create(2)
    keys.close()
    KeyFile.make(path)
    keys = writer(path)
    assert None not in keys.read(names)
    keys.close()
    with pytest.raises(StoreError):
        KeyFile.make(path / "below")


def test_reading_only(path: Path) -> None:
    reader, keys = KeyFile(path, read_only=True), writer(path)
    names = keys.create(3)
    assert reader.read(names) == keys.read(names)
    for call in (lambda: reader.create(1), lambda: reader.destroy(names)):
        with pytest.raises(ReadOnlyStore):
            call()
    keys.destroy(names[:1])
    assert reader.read(names[:1]) == [None]  # nothing is remembered
    assert reader.count == 2
    reader.close()
    with pytest.raises(StoreClosed):
        reader.read(names)
    keys.close()
    for call in (lambda: keys.create(1), lambda: keys.destroy(names), lambda: keys.read([]), lambda: keys.count):
        with pytest.raises(StoreClosed):
            call()


def test_two_writers_do_not_overwrite_each_others_keys(path: Path) -> None:
    """Which the store's lock rules out; were it broken, keys must not be what is lost."""
    one, other = writer(path), writer(path)
    one.destroy(one.create(8))
    other.create(0)
    names = other.create(4)
    with pytest.raises(StoreError, match="another process"):
        one.create(8)
    assert None not in other.read(names + one.create(8))
    one.close()
    other.close()


def test_a_service_that_is_closed_while_it_is_read_reads_no_other_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(random.Random(1).randbytes(64 * 3000))
    keys = writer(path)
    names = keys.create(2000)
    expected = set(keys.read(names))
    keys.close()
    for _ in range(30):
        reader = KeyFile(path, read_only=True)
        seen: list[set[bytes | None]] = []

        def read(reader: KeyFile = reader, seen: list[set[bytes | None]] = seen) -> None:
            try:
                for _ in range(50):
                    seen.append(set(reader.read(names)))
            except StoreClosed:
                pass

        thread = threading.Thread(target=read)
        thread.start()
        reader.close()
        with (tmp_path / "other").open("rb"):
            thread.join()
        assert all(keys == expected for keys in seen)


WRITER = """
import sys
from pathlib import Path
from memodb.storage import KeyFile
keys = KeyFile(Path(sys.argv[1]), read_only=False)
names = [bytes.fromhex(line) for line in sys.stdin.read().split()]
for at in range(0, len(names), 5):
    print(at, flush=True)
    keys.destroy(names[at:at + 5])
    print(at + 5, flush=True)
    keys.create(7)
"""


def test_a_reader_beside_another_processs_writer(path: Path, in_process: Callable[..., str]) -> None:
    """Whatever it is doing: each key is right or gone, and gone for good once its destruction was acknowledged."""
    keys = writer(path)
    names = keys.create(1500)
    truth = keys.read(names)
    keys.close()
    reader = KeyFile(path, read_only=True)
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(keyfile.__file__).parents[2])},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n".join(name.hex() for name in names))
    child.stdin.close()
    said: list[int] = []
    listener = threading.Thread(target=lambda: said.extend(map(int, child.stdout or ())))
    listener.start()
    until, rounds = time.monotonic() + 60, 0
    while listener.is_alive() and time.monotonic() < until:
        acknowledged = said[-1] if said else 0
        found = reader.read(names)
        assert found[:acknowledged] == [None] * acknowledged
        assert all(key is None or key == expected for key, expected in zip(found, truth, strict=True))
        rounds += 1
    listener.join()
    child.stdout.close()
    assert child.wait() == 0
    assert rounds > 3
    assert reader.read(names) == [None] * len(names)
    assert len(set(reader.orphans([]))) == reader.count == 7 * 300
    reader.close()
