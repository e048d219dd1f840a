"""`import`: which files, which ids, what is skipped and said, where it stops."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import memodb
from memodb.cli import progress

Call = Callable[..., Result]
Told = Callable[..., Any]


@pytest.fixture
def here(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a small tree, beside the store."""
    tree = {
        "notes/a.txt": "Text a.", "notes/b.md": "Text b.\r\n", "notes/deep/a.txt": "Text c.",
        "notes/.git/x.txt": "hidden", "notes/.secret.txt": "hidden", "other.txt": "Other.",
    }  # fmt: skip
    for name, text in tree.items():
        path = store.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    monkeypatch.chdir(store.parent)
    return store.parent


def ids(store: Path) -> list[str]:
    with memodb.connect(store, read_only=True) as db:
        return sorted(d.id for d in db.documents() if d.id not in ("sky", "town"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["notes"], ["notes/a.txt", "notes/b.md", "notes/deep/a.txt"]),
        (["./notes/../notes/"], ["notes/a.txt", "notes/b.md", "notes/deep/a.txt"]),
        (["notes", "--root", "notes"], ["a.txt", "b.md", "deep/a.txt"]),
        (["notes", "--glob", "*.txt"], ["notes/a.txt", "notes/deep/a.txt"]),
        (["notes", "--glob", "deep/*.txt"], ["notes/deep/a.txt"]),
        (["notes", "--glob", "*.md", "--glob", "deep/*"], ["notes/b.md", "notes/deep/a.txt"]),
        (["notes/b.md", "other.txt", "--glob", "*.none"], ["notes/b.md", "other.txt"]),
        (["notes/a.txt", "--id-prefix", "x:"], ["x:notes/a.txt"]),
        (["notes/.secret.txt"], ["notes/.secret.txt"]),
        (["notes", "--hidden", "--glob", "[.]*", "--glob", ".git/*"], ["notes/.git/x.txt", "notes/.secret.txt"]),
    ],
)
def test_which_files_and_what_they_are_called(
    line: list[str], expected: list[str], here: Path, store: Path, call: Call
) -> None:
    call("import", *line)
    assert ids(store) == expected


def test_texts_are_exact_and_provenance_is_kept(here: Path, store: Path, told: Told) -> None:
    given = told("import", "notes", "--source", "s", "--writer", "w", "--metadata", "n=1")
    with memodb.connect(store, read_only=True) as db:
        assert db.text("notes/b.md") == "Text b.\r\n"
        document = db.get("notes/deep/a.txt")
        tokens = sum(db.get(name).token_count for name in ids(store))
    assert (document.source, document.writer, document.metadata) == ("s", "w", {"n": 1})
    assert given == {"appended": 3, "existing": 0, "tokens": tokens, "characters": 23, "skipped": []}
    again = told("import", "notes", "--source", "s", "--writer", "w", "--metadata", "n=1")
    assert (again["appended"], again["existing"]) == (0, 3)


def test_files_outside_the_root_keep_their_whole_path(here: Path, store: Path, call: Call) -> None:
    call("import", here / "other.txt", here / "notes" / "a.txt", "--root", here / "notes")
    assert ids(store) == [str(here / "other.txt"), "a.txt"]


def test_the_store_is_no_text(here: Path, store: Path, call: Call) -> None:
    said = call("import", ".")
    assert ids(store) == ["notes/a.txt", "notes/b.md", "notes/deep/a.txt", "other.txt"]
    assert said.stderr == ""


def test_what_cannot_be_taken_is_named_and_the_rest_stored(
    here: Path, store: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memodb, "MAX_TEXT_CHARACTERS", 100)
    (here / "notes" / "bad.txt").write_bytes(b"good\xe9bad")
    (here / "notes" / "big.txt").write_text("x" * 101)
    (here / "notes" / "lost.txt").symlink_to("nowhere")
    os.mkfifo(here / "notes" / "pipe.txt")
    (here / "notes" / os.fsdecode(b"name\xff.txt")).write_text("named")
    (here / "notes" / "zzz.txt").write_text("The last.")
    said = call("import", "notes", code=1)
    assert sorted(said.stderr.splitlines()) == [
        "memodb: skipped notes/bad.txt: it is not UTF-8: byte 0xe9 at offset 4",
        "memodb: skipped notes/big.txt: it has more than 100 characters: split it into several documents",
        "memodb: skipped notes/lost.txt: No such file or directory",
        "memodb: skipped notes/name\\udcff.txt: its name is not UTF-8, so it cannot be an id",
        "memodb: skipped notes/pipe.txt: not a regular file",
    ]
    assert said.stdout.endswith(", 5 files skipped\n")
    assert ids(store) == ["notes/a.txt", "notes/b.md", "notes/deep/a.txt", "notes/zzz.txt"]
    given = json.loads(call("import", "notes", "--json", code=1).stdout)
    assert len(given["skipped"]) == 5
    assert {"file": "notes/bad.txt", "reason": "it is not UTF-8: byte 0xe9 at offset 4"} in given["skipped"]
    assert {skip["file"] for skip in given["skipped"]} >= {"notes/name\udcff.txt"}


def test_an_unreadable_file_is_skipped(here: Path, store: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def refuse(self: Path, *arguments: Any, **how: Any) -> Any:
        if self.name in ("a.txt", "x.jsonl"):
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **how)

    (here / "notes" / "x.jsonl").write_text("{}")
    monkeypatch.setattr(Path, "open", refuse)
    said = call("import", "notes", code=1)
    assert [line.split()[2] for line in said.stderr.splitlines()] == [
        "notes/a.txt:", "notes/x.jsonl:", "notes/deep/a.txt:",
    ]  # fmt: skip
    assert ids(store) == ["notes/b.md"]


def test_an_import_of_nothing_is_a_bad_result(here: Path, call: Call) -> None:
    assert "no file was found" in call("import", "notes", "--glob", "*.none", code=1).stderr
    call("import", code=2)
    call("import", "missing", code=2)
    call("import", "-", code=2, stdin="{}")


LINES = (
    '\ufeff{"text": "One.", "id": "1", "metadata": {"a": 1}, "source": null}\n\n'
    '{"text": "Two.", "id": "2", "source": "own"}\n'
)


def test_json_lines(here: Path, store: Path, call: Call, told: Told) -> None:
    (here / "notes" / "x.jsonl").write_text(LINES)
    (here / "odd").write_text(LINES)
    given = told("import", "notes/x.jsonl", "--source", "given", "--id-prefix", "p")
    assert (given["appended"], given["skipped"]) == (2, [])
    with memodb.connect(store, read_only=True) as db:
        assert [(d.id, d.source, d.metadata) for d in db.documents(order="id")][:2] == [
            ("p1", "given", {"a": 1}), ("p2", "own", {}),
        ]  # fmt: skip
        assert db.text("p1") == "One."
    call("import", "odd", "--format", "jsonl")
    call("import", "-", "--format", "jsonl", "--id-prefix", "s", stdin=LINES)
    call("import", "notes/x.jsonl", "--format", "text")
    assert ids(store) == ["1", "2", "notes/x.jsonl", "p1", "p2", "s1", "s2"]


def test_an_export_comes_back(store: Path, tmp_path: Path, call: Call, told: Told) -> None:
    exported = call("export").stdout_bytes
    call("init", "-p", tmp_path / "copy")
    call("import", "-p", tmp_path / "copy", "--format", "jsonl", "-", stdin=exported)

    def bare(lines: bytes) -> list[Any]:
        return [json.loads(line) | {"created_at": None} for line in lines.splitlines()]

    assert bare(call("export", "-p", tmp_path / "copy").stdout_bytes) == bare(exported)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (b'{"text": "x"', 3, "x.jsonl line 2 is not JSON"),
        (b"[" * 100_000, 3, "x.jsonl line 2 is not JSON"),
        (b'["text"]', 3, "x.jsonl line 2 is no JSON object"),
        (b"{}", 3, "x.jsonl line 2: a record has no key 'text'"),
        (b'{"text": "x", "txet": "y"}', 3, "x.jsonl line 2: a record has the unknown key 'txet'"),
        (b'{"text": "\xff"}', 3, "x.jsonl line 2 is not UTF-8"),
        (b'{"text": "other", "id": "sky"}', 5, "sky"),
    ],
)
def test_a_bad_line_ends_the_import_and_what_was_before_stays(
    line: bytes, code: int, message: str, here: Path, store: Path, error: Told
) -> None:
    (here / "x.jsonl").write_bytes(
        b'{"text": "First.", "id": "first"}\n' + line + b'\n{"text": "Last.", "id": "last"}\n'
    )
    said = error("import", "x.jsonl", code=code)
    assert message in said["message"]
    assert "stored" in said["notes"][-1]
    assert ids(store) == ["first"]


def test_an_interruption_says_what_is_stored(
    here: Path, store: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = memodb.Store.append_many

    def interrupted(self: memodb.Store, records: Any, **how: Any) -> Any:
        def some() -> Iterator[Any]:
            for number, record in enumerate(records):
                if number == 3000:
                    raise KeyboardInterrupt
                yield record

        return real(self, some(), **how)

    monkeypatch.setattr(memodb.Store, "append_many", interrupted)
    lines = "".join(f'{{"text": "Line {n}.", "id": "{n}"}}\n' for n in range(4000))
    said = call("import", "-", "--format", "jsonl", stdin=lines, code=130)
    (number,) = re.findall(r"new documents stored: ([\d,]+)\.", said.stderr)
    assert int(number.replace(",", "")) == len(ids(store)) > 0


def test_progress_in_a_log(here: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    assert call("import", "notes").stderr == "memodb: stored so far: 3 documents\n"
    assert call("import", "notes", "-q").output == ""


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.Progress(100, quiet=False) as bar:
        bar.read(50)
        bar.stored(memodb.AppendResult(1234, 1))
        bar.read(50)
    said = capsys.readouterr().err
    assert "importing" in said
    assert "100%" in said
