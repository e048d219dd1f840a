"""How commands end: a code for every branch of the error tree, one line or one JSON object on stderr."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

import memodb
from memodb import errors
from memodb.cli.failures import EXIT_CODES, Interrupted, Outcome, guarded

Call = Callable[..., Result]
Told = Callable[..., Any]

CODES = {"InvalidInput": 3, "NotFound": 4, "Conflict": 5, "StoreError": 6}


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"MemodbError"}))
def test_every_error_has_the_code_of_its_branch(name: str) -> None:
    kind = getattr(errors, name)
    (branch,) = [base.__name__ for base in kind.__mro__ if base.__name__ in CODES]
    assert Outcome.of(kind("x")).code == CODES[branch]


def test_the_tree_has_no_branch_without_a_code() -> None:
    branches = {kind.__name__ for kind in errors.MemodbError.__subclasses__()}
    assert branches == CODES.keys()
    assert [code for code, _ in EXIT_CODES] == sorted({0, 1, 2, 7, 70, 130, 141} | set(CODES.values()))


@pytest.mark.parametrize(
    ("exc", "code", "kind", "message"),
    [
        (click.UsageError("odd"), 2, "UsageError", "odd"),
        (click.Abort(), 130, "Interrupted", "interrupted"),
        (KeyboardInterrupt(), 130, "Interrupted", "interrupted"),
        (Interrupted("after 3"), 130, "Interrupted", "after 3"),
        (FileNotFoundError(2, "No such file", "a\nb"), 7, "FileNotFoundError", "a\nb: No such file"),
        (OSError("plain"), 7, "OSError", "plain"),
        (memodb.StoreLocked("in use"), 6, "StoreLocked", "in use"),
        (ZeroDivisionError(), 70, "ZeroDivisionError", "ZeroDivisionError"),
    ],
)
def test_outcomes(exc: BaseException, code: int, kind: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome.of(exc)
    assert (outcome.code, outcome.kind, outcome.message) == (code, kind, message)
    outcome.report(as_json=False)
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == f"memodb: error: {' '.join(message.split())}"
    assert all(line.startswith("memodb: note: ") for line in rest)
    outcome.report(as_json=True)
    given = json.loads(capsys.readouterr().err)["error"]
    assert (given["type"], given["message"]) == (kind, message)


def test_a_defect_shows_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ZeroDivisionError("here")

    assert guarded(broken, as_json=lambda: False) == 70
    said = capsys.readouterr().err
    assert "memodb: error: here\n" in said
    assert "in broken" in said


def test_notes_follow_the_error(store: Path, call: Call, error: Told) -> None:
    (store.parent / "x.jsonl").write_text('{"text": "a", "id": "a"}\n{"text": "b", "id": "sky"}\n')
    said = call("import", store.parent / "x.jsonl", code=5).stderr.splitlines()
    assert said[0].startswith("memodb: error: ")
    assert said[1] == "memodb: note: at record 2; stored before it: 1"
    assert error("import", store.parent / "x.jsonl", code=5)["notes"] == [said[1].removeprefix("memodb: note: ")]


@pytest.mark.parametrize(
    ("line", "code", "kind"),
    [
        (["list", "--bogus"], 2, "NoSuchOption"),
        (["--bogus"], 2, "NoSuchOption"),
        (["lst"], 2, "UsageError"),
        (["get"], 2, "MissingParameter"),
        (["get", "none"], 4, "DocumentNotFound"),
        (["list", "-C", "none"], 4, "CollectionNotFound"),
        (["list", "-p", "/nowhere"], 4, "StoreNotFound"),
        (["append", "x", "--id", "sky"], 5, "DocumentExists"),
        (["trace", "x", "--min-tokens", "1"], 3, "InvalidInput"),
        (["delete", "--source", "none", "-y"], 3, "EmptySelection"),
    ],
)
def test_errors_as_json(line: list[str], code: int, kind: str, store: Path, error: Told, call: Call) -> None:
    given = error(*line, code=code)
    assert given["type"] in (kind, "NoSuchCommand")
    assert given["message"]
    assert call(*line, code=code).stderr.splitlines()[0] == f"memodb: error: {given['message']}"
    if code == 2:
        assert "--help'" in given["notes"][-1]


def test_a_text_is_not_taken_for_the_option(store: Path, call: Call) -> None:
    said = call("get", "--bogus", "--", "--json", code=2).stderr
    assert said.startswith("memodb: error: ")


def test_a_missing_path_says_how_to_give_it(call: Call) -> None:
    for command in ("list", "append", "init", "collections", "compact"):
        said = call(command, *(["x"] if command == "append" else []), code=2).stderr
        assert "--path" in said
        assert "MEMODB_PATH" in said


def test_a_locked_store_can_be_read_and_not_written(store: Path, call: Call) -> None:
    with memodb.connect(store):
        assert len(call("list").stdout.splitlines()) == 3
        for line in (["next", "The"], ["check"], ["export"], ["stats"], ["digest"], ["collections"], ["score", "x"]):
            call(*line)
        for line in (["append", "x"], ["delete", "sky", "-y"], ["compact"], ["check", "--fix"]):
            call(*line, code=6)


def test_version(call: Call) -> None:
    assert call("--version").stdout == f"memodb {memodb.__version__}\n"


def test_a_caller_may_keep_the_exceptions(store: Path) -> None:
    from memodb.cli import main

    with pytest.raises(memodb.DocumentNotFound):
        main(["get", "none"], standalone_mode=False)
