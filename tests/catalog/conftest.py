"""A catalog with one collection and one segment, and the means to look at it from outside."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memodb.catalog import Catalog, NewDocument, documents, registry

T0 = datetime(2024, 5, 17, 12, 30, 15, 123456, tzinfo=UTC)


@dataclass
class House:
    """A catalog on disk and the names of what is in it."""

    path: Path
    catalog: Catalog
    collection: str
    segment: str

    def new(self, name: str, tokens: Any = (1, 2, 300), **more: Any) -> NewDocument:
        values = {"created_at": T0, "digest": bytes(32), "segment_id": self.segment, **more}
        return NewDocument(id=name, tokens=np.array(tokens, dtype=np.int32), **values)

    def insert(self, *rows: NewDocument) -> None:
        with self.catalog.write() as session:
            documents.insert_many(session, self.collection, rows)

    def fresh(self) -> Catalog:
        return Catalog.open(self.path, read_only=True)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    path = tmp_path / "catalog.db"
    with Catalog.create(path, timeout=0.3) as catalog:
        with catalog.write() as session:
            collection = registry.add_collection(session, "default", created_at=T0)
            segment = registry.add_segment(session, collection.id, {"rows": 64})
        yield House(path, catalog, collection.id, segment.id)


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
