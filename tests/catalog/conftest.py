"""A catalog with one collection and one segment, and the means to look at it, and harm it, from outside."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from memodb.catalog import Catalog, NewDocument, documents, pragmas, registry, visibility
from memodb.cipher import MemoryKeys

T0 = datetime(2024, 5, 17, 12, 30, 15, 123456, tzinfo=UTC)


@dataclass
class House:
    """A catalog on disk and the names of what is in it."""

    path: Path
    catalog: Catalog
    collection: str
    segment: str
    keys: MemoryKeys = field(default_factory=MemoryKeys)

    def new(self, name: str, tokens: Any = (1, 2, 300), **more: Any) -> NewDocument:
        values = {"created_at": T0, "digest": bytes(32), "segment_id": self.segment, **more}
        return NewDocument(id=name, tokens=np.array(tokens, dtype=np.int32), **values)

    def insert(self, *rows: NewDocument) -> None:
        with self.catalog.write() as session:
            documents.insert_many(session, self.collection, rows)

    def fresh(self) -> Catalog:
        """Another handle, which reads the same file with the same keys."""
        return Catalog.open(self.path, keys=self.keys, read_only=True)

    @contextlib.contextmanager
    def outside(self) -> Iterator[sqlite3.Connection]:
        """A connection that no rule of the schema holds back: for damage. What was altered stays so."""
        with contextlib.closing(pragmas.connect(str(self.path), read_only=False)) as raw:
            raw.execute("PRAGMA foreign_keys=OFF").close()
            raw.execute("PRAGMA synchronous=OFF").close()
            triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                raw.execute(f"DROP TRIGGER {name}")
            try:
                yield raw
            finally:
                for _, sql in triggers:
                    raw.execute(sql)


@pytest.fixture(scope="session")
def model_house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A catalog to copy, the collection and the segment in it: making one runs every migration."""
    path = tmp_path_factory.mktemp("model") / "catalog.db"
    with Catalog.create(path) as catalog, catalog.write() as session:
        collection = registry.add_collection(session, "default", created_at=T0)
        segment = registry.add_segment(session, collection.id, {"rows": 64})
    return path, collection.id, segment.id


@pytest.fixture
def house(tmp_path: Path, model_house: tuple[Path, str, str]) -> Iterator[House]:
    model, *names = model_house
    path = shutil.copy(model, tmp_path / "catalog.db")
    keys = MemoryKeys()
    with Catalog.open(path, keys=keys, timeout=0.3) as catalog:
        yield House(path, catalog, *names, keys=keys)


@pytest.fixture(scope="module")
def memory() -> Iterator[tuple[Catalog, str, str]]:
    """A catalog in memory, a collection and a segment of it: for properties that tidy up after each example."""
    with Catalog.create(":memory:", keys=MemoryKeys()) as catalog:
        with catalog.write() as session:
            collection = registry.add_collection(session, "default").id
            segment = registry.add_segment(session, collection, {}).id
        yield catalog, collection, segment


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Set the time that the catalog goes by."""

    def set_to(when: datetime) -> None:
        since = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        monkeypatch.setattr(visibility, "time", SimpleNamespace(time_ns=lambda: since * 1000 + 999))

    return set_to


@pytest.fixture
def in_process() -> Callable[..., str]:
    """Run Python source in a process of its own with arguments in sys.argv; its standard output."""

    def run(source: str, *arguments: object, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", source, *map(str, arguments)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    return run
