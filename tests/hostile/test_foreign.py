"""Files of a store that are missing, of another kind, of another store, or nobody's: valid, or a typed error."""

import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import memodb

PATIENCE = 20
"""Seconds after which opening a store counts as hanging."""


def judged(specimen: Any, path: Path, **how: Any) -> Any:
    """The verdict on a store, in a thread of its own: a named pipe must not make anybody wait."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(specimen.judge(path, **how)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it hangs"
    return found[0]


def require_sound(verdict: Any, what: str) -> bool:
    """No untyped error, no wrong answer without a word; whether anybody was told."""
    assert not verdict.untyped, (what, verdict.untyped)
    assert not verdict.lies, (what, verdict.lies)
    assert verdict.detected or not verdict.wrong, (what, verdict.wrong)
    return bool(verdict.detected)


def everywhere(specimen: Any) -> list[Path]:
    """Every file of the store, and its directories of tiles and of the ledger."""
    return [*specimen.files(), Path("segments"), Path("ledger")]


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def a_directory(path: Path, outside: Path) -> None:
    path.mkdir()
    (path / "x").write_text("x")


def a_pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path, outside: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def a_link_to_nothing(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "nothing")


def a_link_to_itself(path: Path, outside: Path) -> None:
    path.symlink_to(path.name)


def a_link_to_a_file(path: Path, outside: Path) -> None:
    (outside / "precious").write_bytes(b"somebody else's")
    path.symlink_to(outside / "precious")


def a_link_to_a_directory(path: Path, outside: Path) -> None:
    (outside / "folder").mkdir()
    (outside / "folder" / "precious.tmp").write_bytes(b"somebody else's")
    (outside / "folder" / ("0" * 64)).write_bytes(b"somebody else's, too")
    path.symlink_to(outside / "folder")


def a_link_to_its_like(path: Path, outside: Path) -> None:
    """What the store would have there, somewhere else: reading it would be harmless, writing it would not."""
    (outside / "twin").mkdir()
    path.symlink_to(outside / "twin" / path.name)


KINDS = (
    a_directory, a_pipe, a_socket, a_link_to_nothing, a_link_to_itself, a_link_to_a_file, a_link_to_a_directory,
    a_link_to_its_like,
)  # fmt: skip


@pytest.mark.parametrize("writing", [False, True], ids=["reading", "writing"])
def test_a_missing_file_is_said_or_not_missed(
    specimen: Any, tmp_path: Path, covered: Callable[..., None], writing: bool
) -> None:
    told = 0
    for number, file in enumerate(everywhere(specimen)):
        path = specimen.copy(tmp_path / str(number))
        remove(path / file)
        told += require_sound(judged(specimen, path, read_only=not writing, create=writing), f"{file} is missing")
    covered(cases=len(everywhere(specimen)), told=told)
    assert told >= 4  # catalog, tokenizer, tiles, keys


@pytest.mark.parametrize("writing", [False, True], ids=["reading", "writing"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["sample", "full"])
def test_a_file_of_another_kind_is_refused_and_nothing_outside_is_touched(
    specimen: Any,
    beside: Callable[[str], ModuleType],
    tmp_path: Path,
    covered: Callable[..., None],
    kind: Callable[[Path, Path], None],
    writing: bool,
    long: bool,
) -> None:
    """Every file of the store in turn, and the names that SQLite and writers use beside them; the sample takes some."""
    listing = beside("specimen").listing
    cases = 0
    extra = [Path("catalog.db-wal"), Path("catalog.db-shm"), Path("0123456789abcdef.tmp")]
    step = 1 if long else 4
    for file in [*everywhere(specimen), *extra][KINDS.index(kind) % step :: step]:
        path = specimen.copy(tmp_path / f"s {cases}")
        outside = tmp_path / f"outside {cases}"
        outside.mkdir()
        if (path / file).exists():
            if kind is a_link_to_its_like:
                (outside / "twin").mkdir()
                (path / file).rename(outside / "twin" / file.name)
                (path / file).symlink_to(outside / "twin" / file.name)
            else:
                remove(path / file)
        if not (path / file).is_symlink():
            kind(path / file, outside)
        before = listing(outside)
        judged_ = judged(specimen, path, read_only=not writing, create=writing, fix=writing)
        require_sound(judged_, f"{file} is {kind.__name__}")
        assert listing(outside) == before, f"{file} as {kind.__name__}: something outside was changed"
        cases += 1
    covered(cases=cases)


@pytest.mark.parametrize(
    "name", ["LOCK", "catalog.db", "catalog.db-journal", "tokenizer.json.zst", "segments", "keys", "ledger"]
)
def test_a_link_to_the_store_s_own_kind_is_refused(
    specimen: Any, beside: Callable[[str], ModuleType], tmp_path: Path, name: str
) -> None:
    """The file itself, moved out and linked to: all would work, and the writing would happen outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    path = specimen.copy(tmp_path / "s")
    (path / name).rename(outside / name)
    (path / name).symlink_to(outside / name)
    before = beside("specimen").listing(outside)
    for writing in (False, True):
        with pytest.raises(memodb.StoreError):
            memodb.connect(path, read_only=not writing)
    assert beside("specimen").listing(outside) == before


@pytest.mark.parametrize("file", ["catalog.db", "tokenizer.json.zst", "tile", "keys", "ledger"])
def test_another_store_s_file_is_not_believed(specimen: Any, tmp_path: Path, file: str) -> None:
    """A catalog belongs to its tokenizer, tiles, keys and ledger: of another store's, only a whole one would do."""
    other = tmp_path / "other"
    with memodb.connect(other, seed=bytes(32), segment_tokens=4096, layers=1) as db:
        db.append("of another store", id="document 0")
        db.checkpoint()
    path = specimen.copy(tmp_path / "s")
    if file == "tile":
        (name,) = (p for p in (other / "segments").iterdir())
        shutil.copy(name, path / specimen.tile())
    elif file == "ledger":
        shutil.rmtree(path / file)
        shutil.copytree(other / file, path / file)
    else:
        shutil.copy(other / file, path / file)
    for writing in (False, True):
        verdict = specimen.judge(path, read_only=not writing, create=writing)
        assert verdict.detected or file == "catalog.db"
        assert not verdict.untyped
        if file != "catalog.db":  # a store whose whole catalog was exchanged *is* the other store
            require_sound(verdict, file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what it likes")
def test_an_unreadable_file_is_a_typed_error(specimen: Any, tmp_path: Path) -> None:
    for number, file in enumerate(everywhere(specimen)):
        path = specimen.copy(tmp_path / str(number))
        (path / file).chmod(0)
        for writing in (False, True):
            require_sound(specimen.judge(path, read_only=not writing), f"{file} is unreadable")
        (path / file).chmod(stat.S_IRWXU)


def test_what_a_user_adds_is_left_alone(specimen: Any, tmp_path: Path) -> None:
    """Notes beside the store's files, a folder, a hidden file: neither used nor removed; a check may point at them."""
    path = specimen.copy(tmp_path / "s")
    (path / "notes.txt").write_text("mine")
    (path / ".hidden").write_text("mine")
    (path / "folder").mkdir()
    (path / "folder" / "x.tmp").write_text("mine")
    (path / "segments" / "folder").mkdir()
    for writing in (False, True):
        verdict = specimen.judge(path, read_only=not writing, create=writing)
        assert (verdict.wrong, verdict.lies, verdict.untyped) == ([], [], [])
        assert all("notes.txt" in said or "folder" in said or ".hidden" in said for said in verdict.findings)
    assert (path / "notes.txt").read_text() == (path / "folder" / "x.tmp").read_text() == "mine"
    assert (path / ".hidden").exists()


def test_a_store_may_be_reached_through_a_link(specimen: Any, tmp_path: Path) -> None:
    """The user's own link to the store's directory is no attack."""
    specimen.copy(tmp_path / "s")
    (tmp_path / "link").symlink_to("s")
    for writing in (False, True):
        verdict = specimen.judge(tmp_path / "link", read_only=not writing)
        assert verdict == type(verdict)()


def test_a_super_journal_deletes_nothing(specimen: Any, beside: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """A rollback journal may name another file, which SQLite deletes when it has rolled back. Ours never does."""
    import struct

    victim = tmp_path / "outside"
    victim.write_bytes(b"no journal's name\0")
    for writing in (False, True):
        path = specimen.copy(tmp_path / f"s {writing}")
        data = (path / "catalog.db").read_bytes()
        pages, page = len(data) // 4096, 2
        nonce = 7
        header = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", 1, nonce, pages, 512, 4096)
        body = data[(page - 1) * 4096 : page * 4096]
        checksum = (nonce + sum(body[at] for at in range(4096 - 200, 0, -200))) & 0xFFFFFFFF
        name = str(victim).encode()
        trailer = struct.pack(">I", 262145) + name + struct.pack(">II", len(name), sum(name))
        journal = header.ljust(512, b"\0") + struct.pack(">I", page) + body + struct.pack(">I", checksum)
        (path / "catalog.db-journal").write_bytes(journal + trailer + bytes.fromhex("d9d505f920a163d7"))
        verdict = specimen.judge(path, read_only=not writing, create=writing)
        require_sound(verdict, "a super-journal")
        assert victim.exists()
