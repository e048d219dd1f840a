"""Strange ids, sources, subjects, writers, metadata, collections and texts: kept, found and deleted exactly.

Each case has a bystander that shares nothing with it; whatever a value means to somebody's parser, the bystander stays.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import memodb

FIELDS = ("source", "subject", "writer", "batch")
CODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


@pytest.fixture
def evil(beside: Callable[[str], ModuleType]) -> Any:
    return beside("evil")


@pytest.fixture
def db(specimen: Any, tmp_path: Path) -> Iterator[memodb.Store]:
    with memodb.connect(
        tmp_path / "s", tokenizer=specimen.path.parent / "words.json", segment_tokens=4096, layers=1
    ) as opened:
        opened.append("w1 w2 w3", id="bystander", source="s", subject="s", writer="s", batch="s", metadata={"k": "s"})
        yield opened


def test_strange_names_are_names(db: memodb.Store, evil: Any, tmp_path: Path, covered: Callable[..., None]) -> None:
    """As the id, in every field, as a key and a value of the metadata, and as the text, all in one store."""
    db.compact()
    before = db.digest()
    values = list(evil.TAKEN.values())
    with db.transaction():
        for value in values:
            fields = dict.fromkeys(FIELDS, value)
            db.append(value, id=value, metadata={"k": value, value: "k"}, **fields)
    with memodb.connect(tmp_path / "s", read_only=True) as other:
        for handle in (db, other):
            assert len(handle) == len(values) + 1
            for value in values[handle is other :: 1 if handle is db else 9]:
                assert handle.text(value) == value
                (found,) = handle.documents(ids=(value,))
                assert (found.id, found.source, found.subject, found.writer) == (value,) * 4
                assert found.metadata == {"k": value, value: "k"}
                for field in FIELDS:
                    assert [document.id for document in handle.documents(**{field: value})] == [value]
                assert [document.id for document in handle.documents(metadata={"k": value})] == [value]
                assert [document.id for document in handle.documents(metadata={value: "k"})] == [value]
            assert {record["id"]: record["text"] for record in handle.export()} == {
                "bystander": "w1 w2 w3",
                **{value: value for value in values},
            }
    assert db.check().ok
    for number, value in enumerate(values[::4]):
        receipt = db.delete(**{FIELDS[number % len(FIELDS)]: value}, reason=value, verify=False)
        assert receipt.documents == (value,)
        assert receipt.reason == value
    left = sorted(set(values) - set(values[::4]))
    assert db.delete(*left, verify=False).documents == tuple(left)
    assert [document.id for document in db.documents()] == ["bystander"]
    db.compact()
    assert db.check().ok
    assert db.text("bystander") == "w1 w2 w3"
    assert db.digest() == before
    covered(cases=8 * len(values))


def test_strange_collections_are_collections(db: memodb.Store, evil: Any, covered: Callable[..., None]) -> None:
    for number, value in enumerate(evil.TAKEN.values()):
        part = db.collection(value)
        assert part.name == value
        if number % 8 == 0:
            part.append("w4 w5", id="a")
    assert sorted(info.name for info in db.collections()) == sorted(["default", *evil.TAKEN.values()])
    for number, value in enumerate(evil.TAKEN.values()):
        assert len(db.collection(value, create=False)) == (number % 8 == 0)
    assert len(db) == 1
    covered(cases=len(evil.TAKEN))


def test_what_is_no_name_is_refused_everywhere(db: memodb.Store, evil: Any, covered: Callable[..., None]) -> None:
    digest, cases = db.digest(), 0
    for value in evil.REFUSED.values():
        attempts: list[Callable[[], Any]] = [
            lambda value=value: db.append("x", id=value),  # type: ignore[misc]
            *(lambda field=field, value=value: db.append("x", **{field: value}) for field in FIELDS),  # type: ignore[misc]
            *(lambda field=field, value=value: db.documents(**{field: value}) for field in FIELDS),  # type: ignore[misc]
            *(lambda field=field, value=value: db.delete(**{field: value}) for field in FIELDS),  # type: ignore[misc]
            lambda value=value: db.collection(value),  # type: ignore[misc]
            lambda value=value: db.documents(ids=(value,)),  # type: ignore[misc]
        ]
        for attempt in attempts:
            cases += 1
            with pytest.raises(memodb.InvalidInput):
                attempt()
        for ask in (db.text, db.get, db.tokens, db.delete):
            cases += 1
            with pytest.raises((memodb.InvalidInput, memodb.DocumentNotFound)):
                ask(value)
        assert value not in db or value == ""
    for value in ("\ud800", {"k": "\ud800"}, {"\udfff": 1}):
        cases += 1
        with pytest.raises(memodb.InvalidInput):
            db.append(value) if isinstance(value, str) else db.append("x", metadata=value)
    assert [document.id for document in db.documents()] == ["bystander"]
    assert [info.name for info in db.collections()] == ["default"]
    assert db.digest() == digest
    covered(cases=cases)


def spoken(db: memodb.Store) -> set[str]:
    """Every text in the audit log that is not the log's own."""
    return {text for entry in db.audit() for text in (entry.actor, entry.reason) if text is not None}


def test_only_codes_name_a_hold_or_an_actor(
    db: memodb.Store, evil: Any, tmp_path: Path, covered: Callable[..., None]
) -> None:
    """They stand in the audit log, which keeps them for ever: what could be a sentence is refused."""
    words, cases = tmp_path / "s", 0
    values = [
        *evil.TAKEN.values(),
        *evil.REFUSED.values(),
        "Case-1",
        "-x",
        "x" * 65,
        "é",
        "a b",
        "a\n",
        "\u0661",
        7,
        b"x",
    ]
    db.hold("case-1", "bystander")
    before = list(db.audit())
    for value in values:
        if isinstance(value, str) and CODE.fullmatch(value):
            continue
        cases += 2
        with pytest.raises(memodb.InvalidInput):
            db.hold(value, "bystander")  # type: ignore[arg-type]
        with pytest.raises(memodb.InvalidInput):
            memodb.connect(words, read_only=True, actor=value)  # type: ignore[arg-type]
    assert [hold.name for hold in db.holds()] == ["case-1"]
    assert list(db.audit()) == before
    covered(cases=cases)


def test_what_names_nothing_is_not_found(db: memodb.Store, evil: Any, covered: Callable[..., None]) -> None:
    """Ids of receipts, holds and backups, of any kind: looked for as they are, and in no path and no statement."""
    db.hold("case-1", "bystander")
    before, answers = list(db.audit()), []
    for value in (*evil.TAKEN.values(), *evil.REFUSED.values(), 7, None, b"case-1", 1.5, ("case-1",), 2**70):
        for name, ask in {
            **{name: getattr(db, name) for name in ("receipt", "release_hold", "export_held", "backup_destroyed")},
            **{name: getattr(db, name) for name in ("quarantine", "release", "pseudonym")},
            "hold": lambda value: db.hold("case-2", value),
            "set_expiry": lambda value: db.set_expiry(None, value),
        }.items():
            try:
                ask(value)
                answers.append((name, value, "an answer"))
            except memodb.MemodbError as exc:
                answers.append((name, value, type(exc).__name__))
            except Exception as exc:
                answers.append((name, value, f"untyped: {exc!r}"))
    wrong = [answer for answer in answers if not answer[2].endswith("NotFound") and answer[2] != "InvalidInput"]
    named = {("pseudonym", value, "an answer") for value in evil.TAKEN.values()}
    assert [answer for answer in wrong if answer not in named] == []
    assert list(db.audit()) == before
    assert [document.id for document in db.documents()] == ["bystander"]
    covered(cases=len(answers))


def test_reasons_that_are_no_codes_stay_out_of_the_log(
    db: memodb.Store, evil: Any, covered: Callable[..., None]
) -> None:
    """A deletion's reason may be any text, which its receipt says exactly; the log, for ever, takes codes only."""
    values = list(evil.TAKEN.values())[::9]
    for number, value in enumerate(values):
        db.append(f"w{number} w1 w2", id="a", batch=value)
        db.quarantine("a", reason=value)
        db.release(batch=value, reason=value)
        receipt = db.delete("a", reason=value, verify=False)
        assert receipt.reason == value
        assert db.erasures()[-1].reason == value
    assert all(CODE.fullmatch(text) for text in spoken(db))
    assert spoken(db) <= {value for value in values if CODE.fullmatch(value)}
    for value in evil.REFUSED.values():
        db.append("w1 w2", id="a")
        try:
            db.delete("a", reason=value, verify=False)
        except memodb.InvalidInput:
            db.delete("a", verify=False)
    assert db.check().ok
    covered(cases=3 * len(values) + len(evil.REFUSED))


def test_subjects_and_texts_leave_no_name_in_the_log(db: memodb.Store, evil: Any, tmp_path: Path) -> None:
    for value in list(evil.TAKEN.values())[::5]:
        db.suppress(value)
        assert list(db.export_subject(value)) == []
        with pytest.raises(memodb.Suppressed):
            db.append(value)
        assert db.end_suppression(value)
    log = (tmp_path / "s" / "ledger" / "log.jsonl").read_bytes()
    assert all(re.fullmatch(rb'[\w{}:",.+-]+', line) for line in log.splitlines())
    assert spoken(db) == set()


METADATA: list[Any] = [
    {"a": float("nan")}, {"a": float("inf")}, {1: "a"}, {"a": {1: 2}}, {"a": (1, 2)}, {"a": {1}}, {"a": b"x"},
    {"a": object()}, {"a": "x" * (1 << 20)}, {"a": 10**5000}, [1], "text", 7,
]  # fmt: skip


@pytest.mark.parametrize("metadata", METADATA, ids=range(len(METADATA)))
def test_what_is_no_json_is_refused(db: memodb.Store, metadata: Any) -> None:
    nested: Any = 1
    for _ in range(2000):
        nested = [nested]
    for value in (metadata, {"deep": nested}):
        with pytest.raises(memodb.InvalidInput):
            db.append("x", id="x", metadata=value)
    assert len(db) == 1


CLI = (
    ("list",), ("get", "{}"), ("delete", "{}", "--yes"), ("complete", "{}"), ("trace", "{}"),
    ("export",), ("check",), ("stats",), ("collections",), ("-C", "{}", "list"), ("-p", "{}", "list"), ("{}",),
    ("list", "--source", "{}"), ("list", "--metadata", "{}"), ("import", "{}"), ("list", "--created-before", "{}"),
)  # fmt: skip
TERMINAL = (
    "escape",
    "window title",
    "clear screen",
    "eight-bit escape",
    "right to left",
    "bell and backspace",
    "log line",
)


def test_no_document_steers_a_terminal(
    specimen: Any, evil: Any, tmp_path: Path, in_process: Callable[..., str], covered: Callable[..., None]
) -> None:
    """Lists, tables, notes and errors of the command line hold no control character that came from outside.

    The text itself is exempt where it is asked for as such: ``memodb text`` prints it exactly.
    """
    with memodb.connect(
        tmp_path / "s", tokenizer=specimen.path.parent / "words.json", segment_tokens=4096, layers=1
    ) as db:
        for value in evil.TAKEN.values():
            db.append("w1 w2 w3 w4 w5 w6 w7 w8 w9 w10", id=value, source=value, subject=value, metadata={value: value})
            db.collection(value)
    run = """
import contextlib, io, json, sys, os
os.environ["MEMODB_PATH"] = sys.argv[1]
from memodb.cli import main
for arguments in json.loads(sys.argv[2]):
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape"), io.StringIO()
    code = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as exc:
            code = exc.code
    out.flush()
    print(json.dumps([arguments, code, out.buffer.getvalue().decode("utf-8", "replace"), err.getvalue()]))
"""
    import json

    cases = [
        [part.format(evil.TAKEN[name]) if part == "{}" else part for part in command]
        for command in CLI
        for name in (TERMINAL if "{}" in command else TERMINAL[:1])
    ]
    steering = []
    for line in in_process(run, tmp_path / "s", json.dumps(cases)).splitlines():
        arguments, code, out, err = json.loads(line)
        assert code in range(8), (arguments, code, err)
        exact = arguments[0] in ("text", "export", "complete")
        for said in (err, "" if exact else out):
            bad = {char for char in said if not char.isprintable() and char != "\n"}
            if bad:
                steering.append((arguments, bad, said[:200]))
        assert not any(row.startswith("2026-01-01 ERROR") for row in err.splitlines()), arguments
    covered(cases=len(cases))
    assert steering == []
