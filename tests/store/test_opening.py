"""Opening: what is bound, who may write, what is refused, and that a refusal leaves nothing behind."""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers

import memodb
from memodb import opening
from memodb.storage import StoreDirectory

TEXT = "The sky over the harbour was the colour of slate, and Nobody knew why."


def listing(path: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in sorted(path.rglob("*"))}


ANSWERS = """
import sys, memodb
with memodb.connect(sys.argv[1], read_only=len(sys.argv) > 2) as db:
    print([db.digest(), db.text("a"), db.next_tokens("The sky"), db.complete("The sky over").text, len(db),
           db.seed.hex(), db.trace(db.text("a")), db.score("The sky").tokens])
"""


@pytest.mark.parametrize("mode", [(), ("read-only",)])
def test_another_process_finds_the_same_memory(
    fresh: Callable[..., memodb.Store], tmp_path: Path, in_process: Callable[..., str], mode: tuple[str, ...]
) -> None:
    path = tmp_path / "s"
    with fresh(path) as db:
        db.append(TEXT, id="a")
        db.append("and another", id="b")
        db.delete("b")
        here = [db.digest(), db.text("a"), db.next_tokens("The sky"), db.complete("The sky over").text, len(db)]
        here += [db.seed.hex(), db.trace(db.text("a")), db.score("The sky").tokens]
        if mode:
            assert in_process(ANSWERS, path, *mode).strip() == str(here)
    assert in_process(ANSWERS, path, *mode).strip() == str(here)


def test_a_second_writer_is_told_who_is_first(
    fresh: Callable[..., memodb.Store], tmp_path: Path, in_process: Callable[..., str]
) -> None:
    import os

    source = (
        "import sys, memodb\ntry:\n    memodb.connect(sys.argv[1])\nexcept memodb.StoreLocked as exc:\n    print(exc)"
    )
    with fresh(tmp_path / "s") as db:
        assert f"process {os.getpid()}" in in_process(source, tmp_path / "s")
        with pytest.raises(memodb.StoreLocked, match=str(os.getpid())):
            memodb.connect(tmp_path / "s")
        db.append("still open")
    assert in_process(source, tmp_path / "s") == ""
    with memodb.connect(tmp_path / "s") as db:
        assert len(db) == 1


def test_a_reader_follows_every_commit(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], tmp_path: Path
) -> None:
    with fresh(tmp_path / "s") as db, memodb.connect(tmp_path / "s", read_only=True) as reader:
        for number in range(6):
            db.append(prose(1000, number), id=f"{number}")
            assert (reader.digest(), len(reader)) == (db.digest(), number + 1)
        db.delete("0", "1", "2")
        assert reader.digest() == db.digest()
        db.compact()
        assert reader.digest() == db.digest()
        assert reader.check().ok
        other = db.collection("other")
        other.append("text", id="x")
        assert reader.collection("other").digest() == other.digest()
        assert reader.digest() == db.digest()


def test_a_reader_writes_nothing(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    def nothing(transaction: Any) -> None:
        with transaction:
            raise AssertionError("never entered")

    with fresh(tmp_path / "s") as db:
        db.append(TEXT, id="a", source="x")
    before = listing(tmp_path)
    with memodb.connect(tmp_path / "s", read_only=True) as db:
        for write in (
            lambda: db.append("x"),
            lambda: db.append_many(["x"]),
            lambda: db.delete("a"),
            lambda: db.delete(source="x"),
            lambda: nothing(db.transaction()),
            db.compact,
        ):
            with pytest.raises(memodb.ReadOnlyStore):
                write()
        assert db.delete("a", dry_run=True).documents == ("a",)
        with pytest.raises(memodb.CollectionNotFound):
            db.collection("other")
        assert db.check(fix=True).ok
        assert db.text("a") == TEXT
    assert listing(tmp_path) == before


MISMATCHES: list[dict[str, Any]] = [
    {"false_recall": 0.1},
    {"heads": 3},
    {"layers": 1},
    {"window": 4},
    {"segment_tokens": 8192},
    {"seed": bytes(32)},
]


@pytest.mark.parametrize("other", MISMATCHES, ids=str)
def test_another_setting_is_refused(fresh: Callable[..., memodb.Store], tmp_path: Path, other: dict[str, Any]) -> None:
    with fresh(tmp_path / "s") as db:
        db.append(TEXT, id="a")
        seed = db.seed
    before = listing(tmp_path / "s")
    with pytest.raises(memodb.StoreMismatch):
        memodb.connect(tmp_path / "s", **other)
    assert listing(tmp_path / "s") == before
    same = {"false_recall": 0.01, "heads": 4, "layers": 2, "window": 8, "segment_tokens": 4096, "seed": seed}
    with memodb.connect(tmp_path / "s", **same) as db:
        assert db.text("a") == TEXT


@pytest.mark.parametrize(
    "bad",
    [
        {"false_recall": 0},
        {"false_recall": 2.0},
        {"false_recall": "x"},
        {"heads": 1},
        {"layers": -1},
        {"layers": 9},
        {"window": 1},
        {"segment_tokens": 5},
        {"segment_tokens": 1e6},
        {"seed": b"short"},
        {"seed": "x" * 32},
        {"collection": ""},
        {"collection": "a\0b"},
        {"collection": 5},
        {"device": "toaster"},
        {"tokenizer": "/nowhere/tokenizer.json"},
    ],
    ids=str,
)
def test_a_refused_creation_leaves_nothing_behind(tmp_path: Path, bad: dict[str, Any]) -> None:
    for path in (tmp_path / "s", ":memory:"):
        with pytest.raises((memodb.InvalidInput, memodb.BackendUnavailable)):
            memodb.connect(path, **bad)
    assert list(tmp_path.iterdir()) == []


def test_where_creating_was_not_asked_for(tmp_path: Path) -> None:
    for settings in ({"create": False}, {"read_only": True}):
        for path in (tmp_path / "s", ":memory:"):
            with pytest.raises(memodb.StoreNotFound):
                memodb.connect(path, **settings)
    assert list(tmp_path.iterdir()) == []
    with memodb.connect(tmp_path / "s") as db, pytest.raises(memodb.CollectionNotFound):
        db.collection("other", create=False)
    with pytest.raises(memodb.CollectionNotFound):
        memodb.connect(tmp_path / "s", collection="other", create=False)
    with memodb.connect(tmp_path / "s", create=False) as db:
        assert [info.name for info in db.collections()] == ["default"]


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "photo.jpg").write_text("mine")
    before = listing(tmp_path)
    for name in ("file", "directory"):
        for settings in ({}, {"create": False}, {"read_only": True}):
            with pytest.raises(memodb.Conflict):
                memodb.connect(tmp_path / name, **settings)
    with pytest.raises(memodb.MemodbError):
        memodb.connect(tmp_path / "file" / "below")
    assert listing(tmp_path) == before


class Crash(BaseException):
    """The end of the process, as far as a test can play it."""


def raising(*_: Any, **__: Any) -> Any:
    raise Crash


INTERRUPTIONS = [
    (StoreDirectory, "write_tokenizer"),
    (opening.Catalog, "create"),
    (opening.registry, "put_setting"),
    (opening.registry, "add_collection"),
]


@pytest.mark.parametrize(("owner", "name"), INTERRUPTIONS, ids=lambda value: str(value))
def test_an_interrupted_creation_is_finished(
    fresh: Callable[..., memodb.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    path = tmp_path / "s"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, raising)
        with pytest.raises(Crash):
            fresh(path)
    for settings in ({"read_only": True}, {"create": False}):
        with pytest.raises(memodb.NotFound):
            memodb.connect(path, **settings)
    with fresh(path, window=5) if name != "add_collection" else fresh(path) as db:
        db.append(TEXT, id="a")
    with memodb.connect(path, read_only=True) as db:
        assert db.text("a") == TEXT


def test_an_empty_catalog_file_is_an_interrupted_creation(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    (tmp_path / "catalog.db").touch()
    with pytest.raises(memodb.StoreNotFound, match="interrupted"):
        memodb.connect(tmp_path, read_only=True)
    with fresh(tmp_path) as db:
        db.append(TEXT)


def test_a_newer_schema_is_refused(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    fresh(tmp_path / "s").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "s" / "catalog.db")) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    for settings in ({}, {"read_only": True}):
        with pytest.raises(memodb.SchemaTooNew):
            memodb.connect(tmp_path / "s", **settings)


# -- tokenizers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def lowercasing(tmp_path: Path) -> Path:
    """A tokenizer of a few words that lower-cases, and knows no others."""
    words = "[UNK] the sky over harbour was colour of slate and nobody knew why , .".split()  # noqa: SIM905
    engine = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    engine.normalizer = tokenizers.normalizers.Lowercase()
    engine.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    engine.save(str(path))
    return path


def test_texts_are_exact_under_a_tokenizer_that_is_not(
    fresh: Callable[..., memodb.Store], lowercasing: Path, tmp_path: Path
) -> None:
    texts = {"a": TEXT, "b": "the sky", "c": "", "d": "Zebra  \n ÉTÉ", "e": "the  sky"}
    with fresh(tmp_path / "s", tokenizer=lowercasing) as db:
        for name, text in texts.items():
            db.append(text, id=name)
        db.append(TEXT, id="a")
        with pytest.raises(memodb.DocumentExists):
            db.append(TEXT.lower(), id="a")
        assert db.tokenizer.json == lowercasing.read_bytes()
        assert db.complete("THE SKY OVER", max_tokens=2).text.strip() == "the harbour"
        (span,) = db.trace("The sky OVER the harbour was The Colour of slate", min_tokens=8)
        assert span.documents == (memodb.Source("a", 0),)
        assert db.delete("d").verified
        del texts["d"]
        assert db.check().ok
        digest = db.digest()
    lowercasing.unlink()
    with memodb.connect(tmp_path / "s", read_only=True) as db:
        assert {d.id: db.text(d.id) for d in db.documents()} == texts
        assert db.digest() == digest
    with fresh(tmp_path / "t") as other, memodb.connect(tmp_path / "s", read_only=True) as db:
        other.append_many(db.export())
        assert {d.id: other.text(d.id) for d in other.documents()} == texts


def test_another_tokenizer_is_refused(fresh: Callable[..., memodb.Store], lowercasing: Path, tmp_path: Path) -> None:
    fresh(tmp_path / "shipped").close()
    fresh(tmp_path / "bound", tokenizer=lowercasing).close()
    fresh(tmp_path / "bound", tokenizer=lowercasing).close()
    changed = json.loads(lowercasing.read_bytes())
    lowercasing.write_text(json.dumps(changed, indent=1))
    for name in ("shipped", "bound"):
        with pytest.raises(memodb.StoreMismatch, match="tokenizer"):
            memodb.connect(tmp_path / name, tokenizer=lowercasing)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "another"])
def test_a_damaged_tokenizer_is_refused(
    fresh: Callable[..., memodb.Store], lowercasing: Path, tmp_path: Path, damage: str
) -> None:
    fresh(tmp_path / "s", tokenizer=lowercasing).close()
    file = tmp_path / "s" / "tokenizer.json.zst"
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "another":
        StoreDirectory(tmp_path / "s").write_tokenizer(lowercasing.read_bytes() + b" ")
    else:
        data[len(data) // 2] ^= 4
        file.write_bytes(bytes(data[: len(data) // 2] if damage == "cut" else data))
    for settings in ({}, {"read_only": True}):
        with pytest.raises(memodb.CorruptStore, match=r"tokenizer\.json\.zst"):
            memodb.connect(tmp_path / "s", **settings)


def test_the_shipped_tokenizer_needs_no_copy(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    with fresh(tmp_path / "s") as db:
        db.append(TEXT, id="a")
    (tmp_path / "s" / "tokenizer.json.zst").unlink()
    with memodb.connect(tmp_path / "s", read_only=True) as db:
        assert db.text("a") == TEXT


# -- handles -------------------------------------------------------------------------------------------------------


def enter(context: Any) -> None:
    with context:
        raise AssertionError("never entered")


CALLS: dict[str, Callable[[memodb.Store], Any]] = {
    "append": lambda db: db.append("x"),
    "append_many": lambda db: db.append_many(["x"]),
    "transaction": lambda db: enter(db.transaction()),
    "delete": lambda db: db.delete("a"),
    "delete dry": lambda db: db.delete("a", dry_run=True),
    "delete filter": lambda db: db.delete(source="x"),
    "len": len,
    "contains": lambda db: "a" in db,
    "get": lambda db: db.get("a"),
    "text": lambda db: db.text("a"),
    "tokens": lambda db: db.tokens("a"),
    "documents": lambda db: db.documents(),
    "export": lambda db: list(db.export()),
    "next_tokens": lambda db: db.next_tokens("The sky"),
    "complete": lambda db: db.complete("The sky"),
    "score": lambda db: db.score("The sky"),
    "lookup": lambda db: db.lookup([[1]]),
    "trace": lambda db: db.trace(TEXT),
    "check": lambda db: db.check(),
    "checkpoint": lambda db: db.checkpoint(),
    "compact": lambda db: db.compact(),
    "digest": lambda db: db.digest(),
    "stats": lambda db: db.stats(),
    "collections": lambda db: db.collections(),
    "collection": lambda db: db.collection("other"),
    "collection again": lambda db: db.collection("default"),
    "backup": lambda db: db.backup("never made"),
    "backups": lambda db: db.backups(),
    "backup_taken": lambda db: db.backup_taken(Path(db.path).parent / "b"),
    "backup_destroyed": lambda db: db.backup_destroyed("0" * 32),
    "erasures": lambda db: db.erasures(),
    "receipt": lambda db: db.receipt("0" * 32),
    "hold": lambda db: db.hold("case-1", "a"),
    "holds": lambda db: db.holds(),
    "release_hold": lambda db: db.release_hold("case-1"),
    "export_held": lambda db: list(db.export_held("case-1")),
    "quarantine": lambda db: db.quarantine("a"),
    "quarantined": lambda db: db.quarantined(),
    "release": lambda db: db.release("a"),
    "set_expiry": lambda db: db.set_expiry(None, "a"),
    "sweep": lambda db: db.sweep(),
    "suppress": lambda db: db.suppress(TEXT),
    "end_suppression": lambda db: db.end_suppression(TEXT),
    "export_subject": lambda db: list(db.export_subject("alice")),
    "audit": lambda db: list(db.audit()),
    "audit_head": lambda db: db.audit_head(),
    "export_audit": lambda db: db.export_audit("never made"),
}
CALM = {"close", "name", "path", "seed", "tokenizer", "pseudonym", "public_key"}


def test_the_calls_below_are_all_there_are() -> None:
    public = {name for name in dir(memodb.Store) if not name.startswith("_")}
    assert public - CALM == {name.split()[0] for name in CALLS} - {"len", "contains"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("memory", [True, False])
def test_a_closed_handle_says_so(fresh: Callable[..., memodb.Store], tmp_path: Path, call: str, memory: bool) -> None:
    db = fresh(":memory:" if memory else tmp_path / "s")
    db.append(TEXT, id="a", source="x")
    second = db.collection("second")
    db.close()
    db.close()
    for handle in (db, second):
        with pytest.raises(memodb.StoreClosed):
            CALLS[call](handle)
        assert handle.name in repr(handle)


def test_closing_in_a_transaction_undoes_it(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    def interrupted() -> Iterator[None]:
        with fresh(tmp_path / "s") as db, db.transaction():
            db.append(TEXT, id="a")
            db.close()
            yield

    with pytest.raises(memodb.StoreClosed):
        list(interrupted())
    with memodb.connect(tmp_path / "s") as db:
        assert len(db) == 0


def test_a_store_in_memory_is_its_own(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as one, fresh() as other:
        one.append(TEXT, id="a")
        assert len(other) == 0
        assert one.path == ":memory:"
        assert one.stats().disk_bytes == 0


def test_collections_see_nothing_of_each_other(
    fresh: Callable[..., memodb.Store], contents: Callable[..., Any], tmp_path: Path
) -> None:
    with fresh(tmp_path / "s") as one:
        other = one.collection("other")
        assert other.seed != one.seed
        empty = other.digest()
        one.append(TEXT, id="a", source="x")
        before = one.digest()
        assert (len(other), other.documents(), list(other.export()), other.digest()) == (0, [], [], empty)
        assert "a" not in other
        for read in (other.get, other.text, other.tokens, other.delete):
            with pytest.raises(memodb.DocumentNotFound):
                read("a")
        with pytest.raises(memodb.EmptySelection):
            other.delete(source="x")
        assert other.next_tokens("The sky") == []
        assert other.complete("The sky over").text == ""
        assert other.score(TEXT).known == 0
        assert other.trace(TEXT) == []
        assert other.lookup([one.tokens("a")[:4]]).context_length.tolist() == [0]
        assert other.stats().tokens == 0
        other.append("another text under the same id", id="a")
        assert one.text("a") == TEXT
        assert one.digest() == before
        assert other.score(TEXT).known < 0.3
        other.append(TEXT, id="b")
        assert one.trace(TEXT)[0].documents == (memodb.Source("a", 0),)
        assert other.trace(TEXT)[0].documents == (memodb.Source("b", 0),)
        one.delete("a")
        assert other.text("b") == TEXT
        assert other.check().ok
        assert [(info.name, info.documents) for info in one.collections()] == [("default", 0), ("other", 2)]
        with pytest.raises(memodb.StoreMismatch):
            one.collection("other", seed=bytes(32))
        assert one.collection("third", seed=bytes(32)).seed == bytes(32)


def test_two_handles_on_a_collection_are_one(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        same = db.collection("default")
        with db.transaction():
            same.append(TEXT, id="a")
            assert len(same) == 0
        assert same.digest() == db.digest()
        assert same.delete("a").verified
        assert len(db) == 0


def test_opening_collections_while_another_thread_writes(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    """A writer that opens a collection, and a thread that creates one and waits for the writer: no deadlock."""
    with fresh(tmp_path / "s") as db:
        creator = threading.Thread(target=lambda: db.collection("new").append("x"), daemon=True)
        found: list[str] = []

        def write() -> None:
            with db.transaction():
                creator.start()
                creator.join(0.2)
                found.append(db.collection("another").name)

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        writer.join(10)
        creator.join(10)
        assert not writer.is_alive()
        assert not creator.is_alive()
        assert found == ["another"]
        assert len(db.collection("new")) == 1


def test_threads_that_create_one_collection_get_the_same(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    with fresh(tmp_path / "s") as db:
        seeds: list[bytes] = []
        threads = [threading.Thread(target=lambda: seeds.append(db.collection("new").seed)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(seeds) == 6
        assert len(set(seeds)) == 1


def test_an_interrupted_creation_is_left_alone_by_create_false(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").touch()
    for arguments in ({"create": False}, {"read_only": True}):
        with pytest.raises(memodb.StoreNotFound, match="interrupted"):
            memodb.connect(tmp_path, **arguments)
        assert (tmp_path / "catalog.db").stat().st_size == 0


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes"])
def test_a_path_that_names_nothing_is_refused(path: Any) -> None:
    with pytest.raises(memodb.InvalidInput, match="path"):
        memodb.connect(path)


def test_temporary_files_of_a_crash_are_swept(tmp_path: Path) -> None:
    with memodb.connect(tmp_path / "s") as db:
        db.append("kept", id="a")
    left = tmp_path / "s" / "0123456789abcdef.tmp"
    left.write_bytes(b"half a tokenizer")
    with memodb.connect(tmp_path / "s", read_only=True):
        assert left.exists()
    with memodb.connect(tmp_path / "s") as db:
        assert not left.exists()
        assert db.text("a") == "kept"
