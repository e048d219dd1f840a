"""The scanner: what lies anywhere in a store is found, what was deleted is not there, and controls come first."""

import base64
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb import scanning
from memodb.catalog import codec
from memodb.erasure import search
from memodb.erasure.search import ENCODINGS, WINDOW, Needles, require_control, search_files
from memodb.errors import InvalidText, StoreError
from memodb.text import Tokenizer

SECRET = "The lighthouse keeper's secret is that the third lamp was never lit before the war ended in May."


SCAN = """
import json, sys
from memodb.scanning import scan
print(json.dumps(scan(sys.argv[1], [sys.argv[2]]).to_dict()))
"""


def scan(path: Path, text: str) -> dict[str, Any]:
    """In this process, which has the store closed."""
    report: dict[str, Any] = json.loads(json.dumps(scanning.scan(path, [text]).to_dict()))
    return report


@pytest.fixture(scope="module")
def _made(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("made") / "s"
    with fresh(path) as db:
        for n in range(20):
            db.append(prose(80, n), id=str(n), source="ordinary")
        db.append(SECRET, id="secret")
        db.append("\ud7ff e\u0301 " + SECRET[::-1], id="backwards", metadata={"about": SECRET[:40]})
        db.checkpoint()
        db.append(prose(80, 99), id="later")
    return path


@pytest.fixture
def store(_made: Path, tmp_path: Path) -> Path:
    shutil.copytree(_made, tmp_path / "s")
    return tmp_path / "s"


def test_what_is_stored_is_found_and_what_was_deleted_is_not(store: Path, in_process: Callable[..., str]) -> None:
    """Texts lie encrypted: what a search of bytes finds before is what metadata quotes; memories tell the rest.

    The second time in a process of its own, as a scan is meant to be made.
    """
    before = scan(store, SECRET)
    assert not before["clean"]
    assert before["stored"] == ["default/secret"]
    assert {hit["encoding"] for hit in before["hits"]} == {"utf-8"}
    assert all(SECRET[:40].encode().find(b"The lighthouse") == 0 and hit["nbytes"] <= 41 for hit in before["hits"])
    with memodb.connect(store) as db:
        db.delete("secret", "backwards")
    after = json.loads(in_process(SCAN, store, SECRET))
    assert after["clean"]
    assert after["hits"] == []
    assert after["asked"] > 0
    assert after["files"] >= 7
    assert len(after["encodings"]) == 13


def test_what_lies_in_any_file_is_found(store: Path) -> None:
    """A page that SQLite did not overwrite, a file that somebody copied."""
    with memodb.connect(store) as db:
        db.delete("secret", "backwards")
    names = ["catalog.db", "segments/left", "keys.tmp", "ledger/notes"]
    for name in names:
        with (store / name).open("ab") as file:
            file.write(bytes(5000) + codec.encode_text("before " + SECRET) + bytes(5000))
    report = scan(store, SECRET)
    assert report["stored"] == []
    assert not report["clean"]
    places = {hit["place"].split(",")[0] for hit in report["hits"]}
    assert {str(store / name) for name in names} <= places


def test_a_row_whose_key_is_there_is_found(store: Path) -> None:
    """A deletion that stopped after its first commit: hidden from every read path, and not from the scan."""
    raw = sqlite3.connect(store / "catalog.db")
    raw.execute("UPDATE document SET state = 'erasing' WHERE id = 'secret'")
    raw.commit()
    raw.close()
    report = scan(store, SECRET)
    assert report["stored"] == []
    assert not report["clean"]
    assert any(hit["place"].startswith("a hidden document") for hit in report["hits"])


def test_a_row_whose_key_was_destroyed_says_nothing(store: Path) -> None:
    """What a file system's snapshot of the catalog still has is noise by then."""
    catalog = (store / "catalog.db").read_bytes()
    with memodb.connect(store) as db:
        db.delete("secret", "backwards")
    needles = Needles([SECRET], Tokenizer.shipped())
    (store / "old.db").write_bytes(catalog)
    hits = search_files(needles, [store / "old.db"])[2]
    assert sum(hit.nbytes for hit in hits) <= 2 * 41  # what the other's metadata quoted, in a page and its index
    for path in store.rglob("*"):
        if path.is_file() and path.name != "old.db":
            assert search_files(needles, [path])[2] == []


def test_a_sentence_that_lives_elsewhere_too_is_told_apart(store: Path) -> None:
    with memodb.connect(store) as db:
        db.append("Another writes: the third lamp was never lit before the war ended in May, they say.", id="quoting")
        db.delete("secret", "backwards")
    report = scan(store, SECRET)
    assert report["clean"]
    assert {hit["shared"] for hit in report["hits"]} <= {True}


ALL = [*ENCODINGS, "tokens, 2 bytes", "tokens, 4 bytes", "tokens as stored", "text as stored"]


@pytest.fixture(scope="module")
def needles() -> Needles:
    return Needles([SECRET], Tokenizer.shipped())


@settings(max_examples=50)
@given(st.data())
def test_any_piece_in_any_encoding_anywhere_is_found(
    needles: Needles, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Against the plain search: a piece of 16 bytes or more of what an encoder that is not the scanner's own makes."""
    ids = Tokenizer.shipped().encode(SECRET)
    name = data.draw(st.sampled_from(ALL))
    shift = data.draw(st.integers(0, 2))
    encoded = {
        "utf-8": SECRET.encode(),
        "utf-16-le": SECRET.encode("utf-16-le"),
        "utf-16-be": SECRET.encode("utf-16-be"),
        "hex": SECRET.encode().hex().encode(),
        "HEX": SECRET.encode().hex().upper().encode(),
        "json": json.dumps({"a": SECRET}).encode()[7:-2],
        "tokens, 2 bytes": np.asarray(ids, "<u2").tobytes(),
        "tokens, 4 bytes": np.asarray(ids, "<u4").tobytes(),
        "tokens as stored": codec.encode_tokens(ids),
        "text as stored": codec.encode_text(SECRET),
    }.get(name, base64.b64encode(b"xyz"[:shift] + SECRET.encode() + b"tail")[4:-8])
    length = data.draw(st.integers(WINDOW + 4, len(encoded)))
    at = data.draw(st.integers(0, len(encoded) - length))
    before = data.draw(st.integers(0, 5000))
    piece = bytes(before) + encoded[at : at + length] + bytes(data.draw(st.integers(0, 3)))
    path = tmp_path_factory.mktemp("scan") / "f"
    if data.draw(st.booleans()):
        piece = b"some bytes" + zstandard.ZstdCompressor(level=data.draw(st.sampled_from([1, 3, 19]))).compress(piece)
    path.write_bytes(piece)
    assert search_files(needles, [path])[2]


@settings(max_examples=60)
@given(st.binary(max_size=4000))
def test_nothing_is_found_where_nothing_is(needles: Needles, noise: bytes) -> None:
    assert list(needles.search("noise", noise)) == []
    hits = list(needles.search("noise", noise + SECRET.encode() + noise))
    assert [(hit.offset, hit.nbytes) for hit in hits] == [(len(noise), len(SECRET))]


def test_pieces_across_the_borders_of_reads_are_found(
    needles: Needles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_CHUNK", 64)
    for before in range(64):
        (tmp_path / "f").write_bytes(bytes(before) + SECRET[:20].encode() + bytes(100))
        hits = search_files(needles, [tmp_path / "f"])[2]
        assert min(hit.offset for hit in hits) == before


@pytest.mark.parametrize("text", ["", "too short", " " * 100, "aaaa bbbb " * 20, "-+" * 60])
def test_a_text_that_could_be_anywhere_is_refused(text: str) -> None:
    with pytest.raises(InvalidText, match="too short or too uniform"):
        Needles([text], None)


def test_a_search_that_is_blind_is_not_believed(needles: Needles, monkeypatch: pytest.MonkeyPatch) -> None:
    require_control(needles)
    for name in needles.encodings:
        blind = Needles([SECRET], Tokenizer.shipped())
        blind.windows = {window: by for window, by in blind.windows.items() if by != name}
        if any(by == name for by in needles.windows.values()):
            with pytest.raises(StoreError, match="do not believe it"):
                require_control(blind)
