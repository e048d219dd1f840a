"""What each command prints, as a table and as JSON, against what the library says."""

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import memodb

Call = Callable[..., Result]
Told = Callable[..., Any]

SKY = "The sky over the harbour was the colour of slate."


# -- init and append ---------------------------------------------------------------------------------------------------


def test_init_makes_a_store_once(tmp_path: Path, call: Call, told: Told) -> None:
    path = tmp_path / "s"
    assert told("init", "-p", path, "--heads", "2", "--layers", "3") == {
        "path": str(path), "collection": "default", "created": True,
    }  # fmt: skip
    assert told("init", "-p", path)["created"] is False
    assert told("init", "-p", path, "-C", "letters") == {"path": str(path), "collection": "letters", "created": True}
    assert "exists already" in call("init", "-p", path, "--heads", "2").stdout
    assert call("init", "-p", path, "-q").stdout == ""
    call("init", "-p", path, "--heads", "4", code=5)
    assert [row["name"] for row in told("collections", "-p", path)] == ["default", "letters"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--false-recall", "0.5"), ("--heads", "3"), ("--layers", "1"), ("--window", "5"), ("--segment-tokens", "9999")],
)
def test_init_binds_every_setting(option: str, value: str, tmp_path: Path, call: Call) -> None:
    call("init", "-p", tmp_path / "s", option, value)
    name = option[2:].replace("-", "_")
    memodb.connect(tmp_path / "s", **{name: json.loads(value)}).close()
    with pytest.raises(memodb.StoreMismatch):
        memodb.connect(tmp_path / "s", **{name: type(json.loads(value))(json.loads(value) / 2)})


def test_init_refuses_what_cannot_be(tmp_path: Path, call: Call) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").touch()
    call("init", "-p", tmp_path / "mine", code=5)
    call("init", "-p", tmp_path / "new", "--heads", "0", code=3)
    call("init", "-p", ":memory:", code=2)
    call("init", code=2)
    assert not (tmp_path / "new").exists()


def test_only_init_makes_a_store(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "none"
    (tmp_path / "f.txt").write_text("x")
    writing = ["append", "x"], ["import", tmp_path / "f.txt"], ["delete", "a", "-y"], ["compact"], ["check", "--fix"]
    for line in (*writing, ["list"], ["collections"], ["stats"]):
        assert "memodb init" in call(*line, "-p", path, code=4).stderr
        assert not path.exists()


def test_only_init_append_and_import_make_a_collection(store: Path, call: Call, told: Told) -> None:
    for line in (["delete", "a", "-y"], ["compact"], ["check", "--fix"], ["list"], ["digest"]):
        call(*line, "-C", "new", code=4)
    assert [row["name"] for row in told("collections")] == ["default"]
    call("append", "x", "-C", "one")
    (store.parent / "f.txt").write_text("x")
    call("import", store.parent / "f.txt", "-C", "two")
    assert [row["name"] for row in told("collections")] == ["default", "one", "two"]


def test_append_stores_exactly_and_prints_the_id(store: Path, call: Call, told: Told) -> None:
    text = "  Übergröße\r\n\t\x1b[31m 漢字 \n\n"
    file = store.parent / "text"
    file.write_bytes(text.encode())
    assert call("append", text, "--id", "a").stdout == "a\n"
    assert call("append", "--file", file, "--id", "b").stdout == "b\n"
    assert call("append", "-", "--id", "c", stdin=text.encode()).stdout == "c\n"
    for name in "abc":
        assert call("get", name, "--text").stdout_bytes == text.encode()
    made = call("append", "--", "--help").stdout.strip()
    assert call("get", made, "--text").stdout == "--help"
    assert call("append", "x", "-q").stdout == ""


def test_append_takes_provenance(store: Path, told: Told, call: Call) -> None:
    line = ["append", "x", "--id", "x", "--source", "s", "--subject", "u", "--writer", "w", "--batch", "b",
            "--expires-at", "2031-01-01T00:00Z", "--metadata", "n=1", "--metadata", "t=one", "--metadata", 'l=["a", 2]',
            "--metadata", "e=", "--metadata", "q=a=b", "--metadata", "nan=NaN", "--metadata", "z=null"]  # fmt: skip
    given = told(*line)
    metadata = {"n": 1, "t": "one", "l": ["a", 2], "e": "", "q": "a=b", "nan": "NaN", "z": None}
    assert given["metadata"] == metadata
    with memodb.connect(store, read_only=True) as db:
        document = db.get("x")
    assert given == document.to_dict()
    assert (document.source, document.subject, document.writer, document.metadata) == ("s", "u", "w", metadata)
    assert document.batch == "b"
    assert document.expires_at == datetime(2031, 1, 1, tzinfo=UTC)
    assert told(*line) == given, "the same again is no error"
    call("append", "y", "--id", "x", code=5)


@pytest.mark.parametrize(
    "line",
    [
        [], ["x", "--file", "FILE"], ["x", "--metadata", "n"], ["x", "--metadata", "n=1", "--metadata", "n=2"],
        ["x", "--expires-at", "2031-01-01"], ["x", "--expires-at", "soon"], ["--file", "missing"],
    ],
)  # fmt: skip
def test_append_refuses_a_wrong_line(line: list[str], store: Path, call: Call) -> None:
    (store.parent / "f").write_text("x")
    call("append", *(word.replace("FILE", str(store.parent / "f")) for word in line), code=2)


def test_append_refuses_what_is_no_text(store: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    said = call("append", "-", stdin=b"ab\xff", code=3).stderr
    assert said == "memodb: error: stdin is not UTF-8: byte 0xff at offset 2\n"
    call("append", os.fsdecode(b"ab\xff"), code=3)
    call("append", "x", "--source", "", code=3)
    monkeypatch.setattr(memodb, "MAX_TEXT_CHARACTERS", 10)
    for stdin in ("x" * 11, "漢" * 11, "😀" * 11, "x" * 41):  # read in part, a character may be cut
        assert "more than 10 characters" in call("append", "-", stdin=stdin, code=3).stderr
    call("append", "-", stdin="漢" * 10)


# -- documents ---------------------------------------------------------------------------------------------------------


def test_get(store: Path, call: Call, told: Told) -> None:
    with memodb.connect(store, read_only=True) as db:
        document, tokens = db.get("sky").to_dict(), db.tokens("sky").tolist()
    assert told("get", "sky") == document
    assert told("get", "sky", "--text", "--tokens") == document | {"text": SKY, "tokens": tokens}
    shown = call("get", "sky").stdout
    assert "source       notebook\n" in shown
    assert 'metadata     {"year": 1987}\n' in shown
    listed = call("get", "sky", "--tokens").stdout.splitlines()
    assert len(listed) == len(tokens) + 1
    assert listed[2].split() == ["1", str(tokens[1]), '"', 'sky"']
    call("get", "sky", "--text", "--tokens", code=2)
    call("get", "none", code=4)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ["town", "sky"]),
        (["--order", "oldest"], ["sky", "town"]),
        (["--order", "id", "--limit", "1"], ["sky"]),
        (["--limit", "0"], []),
        (["--source", "notebook"], ["town", "sky"]),
        (["--source", "other"], []),
        (["--subject", "alice"], ["sky"]),
        (["--writer", "bob"], ["town"]),
        (["--batch", "monday"], ["town"]),
        (["--metadata", "year=1987"], ["sky"]),
        (["--metadata", 'year="1987"'], ["town"]),
        (["--created-before", "2001-01-01T00:00Z"], []),
        (["--created-after", "2001-01-01T00:00+02:00"], ["town", "sky"]),
        (["--created-after", "9000-01-01T00:00Z"], []),
        (["--expires-before", "9000-01-01T00:00Z"], []),
        (["--subject", "alice", "--writer", "bob"], []),
    ],
)
def test_list_filters(filters: list[str], expected: list[str], store: Path, call: Call, told: Told) -> None:
    found = told("list", *filters)
    assert [row["id"] for row in found] == expected
    with memodb.connect(store, read_only=True) as db:
        assert found == [db.get(name).to_dict() for name in expected]
    lines = call("list", *filters).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == expected
    if not {"--order", "--limit"} & set(filters):
        exported = [json.loads(line)["id"] for line in call("export", *filters).stdout.splitlines()]
        assert exported == sorted(expected)


def test_filters_are_checked(store: Path, call: Call) -> None:
    for command in ("list", "export"):
        call(command, "--source", "", code=3)
        call(command, "--metadata", "a=[1]", code=3)
        call(command, "--created-after", "2026-01-01T00:00", code=2)
    call("list", "--limit", "-1", code=2)


def test_export_to_a_file_replaces_it_as_a_whole(store: Path, call: Call, told: Told) -> None:
    target = store.parent / "out.jsonl"
    assert call("export", "--output", target).stderr.startswith("memodb: exported 2 documents to")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_bytes() == call("export").stdout_bytes
    assert call("export", "-q", "-o", target, "--subject", "alice").stderr == ""
    assert [json.loads(line)["text"] for line in target.read_text().splitlines()] == [SKY]
    target.chmod(0o644)
    assert told("export", "-o", target) == {"exported": 2, "output": str(target)}
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    before = target.read_bytes()
    _spoil(store, "town")
    call("export", "-o", target, code=6)
    assert target.read_bytes() == before
    assert sorted(p.name for p in store.parent.iterdir()) == ["out.jsonl", "store"]
    call("export", "-o", store.parent / "no" / "where", code=7)


def _spoil(store: Path, name: str) -> None:
    """Change a document's provenance behind the catalog's back, past the triggers that guard it."""
    with contextlib.closing(sqlite3.connect(store / "catalog.db")) as raw, raw:
        guards = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for guard, _ in guards:
            raw.execute(f'DROP TRIGGER "{guard}"')
        raw.execute("UPDATE document SET source = 'forged' WHERE id = ?", (name,))
        for _, statement in guards:
            raw.execute(statement)


# -- recall and trace --------------------------------------------------------------------------------------------------


def test_next(store: Path, call: Call, told: Told) -> None:
    found = told("next", "The sky over the")
    assert [c["text"] for c in found] == [" har", " town"]
    assert found[0].keys() == {"text", "token_id", "support", "context_length", "probability", "is_end"}
    assert call("next", "The sky over the", "-k", "1").stdout.splitlines()[1].split() == ['"', 'har"', "1", "5", "0.5"]
    assert "(end)" in call("next", SKY).stdout
    assert call("next", "zzzz").output == ""
    assert told("next", "zzzz") == []
    call("next", "x", "-k", "0", code=2)


def test_complete(store: Path, call: Call, told: Told) -> None:
    whole = " harbour was the colour of slate."
    assert call("complete", "The sky over the").stdout == f"{whole}\n"
    assert call("complete", "The sky over the", "--stop", " of", "--stop", "zz").stdout == " harbour was the colour\n"
    assert call("complete", "The sky over the", "--max-tokens", "3").stdout == " harbour\n"
    assert call("complete", "zzzz").output == ""
    given = told("complete", "The sky over the")
    assert (given["text"], given["stop_reason"]) == (whole, "end_of_document")
    assert given["steps"][0]["alternatives"][0]["text"] == " town"
    lines = call("complete", "The sky over the", "-v").stdout.splitlines()
    assert lines[0] == whole
    assert lines[2].split() == ["TOKEN", "SUPPORT", "CONTEXT", "PROBABILITY", "ALTERNATIVES"]
    assert len(lines) == 3 + len(given["steps"]) + 1
    assert lines[-1] == "ended by: end of document"
    assert call("complete", "zzzz", "--steps").stdout == "ended by: unknown context\n"
    drawn = [
        told("complete", "The sky over the", "--temperature", "1", "--seed", n)["text"] for n in (1, 1, 2, 3, 4, 5)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 2
    call("complete", "x", "--temperature", "-1", code=2)
    call("complete", "x", "--seed", "-1", code=2)


def test_min_context_is_passed_on(store: Path, call: Call) -> None:
    assert call("complete", "zzzz zzzz zzzz the").stdout == ""
    assert call("complete", "zzzz zzzz zzzz the", "--min-context", "1").stdout != ""


def test_a_prompt_loses_one_line_end_and_no_more(store: Path, call: Call) -> None:
    for ending in ("", "\n", "\r\n"):
        assert call("complete", "-", stdin=f"The sky over the{ending}").stdout.startswith(" harbour")
        assert call("next", "-", stdin=f"The sky over the{ending}").stdout != ""
    assert call("complete", "-", stdin="The sky over the\n\n").stdout == ""
    assert call("complete", "The sky over the\n").stdout == "", "an argument is exact"
    file = store.parent / "prompt"
    file.write_text("The sky over the\n")
    assert call("complete", "--file", file).stdout.startswith(" harbour")


def test_score(store: Path, call: Call, told: Told) -> None:
    with memodb.connect(store, read_only=True) as db:
        expected = db.score("The sky over the moon")
    given = told("score", "The sky over the moon")
    assert given["known"] == expected.known == 0.8
    assert given["log_probability"] == expected.log_probability
    assert [token["text"] for token in given["tokens"]] == ["The", " sky", " over", " the", " moon"]
    lines = call("score", "-", "--tokens", stdin="The sky over the moon").stdout.splitlines()
    assert lines[1] == "known            80.0%"
    assert lines[-1].split()[2:5] == ["no", "0", "-12.43"]
    assert told("score", "-", stdin="The\n")["tokens"][-1]["text"] == "\n", "texts stay exact"


def test_trace(store: Path, call: Call, told: Told) -> None:
    text = f"They say {SKY[0].lower()}{SKY[1:]}"
    (span,) = told("trace", text)
    assert text[span["start"] : span["end"]] == span["text"]
    assert span["documents"] == [{"id": "sky", "offset": 3}]
    shown = call("trace", "-", stdin=text).stdout.splitlines()
    assert shown[1].split()[:4] == [str(span["start"]), str(span["end"]), str(span["tokens"]), "sky@3"]
    assert told("trace", text, "--min-tokens", "30") == []
    assert call("trace", "Nothing of this is known to any document.").output == ""
    call("trace", text, "--min-tokens", "2", code=3)
    file = store.parent / "t"
    file.write_text(text)
    assert told("trace", "--file", file) == [span]


# -- upkeep ------------------------------------------------------------------------------------------------------------


def test_check_tells_and_exits(store: Path, call: Call, told: Told) -> None:
    assert call("check").stdout == "checked 2 documents and 1 segment: sound\n"
    assert told("check")["ok"] is True
    _spoil(store, "town")
    said = call("check", code=1).stdout
    assert "town" in said.splitlines()[0]
    assert said.splitlines()[0].startswith("found: ")
    report = told("check", "--fix", code=1)
    assert not report["ok"]
    assert "town" in report["findings"][0]


def test_check_prints_what_it_mended(store: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def check(self: memodb.Store, fix: bool = False) -> memodb.CheckReport:
        asked.append(fix)
        return memodb.CheckReport(2, 1, ("a differs",), ("a was mended",) if fix else ())

    monkeypatch.setattr(memodb.Store, "check", check)
    assert call("check", code=1).stdout.splitlines()[-1].endswith("1 found, 0 fixed")
    assert call("check", "--fix", code=1).stdout.splitlines()[:2] == ["found: a differs", "fixed: a was mended"]
    assert asked == [False, True]


def test_checkpoint(store: Path, call: Call, told: Told) -> None:
    assert call("checkpoint").stdout == "wrote 1 segment\n"
    assert told("checkpoint") == {"written": 0}
    assert call("checkpoint", "-q").stdout == ""
    assert len(list((store / "segments").iterdir())) == 1
    assert told("check")["ok"]


def test_compact_digest_stats(store: Path, call: Call, told: Told) -> None:
    call("compact")
    assert told("compact") == {"changed": False}
    assert call("compact").stdout == "canonical already\n"
    assert call("compact", "-q").stdout == ""
    with memodb.connect(store, read_only=True) as db:
        assert call("digest").stdout == f"{db.digest()}\n"
        assert told("digest") == {"collection": "default", "digest": db.digest()}
        figures = json.loads(json.dumps(db.stats().to_dict()))
    given = told("stats")
    assert given == figures
    shown = call("stats").stdout
    assert "documents              2\n" in shown
    assert shown.splitlines()[-1].split()[:3] == ["1", "2", str(figures["tokens"])]


def test_collections(store: Path, call: Call, told: Told) -> None:
    with memodb.connect(store) as db:
        expected = [info.to_dict() for info in db.collections()]
    assert told("collections") == expected
    assert call("collections").stdout.splitlines()[1].split()[:3] == ["default", "2", str(expected[0]["tokens"])]


def test_collections_needs_no_default(tmp_path: Path, told: Told, call: Call) -> None:
    call("init", "-p", tmp_path / "s", "-C", "letters")
    assert [row["name"] for row in told("collections", "-p", tmp_path / "s")] == ["letters"]


def test_collections_are_apart(store: Path, call: Call, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    call("append", "Elsewhere.", "--id", "e", "-C", "letters")
    assert [row["id"] for row in told("list", "-C", "letters")] == ["e"]
    assert [row["id"] for row in told("-C", "letters", "list")] == ["e"]
    monkeypatch.setenv("MEMODB_COLLECTION", "letters")
    assert [row["id"] for row in told("list")] == ["e"]
    assert len(told("list", "-C", "default")) == 2


def test_the_nearest_path_counts(store: Path, tmp_path: Path, told: Told, call: Call) -> None:
    other = tmp_path / "other"
    call("init", "-p", other)
    assert len(told("list")) == 2
    assert told("-p", other, "list") == []
    assert told("list", "-p", other) == []
    assert len(told("-p", other, "list", "-p", store)) == 2


def test_an_expiry_can_be_asked_for(store: Path, call: Call, told: Told) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    call("append", "x", "--id", "x", "--expires-at", soon.isoformat())
    assert [row["id"] for row in told("list", "--expires-before", (soon + timedelta(hours=1)).isoformat())] == ["x"]
