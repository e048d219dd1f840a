"""What the tests of forgetting share: a clock, stores with something to forget, and a look at every read path."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

import memodb
from memodb import proof
from memodb.catalog import visibility

SECRET = "The lighthouse keeper's secret is that the third lamp was never lit before the war ended in May."
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """The time by which documents expire; it stands still until it is moved."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC) + timedelta(hours=1)  # documents are dated by the machine's own
        self.looks = 0
        self.jump: tuple[int, datetime] | None = None
        """At this look, and from then on, it is this time."""

    def time_ns(self) -> int:
        self.looks += 1
        if self.jump is not None and self.looks >= self.jump[0]:
            self.at = self.jump[1]
        return (self.at - EPOCH) // timedelta(microseconds=1) * 1000

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def after(self, seconds: float) -> datetime:
        return self.at + timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(visibility, "time", found)
    return found


@pytest.fixture(scope="session")
def secret() -> str:
    return SECRET


def _looking() -> Any:
    """The module beside this file: under ``--import-mode=importlib`` tests cannot import their neighbours."""
    spec = importlib.util.spec_from_file_location("erasure_looking", Path(__file__).with_name("looking.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def look() -> Callable[..., dict[str, Any]]:
    """See looking.py."""
    found: Callable[..., dict[str, Any]] = _looking().look
    return found


class Reader:
    """A process that has a store open for reading, and answers."""

    def __init__(self, path: Path, text: str, document_id: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("looking.py")), path, text, document_id],
            env={**os.environ, "PYTHONPATH": str(Path(memodb.__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def look(self, *, digest: bool = True) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("digest\n" if digest else "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the reader died: see its error output"
        return dict(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        if kind is None:
            assert self._process.returncode == 0


@pytest.fixture
def reader() -> Callable[[Path], Reader]:
    """Start a reader process that asks for the secret document."""

    def start(path: Path) -> Reader:
        return Reader(path, SECRET, "secret")

    return start


@pytest.fixture(scope="session")
def exact(fresh: Callable[..., memodb.Store]) -> Callable[..., memodb.Store]:
    """Open a store that recalls nothing false, so that what two of them answer can be compared."""

    def connect(path: Any = ":memory:", **settings: Any) -> memodb.Store:
        return fresh(path, **{"false_recall": 1e-9, **settings})

    return connect


@pytest.fixture(scope="session")
def filled(prose: Callable[..., str]) -> Callable[..., memodb.Store]:
    """Append what stays, and the secret document with whatever belongs to it; without it where told so."""

    def fill(db: memodb.Store, *, secret: bool = True, **provenance: Any) -> memodb.Store:
        records: list[dict[str, Any]] = [
            {"id": str(n), "text": prose(12, n), "source": "ordinary", "writer": "w"} for n in range(4)
        ]
        if secret:
            records.append({"id": "secret", "text": SECRET, "source": "letter", "subject": "keeper", **provenance})
        near = "Another writes that the third lamp was never lit, and many more lamps."
        db.append_many([*records, {"id": "near", "text": near, "source": "letter"}])
        return db

    return fill


@pytest.fixture(scope="session")
def never(
    exact: Callable[..., memodb.Store], filled: Callable[..., memodb.Store], look: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """What a store answers that never saw the secret document."""
    with exact() as db:
        return look(filled(db, secret=False), SECRET, "secret")


@pytest.fixture(scope="session")
def always(
    exact: Callable[..., memodb.Store], filled: Callable[..., memodb.Store], look: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """What a store answers that has it; without ``get``, which tells times and a random batch."""
    with exact() as db:
        found = look(filled(db), SECRET, "secret")
        assert found.pop("get")
        return found


@pytest.fixture(scope="session")
def valid() -> Callable[[memodb.Store, Any], dict[str, Any]]:
    """Check a receipt offline, as somebody would who has the store's public key; its statement."""

    def check(db: memodb.Store, receipt: Any) -> dict[str, Any]:
        verdict = proof.verify(json.dumps(receipt), public_key=db.public_key.encode())
        assert verdict.valid, verdict.problems
        assert verdict.trusted
        assert verdict.in_log == verdict.statement["verified"]
        return dict(verdict.statement)

    return check


@pytest.fixture
def anywhere() -> Callable[[Path], Iterator[bytes]]:
    """The bytes of every file below a path."""

    def files(path: Path) -> Iterator[bytes]:
        return (file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())

    return files
