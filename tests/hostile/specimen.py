"""A small store that holds something of everything, a judge of what damage did to it, and the truth to judge by."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tokenizers
import zstandard
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import memodb
from memodb.catalog import Catalog, registry

PROMPTS = ("w1 w5 w9", "w3", "w2 w7")
COLLECTIONS = ("default", "other")
UNWANTED = "w50 w51 w52 this must not come back"
SLOT = 64
"""Bytes of a key's place in the file of keys, and of its header: memodb/storage/keyfile.py."""


def small_tokenizer(path: Path) -> Path:
    """Sixty words: another tokenizer than the shipped one, so that the store's own copy is what is read."""
    words = ["[UNK]", *(f"w{number}" for number in range(60))]
    model = tokenizers.models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]")
    engine = tokenizers.Tokenizer(model)
    engine.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    engine.save(str(path))
    return path


def dump(path: Path) -> Any:
    """Every row of every table as SQLite reads it, without an index and in no order; None where it cannot.

    But for ``version``, which like the counters of SQLite's header is only ever compared for change: no content.
    """
    try:
        uri = f"file:{path}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as raw:
            raw.text_factory = bytes
            schema = sorted(raw.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"), key=repr)
            tables = [name.decode() for kind, name, *_ in schema if kind == b"table"]
            return schema, {name: _rows(raw, name) for name in tables}
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def _rows(raw: sqlite3.Connection, table: str) -> list[Any]:
    found = [name.decode() for _, name, *_ in raw.execute(f'PRAGMA table_info("{table}")')]
    columns = ", ".join(f'"{name}"' for name in found if name != "version")
    return sorted(raw.execute(f'SELECT {columns} FROM "{table}" NOT INDEXED'), key=repr)


def planted(path: Path, key: bytes) -> bytes:
    """Put a key of the attacker's own into the file of keys, as its format says; the key's name."""
    data = path.read_bytes()
    slot, tag = (len(data) // SLOT).to_bytes(8, "big"), b"planted!"
    check = hashlib.blake2b(tag + key + slot, digest_size=8, person=b"memodb keys").digest()
    path.write_bytes(data[: len(data) // SLOT * SLOT] + (tag + key + check).ljust(SLOT, b"\0"))
    return slot + tag


def slots(data: bytes) -> list[bytes]:
    """The header and the slots of a file of keys, without those that hold nothing at its end."""
    found = [data[at : at + SLOT] for at in range(0, len(data) // SLOT * SLOT, SLOT)]
    while found and not any(found[-1]):
        found.pop()
    return found


def same_keys(data: bytes, before: bytes) -> bool:
    """Whether every key that was there is there: what stands in places of no key's is nobody's."""
    now, then = slots(data), slots(before)
    return len(now) >= len(then) and all(a == b for a, b in zip(now, then, strict=False) if any(b))


def same_secret(data: bytes, before: bytes) -> bool:
    """Whether two private keys are one: PEM takes any text around itself, and base64 has spare bits."""
    try:
        return bool(_secret(data) == _secret(before))
    except (ValueError, UnsupportedAlgorithm, InternalError):
        return False


def _secret(pem: bytes) -> bytes:
    return load_pem_private_key(pem, None).private_bytes_raw()  # type: ignore[union-attr]


def same_log(data: bytes, before: bytes) -> bool:
    """Whether a log says what it said, or less at its end, which the catalog has too and the next writer mirrors."""
    lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
    return lines == before.split(b"\n")[: len(lines)]


@dataclass
class Verdict:
    """What a damaged store said and answered."""

    findings: list[str] = field(default_factory=list)
    """What check() found, and every typed error at opening or reading."""
    wrong: list[str] = field(default_factory=list)
    """Answers that differ from the truth, without an error."""
    lies: list[str] = field(default_factory=list)
    """Texts that differ from the stored ones: never excused, whatever a check would say."""
    untyped: list[str] = field(default_factory=list)
    """Errors that are not memodb's."""

    @property
    def detected(self) -> bool:
        """Whether anybody was told."""
        return bool(self.findings)


@dataclass
class Specimen:
    """The store, and what is true of it."""

    path: Path
    truth: dict[str, dict[str, Any]]
    digest: str
    bombs: tuple[Any, ...]

    @classmethod
    def make(cls, folder: Path) -> Specimen:
        """Two collections; documents under a tile and after it, with every field, and with a text that is kept; one
        document deleted, one hidden under a hold, one in quarantine; a text suppressed, a backup recorded.
        """
        path = folder / "specimen"
        with memodb.connect(
            path, tokenizer=small_tokenizer(folder / "words.json"), seed=bytes(range(32)), segment_tokens=4096, layers=1
        ) as db:
            for name in COLLECTIONS:
                part = db.collection(name)
                _fill(part, 9 if name == "default" else 4)
                part.checkpoint()
                part.append("w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 after the checkpoint", id="late", source="late.md")
            _govern(db)
            db.backup(folder / "backup", keep_until=datetime(2051, 1, 1, tzinfo=UTC))
            truth = {name: cls._read(db.collection(name)) for name in COLLECTIONS}
            assert db.check().ok
            digest = db.digest()
        return cls(path, truth, digest, _bombs())

    def copy(self, path: Path) -> Path:
        """A copy to damage."""
        shutil.copytree(self.path, path)
        return path

    def files(self) -> list[Path]:
        """Every file of the store, relative."""
        return sorted(found.relative_to(self.path) for found in self.path.rglob("*") if found.is_file())

    def tile(self) -> Path:
        """The tile of the first collection, relative."""
        with contextlib.closing(sqlite3.connect(f"file:{self.path}/catalog.db?mode=ro", uri=True)) as raw:
            query = "SELECT tile FROM segment JOIN collection c ON c.id = collection_id WHERE c.name = 'default'"
            return Path("segments") / raw.execute(query).fetchone()[0]

    def name_tile(self, path: Path, tile: str, key: bytes) -> None:
        """Let the catalog's row name a tile and a key, with a seal that is right: the attacker knows the formats."""
        name = planted(path / "keys", key)
        with contextlib.closing(Catalog.open(path / "catalog.db")) as catalog, catalog.write() as session:
            row = registry.find_collection(session, "default")
            (segment,) = registry.list_segments(session, row.id)
            registry.set_tile(session, row.id, segment.id, tile, name)

    def tile_key(self) -> bytes:
        """The key of the tile of the first collection."""
        with contextlib.closing(sqlite3.connect(f"file:{self.path}/catalog.db?mode=ro", uri=True)) as raw:
            query = "SELECT tile_key FROM segment JOIN collection c ON c.id = collection_id WHERE c.name = 'default'"
            (name,) = raw.execute(query).fetchone()
        return self.key(name)

    def key(self, name: bytes) -> bytes:
        """A key by its name."""
        found = slots((self.path / "keys").read_bytes())[int.from_bytes(name[:8], "big")]
        assert found[:8] == name[8:]
        return found[8:40]

    # -- judging ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _reads(db: memodb.Store) -> dict[str, Callable[[], Any]]:
        return {
            "digest": db.digest,
            "documents": lambda: db.documents(order="id"),
            "length": lambda: len(db),
            "by source": lambda: db.documents(source="a.md", order="id"),
            "next": lambda: [db.next_tokens(prompt) for prompt in PROMPTS],
            "trace": lambda: db.trace("w1 w2 w3 w4 w5 w6 w7 w8 w9 w10"),
            "held": db.holds,
            "aside": db.quarantined,
            "erased": db.erasures,
            "receipts": lambda: [db.receipt(erasure.id) for erasure in db.erasures() if erasure.state == "verified"],
            "log": lambda: list(db.audit()),
            "copies": db.backups,
        }

    @classmethod
    def _read(cls, db: memodb.Store) -> dict[str, Any]:
        texts = {document.id: db.text(document.id) for document in db.documents()}
        return {**{name: read() for name, read in cls._reads(db).items()}, "texts": texts}

    def judge(
        self, path: Path, *, checking: bool = True, read_only: bool = True, create: bool = False, fix: bool = False
    ) -> Verdict:
        """Open the store, check it, read everything, compare with the truth."""
        verdict = Verdict()

        def attempt(what: str, action: Callable[[], Any]) -> Any:
            try:
                return action()
            except memodb.MemodbError as exc:
                verdict.findings.append(f"{what}: {type(exc).__name__}: {exc}")
            except Exception as exc:
                verdict.untyped.append(f"{what}: {type(exc).__name__}: {exc}")
            return None

        def examine(db: memodb.Store, name: str) -> None:
            truth = self.truth[name]
            if checking:
                report = attempt("check", lambda: db.check(fix=fix))
                verdict.findings.extend(() if report is None else report.findings)
            for what, read in self._reads(db).items():
                found = attempt(what, lambda read=read: (read(),))  # type: ignore[misc]
                if found is not None and found[0] != truth[what]:
                    verdict.wrong.append(f"{name}: {what}")
            for document_id, text in truth["texts"].items():
                found = attempt("text", lambda document_id=document_id: (db.text(document_id),))  # type: ignore[misc]
                if found is not None and found[0] != text:
                    verdict.lies.append(f"{name}: {document_id}: {found[0]!r}")

        def everything() -> None:
            with memodb.connect(path, read_only=read_only, create=create) as db:
                for name in COLLECTIONS:
                    part = attempt("collection", lambda name=name: db.collection(name, create=create))  # type: ignore[misc]
                    if part is not None:
                        examine(part, name)

        attempt("open", everything)
        return verdict

    def changed(self, path: Path, file: Path) -> bool:
        """Whether damage to a file changed anything that the file means."""
        if file.name == "catalog.db":
            return bool(dump(path / file) != dump(self.path / file))
        if file.parts[0] == "segments" or file.name == "suppression.key":
            return True
        means = {"keys": same_keys, "signing.pem": same_secret, "log.jsonl": same_log}.get(file.name)
        if means is not None:
            return not means((path / file).read_bytes(), (self.path / file).read_bytes())
        if file.name.startswith("tokenizer"):
            try:
                packed = (path / file).read_bytes()
                return zstandard.ZstdDecompressor().decompress(packed) != self._tokenizer()
            except zstandard.ZstdError:
                return True
        return False

    def _tokenizer(self) -> bytes:
        return zstandard.ZstdDecompressor().decompress((self.path / "tokenizer.json.zst").read_bytes())


def _fill(db: memodb.Store, documents: int) -> None:
    for number in range(documents):
        words = [f"w{(number * 7 + at * at) % 60}" for at in range(40)]
        db.append(
            " ".join([*words, "unknown"] if number % 3 == 0 else words),
            id=f"document {number}",
            source="a.md" if number % 2 else "b.md",
            subject=f"subject {number % 3}",
            writer="ada" if number else None,
            metadata={"number": number, "nested": {"list": [1, None, True]}},
            expires_at=datetime(2050 + number, 1, 1, tzinfo=UTC),
        )


def _govern(db: memodb.Store) -> None:
    for name in ("deleted", "held", "aside"):
        db.append(f"w40 w41 w42 w43 {name}", id=name, source=f"{name}.md")
    db.delete("deleted", reason="ticket-1")
    db.hold("case-1", "held")
    db.delete("held", reason="ticket-2")
    db.quarantine("aside", reason="ticket-3")
    db.suppress(UNWANTED, datetime(2052, 1, 1, tzinfo=UTC))


def _bombs() -> tuple[Any, ...]:
    name = "hostile_bombs"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("bombs.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    found: tuple[Any, ...] = sys.modules[name].BOMBS
    return found


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Change bytes in place: no handle on the store may be open in this process, its POSIX locks would go."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, data, at)
    finally:
        os.close(descriptor)


def listing(path: Path) -> dict[str, str]:
    """Names, kinds and contents below a directory, nothing followed: what must not change outside of a store."""
    found = {}
    for entry in sorted(path.rglob("*")):
        mode = entry.lstat().st_mode
        data = hashlib.sha256(entry.read_bytes()).hexdigest() if entry.is_file() and not entry.is_symlink() else ""
        found[str(entry.relative_to(path))] = f"{mode:o} {data}"
    return found
