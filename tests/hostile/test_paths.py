"""Strange paths: a store is made exactly there and nowhere else, or nothing is made and a typed error says why."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import memodb


def names(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*")}


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS normalises names and refuses some")
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["sample", "full"])
def test_a_store_is_where_its_path_says(
    specimen: Any,
    beside: Callable[[str], ModuleType],
    tmp_path: Path,
    covered: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    relative: bool,
    long: bool,
) -> None:
    """SQLite takes URIs, and none of their magic may reach it: ``?mode=memory`` is a part of a name."""
    paths = beside("evil").PATHS[relative :: 1 if long else 8]
    words = specimen.path.parent / "words.json"
    for number, name in enumerate(paths):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        path = name if relative else os.path.join(folder, name)  # noqa: PTH118  # as a user writes it
        with memodb.connect(path, tokenizer=words, segment_tokens=4096, layers=1) as db:
            db.append("w1 w2 w3", id="a")
            db.checkpoint()
        assert {entry.name for entry in folder.iterdir()} == {name}
        assert {"LOCK", "catalog.db", "tokenizer.json.zst", "segments"} <= names(folder / name)
        before = names(folder)
        for read_only in (True, False):
            with memodb.connect(path, read_only=read_only) as db:
                assert db.text("a") == "w1 w2 w3"
        assert {entry.name for entry in folder.iterdir()} == {name}
        assert names(folder) == before
    covered(paths=len(paths))


@pytest.mark.parametrize(
    "path",
    ["", "\0", "a\0b", "x" * 256, "a/" * 3000 + "a", "\ud800", b"bytes", 7, None, "file/below", "/proc/nowhere/x"],
    ids=lambda path: repr(path)[:20],
)
def test_an_impossible_path_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    for how in ({}, {"read_only": True}, {"create": False}):
        with pytest.raises(memodb.MemodbError):
            memodb.connect(path, **how)
    assert names(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("path", ["a/../s", "./s", "a/../../{folder}/s", "s/", "s//", "s/."])
def test_dots_mean_what_they_mean_to_the_system(
    specimen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "a").mkdir()
    specimen.copy(tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    verdict = specimen.judge(Path(path.format(folder=tmp_path.name)), read_only=False)
    assert verdict == type(verdict)()
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", "s"}
