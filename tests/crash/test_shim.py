"""The shim itself: it sees every change that Python and SQLite make, in order, and breaks the one it is asked to."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import memodb

HEAD = struct.Struct("<B3xIIQQ")
CREATE, WRITE, TRUNCATE, SYNC, SYNC_DIRECTORY, RENAME, UNLINK, MKDIR, RMDIR, MARK = range(1, 11)

EVERYTHING = """
import ctypes, os, shutil, sqlite3, sys
root = sys.argv[1]
library = ctypes.CDLL(None)
trace = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
library.shim_trace(root.encode(), trace)
os.mkdir(root + "/sub")
at = os.open(root + "/plain", os.O_RDWR | os.O_CREAT)
os.write(at, b"0123456789")
os.pwrite(at, b"abc", 20)
os.writev(at, [b"x", b"yz"])
os.pwritev(at, [b"pw", b"v"], 3)
copy = os.dup(at)
os.close(at)
os.write(copy, b"through the copy")
os.ftruncate(copy, 15)
os.posix_fallocate(copy, 0, 100)
os.truncate(root + "/plain", 90)
os.fsync(copy)
os.rename(root + "/plain", root + "/moved")
os.write(copy, b"after the move")
with open(root + "/appended", "ab") as file:
    file.write(b"one")
with open(root + "/appended", "ab") as file:
    file.write(b"two")
with open(root + "/emptied", "wb") as file:
    file.write(b"gone")
open(root + "/emptied", "wb").close()
shutil.copyfile(root + "/appended", root + "/sub/copied")
source = os.open(root + "/appended", os.O_RDONLY)
os.copy_file_range(source, copy, 5, offset_dst=40)
directory = os.open(root + "/sub", os.O_RDONLY)
inside = os.open("relative", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
os.write(inside, b"by a directory's descriptor")
os.fsync(directory)
os.unlink("relative", dir_fd=directory)
os.write(inside, b"to nobody")
os.mkdir(root + "/brief")
os.rmdir(root + "/brief")
base = sqlite3.connect(root + "/base.db")
base.execute("PRAGMA journal_mode=TRUNCATE")
base.execute("PRAGMA cache_size=5")
base.execute("CREATE TABLE t (x)")
base.executemany("INSERT INTO t VALUES (?)", [("v" * 500,)] * 200)
base.commit()
base.execute("DELETE FROM t WHERE rowid % 2")
base.rollback()
base.execute("DELETE FROM t WHERE rowid % 3")
base.commit()
base.execute("VACUUM")
base.close()
library.shim_mark(b"the end")
"""

ARMED = """
import ctypes, os, sys
root, mode, at, error = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
library = ctypes.CDLL(None)
library.shim_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int]
library.shim_name.restype = ctypes.c_char_p
library.shim_arm(root.encode(), mode, at, error)
file = os.open(root + "/file", os.O_WRONLY | os.O_CREAT)
for part in (b"first.", b"second", b"third."):
    try:
        os.write(file, part)
    except OSError as exc:
        print("failed", exc.errno)
try:
    os.unlink(root + "/file")
except OSError as exc:
    print("kept", exc.errno)
count, broken = library.shim_count(), library.shim_broken()
print(count, library.shim_name(count).decode(), library.shim_failed(), library.shim_name(broken).decode())
"""


def run(shim: Path, source: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        env={**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": str(Path(memodb.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def replay(trace: bytes) -> tuple[dict[str, bytes], list[str]]:
    """The files that a record makes, and its marks."""
    files: dict[str, bytes] = {}
    marks = []
    at = 0
    while at < len(trace):
        op, first, second, offset, size = HEAD.unpack_from(trace, at)
        at += HEAD.size
        path, at = trace[at : at + first].decode(), at + first
        other, at = trace[at : at + second].decode(), at + second
        data, at = trace[at : at + size], at + size
        if op == CREATE:
            files[path] = b""
        elif op == WRITE:
            before = files[path].ljust(offset, b"\0")
            files[path] = before[:offset] + data + before[offset + size :]
        elif op == TRUNCATE:
            files[path] = files[path][:offset].ljust(offset, b"\0")
        elif op == RENAME:
            for name in [name for name in files if name == path or name.startswith(path + "/")]:
                files[other + name[len(path) :]] = files.pop(name)
        elif op == UNLINK:
            del files[path]
        elif op == MARK:
            marks.append(path)
        else:
            assert op in (SYNC, SYNC_DIRECTORY, MKDIR, RMDIR)
    return files, marks


def on_disk(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_record_replays_to_the_files_that_are_there(shim: Path, tmp_path: Path) -> None:
    root = (tmp_path / "root").resolve()
    root.mkdir()
    done = run(shim, EVERYTHING, root, tmp_path / "trace")
    assert done.returncode == 0, done.stderr
    files, marks = replay((tmp_path / "trace").read_bytes())
    assert marks == ["the end"]
    assert files == on_disk(root)
    assert len(files[str(root / "base.db")]) > 4096


def test_a_store_is_changed_by_nothing_that_the_shim_does_not_see(shim: Path, tmp_path: Path) -> None:
    source = """
import ctypes, os, sys
library = ctypes.CDLL(None)
trace = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
library.shim_trace(sys.argv[1].encode(), trace)
import memodb
with memodb.connect(sys.argv[1] + "/store", segment_tokens=4096) as db:
    db.append_many([{"id": str(n), "text": f"Note {n} of the harbour: the light is red."} for n in range(40)])
    db.checkpoint()
    db.delete("7")
    db.compact()
    db.checkpoint()
"""
    root = (tmp_path / "root").resolve()
    root.mkdir()
    done = run(shim, source, root, tmp_path / "trace")
    assert done.returncode == 0, done.stderr
    files, _ = replay((tmp_path / "trace").read_bytes())
    assert files == on_disk(root)
    assert sum("/segments/" in path for path in files) == 1


@pytest.mark.parametrize(
    ("mode", "at", "killed", "held", "said"),
    [
        (1, 0, False, None, "5 unlink file 0 \n"),
        (2, 3, True, b"first.", ""),
        (3, 3, True, b"first.second", ""),
        (6, 3, True, b"first.sec", ""),
        (4, 3, False, None, "failed 28\n5 unlink file 1 write file\n"),
        (5, 3, False, b"first.", "failed 28\nfailed 28\nkept 28\n5 unlink file 3 write file\n"),
        (7, 3, False, None, "failed 28\nfailed 28\n5 unlink file 2 write file\n"),
    ],
)
def test_the_call_that_was_named_is_the_one_that_breaks(
    shim: Path, tmp_path: Path, mode: int, at: int, killed: bool, held: bytes | None, said: str
) -> None:
    done = run(shim, ARMED, tmp_path, mode, at, 28)
    assert (done.returncode == -9) is killed, done.stderr
    assert done.stdout == said
    assert ((tmp_path / "file").read_bytes() if (tmp_path / "file").exists() else None) == held
