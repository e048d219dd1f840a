"""A catalog of the second schema, in which documents lay unencrypted, becomes one of the third or stays as it is."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, event

from memodb.catalog import Catalog, Filters, Scope, check, documents, erasing, pragmas, registry, schema
from memodb.catalog.codec import encode_text, encode_tokens
from memodb.cipher import MemoryKeys
from memodb.errors import CorruptStore, DiskFull, ReadOnlyStore, StoreError

T0 = datetime(2024, 5, 17, tzinfo=UTC)
COLLECTION, SEGMENT = "c" * 32, "d" * 32
SEALED = {
    "setting": ("name", "value"),
    "collection": ("id", "name", "key", "created_at"),
    "segment": ("id", "collection_id", "geometry", "tile"),
    "document": (
        *("place", "collection_id", "id", "source", "subject", "writer", "metadata", "created_at", "expires_at"),
        *("token_count", "digest", "tokens", "text"),
    ),
}
"""What the seals of the second schema cover."""


@dataclass
class Old:
    """A file of the second schema, and what its documents say."""

    path: Path
    said: dict[str, tuple[np.ndarray, str | None]] = field(default_factory=dict)

    @contextlib.contextmanager
    def outside(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(pragmas.connect(str(self.path), read_only=False)) as raw:
            raw.execute("PRAGMA synchronous=OFF").close()
            yield raw

    def residue(self) -> tuple[int, int]:
        """How many pieces of what is packed lie in any file beside the catalog: pages in use, free ones, journals; and
        of how many. Without the headers, which all share."""
        packed = [encode_tokens(tokens) for tokens, _ in self.said.values()]
        packed += [encode_text(text) for _, text in self.said.values() if text is not None]
        pieces = np.concatenate([np.frombuffer(blob[8 : len(blob) // 8 * 8], "<u8") for blob in packed])
        found = np.zeros(len(pieces), dtype=bool)
        for raw in (path.read_bytes() for path in self.path.parent.iterdir() if path.is_file()):
            for shift in range(8):
                end = shift + (len(raw) - shift) // 8 * 8
                found |= np.isin(pieces, np.frombuffer(raw[shift:end], "<u8"))
        return int(found.sum()), len(pieces)

    def dump(self) -> list[str]:
        with self.outside() as raw:
            return list(raw.iterdump())


def insert(raw: sqlite3.Connection, table: str, **values: Any) -> None:
    names = ", ".join(values)
    raw.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", tuple(values.values()))


def build(path: Path, count: int) -> Old:
    """Make the file with the released migrations, and the rows by SQL, as the memodb of then did."""
    path.touch(0o600)
    engine = create_engine("sqlite+pysqlite://", creator=lambda: pragmas.connect(str(path), read_only=False))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        schema.upgrade(connection, None, target="0002")
    engine.dispose()
    old = Old(path)
    noise = np.random.default_rng(count)
    with old.outside() as raw:
        raw.execute("BEGIN")
        insert(raw, "setting", name="schema", value=json.dumps(schema.fingerprint(raw)))
        insert(raw, "collection", id=COLLECTION, name="default", key=bytes(32), created_at=0, version=7)
        insert(raw, "segment", id=SEGMENT, collection_id=COLLECTION, geometry="{}", version=3, tile="old tile")
        for number in range(count):
            name = f"d{number:04}"
            tokens = noise.integers(0, 1 << 16, int(noise.integers(20, 4000 if number % 7 == 0 else 200)))
            said = "".join(map(chr, noise.integers(0x100, 0x3000, 60))) if number % 3 == 0 else None
            old.said[name] = (tokens, said)
            insert(
                raw,
                "document",
                place=int(noise.integers(1 << 62)),
                collection_id=COLLECTION,
                id=name,
                segment_id=SEGMENT,
                source="s" if number % 2 else None,
                metadata=f'{{"n":{number}}}',
                created_at=int((T0 + timedelta(hours=number) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
                * 10**6,
                state="erasing" if number == 1 else "live",
                token_count=len(tokens),
                digest=bytes([number % 256]) * 32,
                tokens=encode_tokens(tokens),
                text=None if said is None else encode_text(said),
            )
        for table, columns in SEALED.items():
            raw.execute(f"UPDATE {table} SET seal = memodb_seal({', '.join(columns)})")
        raw.execute("COMMIT")
    return old


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Old:
    return build(tmp_path_factory.mktemp("old") / "catalog.db", 600)


@pytest.fixture
def old(made: Old, tmp_path: Path) -> Old:
    path = tmp_path / "catalog.db"
    path.write_bytes(made.path.read_bytes())
    return Old(path, made.said)


def test_its_documents_are_encrypted_readable_and_sealed(old: Old) -> None:
    keys = MemoryKeys()
    found, pieces = old.residue()
    assert found > 0.98 * pieces > 10_000  # the search finds what is there, but for what a page's end parts
    with Catalog.open(old.path, keys=keys) as catalog:
        with catalog.read() as session:
            assert check(session, COLLECTION) == []
            found = documents.tokens_of(session, COLLECTION, old.said, Scope.ANY)
            texts = documents.texts_of(session, COLLECTION, old.said, Scope.ANY)
            assert {name: tokens.tolist() for name, tokens in found.items()} == {
                name: tokens.tolist() for name, (tokens, _) in old.said.items()
            }
            assert texts == {name: said for name, (_, said) in old.said.items() if said is not None}
            names = list(registry.named_keys(session))
            assert len(set(names)) == len(old.said)
            assert all(keys.read(names))
            row = documents.find(session, COLLECTION, "d0003")
            assert row is not None
            assert (row.source, row.batch, row.metadata, row.digest) == ("s", None, {"n": 3}, bytes([3]) * 32)
            assert row.created_at == T0 + timedelta(hours=3)
            # a deletion that was begun is still one: hidden, and to be finished, although no erasure is on record
            assert documents.find(session, COLLECTION, "d0001") is None
            assert erasing.hidden(session, COLLECTION) == {SEGMENT: ["d0001"]}
            assert documents.count(session, COLLECTION, Filters(scope=Scope.ANY)) == len(old.said)
            (segment,) = registry.list_segments(session, COLLECTION)
            assert (segment.tile, segment.tile_key) == (None, None)  # it was not encrypted: it is made again
        assert catalog.integrity() == []
        assert catalog.pragmas()["secure_delete"] == 1
    with (
        Catalog.open(old.path, keys=MemoryKeys()) as catalog,
        catalog.read() as session,
        pytest.raises(CorruptStore, match="d0000"),
    ):
        documents.tokens_of(session, COLLECTION, ["d0000"])


def test_nothing_of_what_they_said_is_left_in_any_file(old: Old) -> None:
    with Catalog.open(old.path, keys=MemoryKeys()) as catalog:
        assert old.residue()[0] == 0
        catalog.shrink()
        catalog.settle_journal()
        assert old.residue()[0] == 0
    assert old.residue()[0] == 0


def test_its_schema_is_that_of_a_new_catalog(old: Old, tmp_path: Path) -> None:
    Catalog.open(old.path, keys=MemoryKeys()).close()
    Catalog.create(tmp_path / "new.db").close()

    def described(path: Path) -> list[Any]:
        with contextlib.closing(sqlite3.connect(path)) as raw:
            return raw.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()

    assert described(old.path) == described(tmp_path / "new.db")
    for column in ("batch = 'x'", "key = x'00'", "tokens = x'00'"):
        with old.outside() as raw, pytest.raises(sqlite3.IntegrityError, match="cannot be changed once written"):
            raw.execute(f"UPDATE document SET {column}")
    Catalog.open(old.path, read_only=True).close()  # the fingerprint is the one that was recorded


class Failing(MemoryKeys):
    """Keys that run out of space after the first batch."""

    made = 0

    def create(self, count: int) -> list[bytes]:
        if self.made:
            raise DiskFull("no space for keys")
        self.made += count
        return super().create(count)


class Stopped(MemoryKeys):
    """Keys whose reading is interrupted in the second batch."""

    asked = 0

    def read(self, names: Any) -> list[bytes | None]:
        self.asked += 1
        if self.asked > 1:
            raise KeyboardInterrupt
        return super().read(names)


@pytest.mark.parametrize(("keys", "error"), [(Failing(), DiskFull), (Stopped(), KeyboardInterrupt)])
def test_an_upgrade_that_fails_half_way_leaves_the_second_schema(
    old: Old, keys: MemoryKeys, error: type[BaseException]
) -> None:
    before = old.dump()
    with pytest.raises(error):
        Catalog.open(old.path, keys=keys)
    assert len(keys._keys) in (256, 512)  # it was half way
    assert old.dump() == before
    with pytest.raises(ReadOnlyStore, match="schema 0002"):
        Catalog.open(old.path, keys=keys, read_only=True)
    with Catalog.open(old.path, keys=MemoryKeys()) as catalog, catalog.read() as session:
        assert check(session, COLLECTION) == []


def test_without_keys_it_is_not_upgraded(old: Old) -> None:
    before = old.dump()
    with pytest.raises(StoreError, match="without its keys"):
        Catalog.open(old.path)
    assert old.dump() == before


@pytest.mark.parametrize("column", ["digest = zeroblob(32)", "text = 'a'", "tokens = CAST(x'61' AS TEXT)"])
def test_damage_is_not_sealed_anew(old: Old, column: str) -> None:
    with old.outside() as raw:
        ((trigger,),) = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'document_immutable'").fetchall()
        raw.execute("DROP TRIGGER document_immutable")
        raw.execute(f"UPDATE document SET {column} WHERE id = 'd0002'")
        raw.execute(trigger)
    before = old.dump()
    try:
        catalog = Catalog.open(old.path, keys=MemoryKeys())
    except CorruptStore:
        assert old.dump() == before
        return
    with catalog, catalog.read() as session:
        assert any("'d0002'" in finding for finding in check(session, COLLECTION))


def test_an_empty_one_needs_no_keys(tmp_path: Path) -> None:
    empty = build(tmp_path / "empty.db", 0)
    with Catalog.open(empty.path) as catalog, catalog.read() as session:
        assert registry.list_collections(session)[0].documents == 0


def test_an_upgrade_cut_off_before_the_rewrite_is_brought_to_its_end(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = MemoryKeys()

    def cut_off(_: Catalog) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "vacuum", cut_off)
        with pytest.raises(KeyboardInterrupt):
            Catalog.open(old.path, keys=keys)
    assert old.residue()[0] > 0
    Catalog.open(old.path, keys=keys, read_only=True).close()
    assert old.residue()[0] > 0
    with Catalog.open(old.path, keys=keys) as catalog, catalog.read() as session:
        assert check(session, COLLECTION) == []
    assert old.residue()[0] == 0
