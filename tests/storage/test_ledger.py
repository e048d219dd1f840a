"""The ledger outlives its store: whole or not there, a line once its newline is, and its keys for its owner alone."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb.errors import Conflict, CorruptStore, DiskFull, InvalidInput, StoreError, SyncFailed
from memodb.storage import Ledger
from memodb.storage.ledger import LINE_BYTES

PEM = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ\n-----END PRIVATE KEY-----\n"
SECRET = bytes(range(32))

lines = st.binary(min_size=1, max_size=60).map(lambda data: data.replace(b"\n", b" "))
batches = st.lists(lines, max_size=6)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "s.ledger")
    made.create(PEM, SECRET)
    return made


def log(ledger: Ledger) -> Path:
    return ledger.path / "log.jsonl"


def test_it_is_private_and_holds_what_it_was_given(ledger: Ledger) -> None:
    assert ledger.exists()
    assert (ledger.signing(), ledger.suppression()) == (PEM, SECRET)
    assert (list(ledger.lines()), ledger.count()) == ([], 0)
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in ledger.path.iterdir()}
    assert files == {"log.jsonl": 0o600, "signing.pem": 0o600, "suppression.key": 0o600}
    assert [path.name for path in ledger.path.parent.iterdir()] == ["s.ledger"]


def test_it_is_made_once(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append([b"one"])
    with pytest.raises(Conflict, match="is there"):
        ledger.create(PEM, bytes(32))
    assert (list(ledger.lines()), ledger.suppression()) == ([b"one"], SECRET)
    for signing, suppression in ((b"", SECRET), (PEM, SECRET[:31]), (PEM, b""), (bytes(1 << 20), SECRET)):
        with pytest.raises(InvalidInput):
            Ledger(tmp_path / "other").create(signing, suppression)
    assert not Ledger(tmp_path / "other").exists()


@pytest.mark.parametrize("at", range(7))
def test_a_failure_at_any_sync_leaves_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Three files, each with its directory; the seventh confirms the name, and may be the one thing that is missing."""
    calls, real = 0, os.fsync

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    made = Ledger(tmp_path / "s.ledger")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(SyncFailed):
            made.create(PEM, SECRET)
    assert made.exists() == (at == 6)
    assert [path.name for path in tmp_path.iterdir()] == ["s.ledger"] * (at == 6)
    if at < 6:
        made.create(PEM, SECRET)
    assert (made.signing(), made.suppression(), made.count()) == (PEM, SECRET, 0)


@given(st.lists(batches, max_size=8))
def test_lines_come_back_in_order(tmp_path_factory: pytest.TempPathFactory, written: list[list[bytes]]) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(folder / "s.ledger")
    ledger.create(PEM, SECRET)
    for batch in written:
        ledger.append(batch)
    expected = [line for batch in written for line in batch]
    assert list(Ledger(ledger.path).lines()) == expected
    assert ledger.count() == len(expected)
    ledger.copy_to(folder / "copy")
    copy = Ledger(folder / "copy")
    assert log(copy).read_bytes() == log(ledger).read_bytes() == b"".join(line + b"\n" for line in expected)
    assert (copy.signing(), copy.suppression()) == (PEM, SECRET)
    assert {stat.S_IMODE(path.stat().st_mode) for path in copy.path.iterdir()} == {0o600}
    with pytest.raises(Conflict):
        ledger.copy_to(folder / "copy")


@given(batches, batches.filter(len), batches.filter(len))
def test_a_crash_at_every_byte_of_an_append(
    tmp_path_factory: pytest.TempPathFactory, before: list[bytes], during: list[bytes], after: list[bytes]
) -> None:
    """What was there stays, of what was being written whole lines are left, and the next append goes on from there."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "s.ledger")
    ledger.create(PEM, SECRET)
    ledger.append(before)
    start = log(ledger).stat().st_size
    ledger.append(during)
    whole = log(ledger).read_bytes()
    for size in range(start, len(whole) + 1):
        log(ledger).write_bytes(whole[:size])
        survived = whole[:size].split(b"\n")[:-1]
        assert survived[: len(before)] == before
        assert survived == [*before, *during][: len(survived)]
        assert list(ledger.lines()) == survived
        assert ledger.count() == len(survived)
    for size in {start, start + 1, (start + len(whole)) // 2, len(whole) - 1}:
        log(ledger).write_bytes(whole[:size])
        survived = list(ledger.lines())
        ledger.append(after)
        assert list(ledger.lines()) == survived + after
        assert log(ledger).read_bytes().endswith(b"\n")


@pytest.mark.parametrize("torn", [1, 4094, 4095])
@pytest.mark.parametrize("before", [[], [b"one"], [b"x" * 4095] * 3])
def test_the_longest_line_may_be_torn(ledger: Ledger, torn: int, before: list[bytes]) -> None:
    ledger.append(before)
    with log(ledger).open("ab") as file:
        file.write(b"t" * torn)
    assert (list(ledger.lines()), ledger.count()) == (before, len(before))
    ledger.append([b"after"])
    assert list(ledger.lines()) == [*before, b"after"]


@pytest.mark.parametrize("before", [b"", b"one\n"])
@pytest.mark.parametrize("size", [4096, 4097, 1 << 20])
def test_a_line_without_end_is_no_torn_line(ledger: Ledger, before: bytes, size: int) -> None:
    log(ledger).write_bytes(before + b"x" * size)
    with pytest.raises(CorruptStore, match="no line"):
        ledger.append([b"after"])
    assert log(ledger).read_bytes() == before + b"x" * size
    with pytest.raises(CorruptStore, match="longer than 4096"):
        list(ledger.lines())
    with pytest.raises(CorruptStore):
        ledger.copy_to(ledger.path.parent / "copy")
    assert not (ledger.path.parent / "copy").exists()


@pytest.mark.parametrize("line", [b"", b"a\nb", b"\n", b"x" * LINE_BYTES])
def test_what_is_no_line_is_not_appended(ledger: Ledger, line: bytes) -> None:
    with pytest.raises(InvalidInput, match="one line"):
        ledger.append([b"good", line])
    assert ledger.count() == 0
    ledger.append([b"x" * (LINE_BYTES - 1)])
    assert list(ledger.lines()) == [b"x" * (LINE_BYTES - 1)]


@pytest.mark.parametrize("room", range(0, 30, 3))
def test_a_full_disk_leaves_the_log_as_it_was(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Also where some lines had found room: nobody was told that they were there."""
    ledger.append([b"one", b"two"])
    before, real = log(ledger).read_bytes(), os.pwrite

    def full(descriptor: int, data: bytes, at: int) -> int:
        left = len(before) + room - at
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:left], at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(DiskFull):
            ledger.append([b"three"] * 6)
    assert log(ledger).read_bytes() == before
    ledger.append([b"three"])
    assert list(ledger.lines()) == [b"one", b"two", b"three"]


def test_one_write_and_one_sync(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("pwrite", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    ledger.append([b"a line"] * 1000)
    assert calls == ["pwrite", "fsync"]
    ledger.append([])
    assert calls == ["pwrite", "fsync"]
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(SyncFailed):
        ledger.append([b"unconfirmed"])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o602, 0o644, 0o777])
@pytest.mark.parametrize("name", ["signing", "suppression"])
def test_a_key_that_others_can_have_is_refused(ledger: Ledger, name: str, mode: int) -> None:
    path = next(path for path in ledger.path.iterdir() if path.stem == name)
    path.chmod(mode)
    with pytest.raises(StoreError, match="chmod 600") as caught:
        getattr(ledger, name)()
    assert str(path) in str(caught.value)
    assert f"{mode:04o}" in str(caught.value)
    path.chmod(0o400)
    assert getattr(ledger, name)()


CALLS: dict[str, Callable[[Ledger], object]] = {
    "log.jsonl": lambda ledger: (list(ledger.lines()), ledger.count(), ledger.append([b"x"])),
    "signing.pem": Ledger.signing,
    "suppression.key": Ledger.suppression,
}


@pytest.mark.parametrize("name", CALLS)
def test_files_that_are_lost_links_pipes_or_of_another_length(ledger: Ledger, tmp_path: Path, name: str) -> None:
    path = ledger.path / name
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    (tmp_path / "elsewhere").chmod(0o600)
    path.unlink()
    with pytest.raises(CorruptStore, match="is missing: put back"):
        CALLS[name](ledger)
    for make in (lambda: path.symlink_to(tmp_path / "elsewhere"), lambda: os.mkfifo(path), lambda: path.mkdir(0o700)):
        make()
        with pytest.raises(StoreError, match=str(path)):
            CALLS[name](ledger)
        path.rmdir() if path.is_dir() else path.unlink()
    if name == "log.jsonl":
        return
    for size in (0, 1 << 20, *([31, 33] if name == "suppression.key" else [])):
        path.write_bytes(bytes(size))
        path.chmod(0o600)
        with pytest.raises(CorruptStore, match=str(path)):
            CALLS[name](ledger)


def test_where_no_ledger_is(tmp_path: Path, ledger: Ledger) -> None:
    missing = Ledger(tmp_path / "missing.ledger")
    assert not missing.exists()
    for call in CALLS.values():
        with pytest.raises(StoreError, match="is missing: put it back"):
            call(missing)
    (tmp_path / "link").symlink_to(ledger.path)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        other = Ledger(tmp_path / name)
        for call in (Ledger.exists, lambda each: each.create(PEM, SECRET), *CALLS.values()):
            with pytest.raises(StoreError, match="is a link or a file"):
                call(other)


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.ledger")
    with pytest.raises(StoreError):
        Ledger(tmp_path / "s.ledger").exists()
