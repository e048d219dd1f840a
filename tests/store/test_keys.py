"""Keys kept elsewhere: a store whose keys another service has, and what becomes of both without each other."""

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

import memodb


class Vault:
    """A key service of somebody's own: a database file that lies with none of the store's."""

    kind = "vault"

    def __init__(self, path: Path) -> None:
        self._raw = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._raw.execute("PRAGMA secure_delete=ON")
        self._raw.execute("CREATE TABLE IF NOT EXISTS key (name BLOB PRIMARY KEY, key BLOB)")
        self._turn = threading.Lock()
        self.reachable = True

    def _answering(self) -> threading.Lock:
        if not self.reachable:
            raise memodb.StoreError("the vault cannot be reached")
        return self._turn

    def create(self, count: int) -> list[bytes]:
        made = [(secrets.token_bytes(20), secrets.token_bytes(32)) for _ in range(count)]
        with self._answering():
            self._raw.executemany("INSERT INTO key VALUES (?, ?)", made)
        return [name for name, _ in made]

    def read(self, names: Sequence[bytes]) -> list[bytes | None]:
        with self._answering():
            found = [self._raw.execute("SELECT key FROM key WHERE name = ?", (name,)).fetchone() for name in names]
        return [None if row is None else row[0] for row in found]

    def destroy(self, names: Iterable[bytes]) -> int:
        with self._answering():
            return sum(self._raw.execute("DELETE FROM key WHERE name = ?", (name,)).rowcount for name in names)

    def count(self) -> int:
        return int(self._raw.execute("SELECT count(*) FROM key").fetchone()[0])

    def close(self) -> None:
        self._raw.close()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = Vault(tmp_path / "vault.db")
    yield made
    made.close()


@pytest.fixture
def store(fresh: Callable[..., memodb.Store], vault: Vault, tmp_path: Path) -> Path:
    with fresh(tmp_path / "s", keys=vault) as db:
        for number in range(6):
            db.append(f"The vault keeps the key of text number {number}, and of no other one.", id=str(number))
        db.checkpoint()
    return tmp_path / "s"


def test_a_service_of_ones_own_has_the_keys(store: Path, vault: Vault) -> None:
    assert not (store / "keys").exists()
    assert vault.count() == 7  # six documents and a tile
    with memodb.connect(store, keys=vault) as db:
        assert db.check().ok
        receipt = db.delete("3", "4", reason="case-1")
        assert receipt.verified
        layer = receipt.signed["statement"]["layers"]["keys"]
        assert (layer["service"], layer["destroyed"], layer["readable"]) == ("vault", 3, 0)
        assert vault.count() == 5
        with pytest.raises(memodb.InvalidInput, match="another process"):
            db.delete("5", scan=True)
        assert "5" in db


def test_without_them_nothing_can_be_read(store: Path, vault: Vault) -> None:
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    for read_only in (True, False):
        with pytest.raises(memodb.CorruptStore, match="key service"):
            memodb.connect(store, read_only=read_only)
    # a lock, a journal, and who held the lock: nothing that says that documents were forgotten
    assert not (store / "keys").exists()
    changed = {path.name for path, data in before.items() if path.read_bytes() != data}
    assert changed <= {"LOCK"}
    with memodb.connect(store, keys=vault) as db:
        assert len(db) == 6
        assert db.check().ok


def test_a_service_that_is_out_of_reach_loses_nothing(store: Path, vault: Vault) -> None:
    with memodb.connect(store, keys=vault) as db:
        vault.reachable = False
        for call in (lambda: db.text("1"), lambda: db.append("another text"), lambda: db.delete("2")):
            with pytest.raises(memodb.StoreError, match="cannot be reached"):
                call()
        vault.reachable = True
        assert "2" not in db or db.text("2")  # hidden, or not deleted at all: never half
        db.append("another text", id="again")
        assert db.check().ok
        assert all(erasure.state == "verified" for erasure in db.erasures())


def test_a_backup_needs_them_too(store: Path, vault: Vault, tmp_path: Path) -> None:
    with memodb.connect(store, keys=vault) as db:
        db.backup(tmp_path / "b")
        db.delete("1")
    assert not (tmp_path / "b" / "keys").exists()
    ledger = store / "ledger"
    with pytest.raises(memodb.CorruptStore, match="key service"):
        memodb.restore(tmp_path / "b", tmp_path / "r", ledger=ledger)
    # Its key is destroyed wherever the backup lies: nobody can read it there, and without the ledger nobody knows why.
    with pytest.raises(memodb.CorruptStore, match="'1'"):
        memodb.restore(tmp_path / "b", tmp_path / "r", without_ledger=True, keys=vault)
    assert not (tmp_path / "r").exists()
    memodb.restore(tmp_path / "b", tmp_path / "r", ledger=ledger, keys=vault)
    with memodb.connect(tmp_path / "r", keys=vault) as db:
        assert sorted(document.id for document in db.documents()) == ["0", "2", "3", "4", "5"]
        assert db.check().ok
