"""The command line as a shell runs it: processes, pipes, signals, environment."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import memodb

Done = Callable[..., tuple[int, bytes, bytes]]
Spawn = Callable[..., "subprocess.Popen[bytes]"]


def test_a_store_outlives_its_processes(tmp_path: Path, call: Callable[..., Result], done: Done) -> None:
    where = {"MEMODB_PATH": str(tmp_path / "s"), "MEMODB_COLLECTION": "letters"}
    call("init", "-p", tmp_path / "s", "-C", "letters")
    text = "Grüße über den Hafen.\r\n".encode()
    assert done("append", "-", "--id", "a", env=where, stdin=text) == (0, b"a\n", b"")
    assert done("get", "a", "--text", env=where) == (0, text, b"")
    code, out, _ = done("delete", "a", "--yes", "--json", env=where)
    assert (code, json.loads(out)["verified"]) == (0, True)
    code, out, err = done("get", "a", "--json", env=where)
    assert (code, out, json.loads(err)["error"]["type"]) == (4, b"", "DocumentNotFound")


def test_the_end_of_a_reader_is_no_error(store: Path, spawn: Spawn, done: Done) -> None:
    with memodb.connect(store) as db:
        db.append_many({"text": f"A line of some length, number {n}.", "id": f"{n}"} for n in range(2000))
    for line, unbuffered in ((["export"], ""), (["list", "--json"], "1")):
        with spawn(*line, env={"PYTHONUNBUFFERED": unbuffered}) as process:
            assert process.stdout is not None
            assert process.stdout.read(10)
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == b""
            assert process.wait(timeout=60) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written(store: Path, call: Callable[..., Result], done: Done) -> None:
    for line, unbuffered in ((["export"], ""), (["digest", "--json"], "1")):
        with Path("/dev/full").open("wb") as full:
            code, _, err = done(*line, stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
        assert code == 7
        assert b"No space left" in err
        assert len(err.splitlines()) == 1
    call("export", "-o", "/dev/full", code=7)


def test_an_interrupted_import_says_what_it_stored(store: Path, spawn: Spawn) -> None:
    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a runner in the background starts its children deaf

    with spawn("import", "--format", "jsonl", "-", preexec_fn=listen) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for number in range(3000):
            process.stdin.write(b'{"text": "Line %d.", "id": "%d"}\n' % (number, number))
        process.stdin.flush()
        with memodb.connect(store, read_only=True) as db:
            for _ in range(600):
                if len(db) > 2:
                    break
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGINT)
            said = process.stderr.read()
            assert process.wait(timeout=60) == 130
            stored = len(db) - 2
    assert stored > 0
    assert said == b"memodb: error: interrupted; new documents stored: %s. Run it again to go on\n" % (
        f"{stored:,}".encode()
    )


def test_an_encoding_that_lacks_characters(store: Path, done: Done) -> None:
    with memodb.connect(store) as db:
        db.append("Ünicode.", id="漢字")
    narrow: dict[str, Any] = {"env": {"PYTHONIOENCODING": "latin-1"}}
    code, out, _ = done("list", **narrow)
    assert code == 0
    assert b"\\u6f22\\u5b57" in out
    assert json.loads(done("list", "--json", **narrow)[1])[0]["id"] == "漢字"


def test_no_arguments_and_a_wrong_one(done: Done) -> None:
    code, out, err = done()
    assert (code, out) == (2, b"")
    assert err.startswith(b"Usage: memodb ")
    code, out, err = done("list", "--bogus")
    assert (code, out) == (2, b"")
    assert err.splitlines()[1] == b"memodb: note: see 'memodb list --help'"


def test_the_installed_entry_point_is_this_one() -> None:
    from importlib.metadata import entry_points

    from memodb.cli import main

    (found,) = entry_points(group="console_scripts", name="memodb")
    assert found.load() is main
