"""Nothing that memodb reads is ever executed: no pickle, no eval, no hook; and pickles in every file do nothing."""

import ast
import contextlib
import hashlib
import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

import memodb
from memodb.proof.encoding import parse

PACKAGE = Path(memodb.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN_IMPORTS = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
    "code",
    "runpy",
    "msgpack_numpy",
    "yaml",
    "subprocess",
    "multiprocessing",
    "xmlrpc",
    "imp",
}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "execfile", "breakpoint"}
FORBIDDEN_WORDS = {
    "allow_pickle",
    "object_hook",
    "object_pairs_hook",
    "list_hook",
    "ext_hook",
    "load_extension",
    "enable_load_extension",
    "system",
    "popen",
    "execv",
    "execve",
    "fromregex",
    "loadtxt",
    "genfromtxt",
    "create_module",
}
ALLOWED = {
    "proof/encoding.py gives object_pairs_hook=": "to refuse a name that comes twice",
    "scanning.py imports subprocess": "to have memodb itself search a store, in a process that never saw the texts",
}


def offences(source: str, where: str) -> list[str]:
    """Uses of what turns data into code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"{where} imports {name}" for name in names if name.split(".")[0] in FORBIDDEN_IMPORTS]
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            found.append(f"{where} names {node.id}")
        elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_WORDS:
            found.append(f"{where} names .{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg in FORBIDDEN_WORDS:
            found.append(f"{where} gives {node.arg}=")
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("load", "loads")
        ):
            owner = ast.unparse(node.func.value)
            if owner != "json":
                found.append(f"{where} calls {owner}.{node.func.attr}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_turns_data_into_code(path: Path) -> None:
    assert set(offences(path.read_text(), str(path.relative_to(PACKAGE)))) <= ALLOWED.keys()
    assert "pickle" not in path.read_text()


def test_what_is_allowed_is_still_needed_and_does_what_is_said() -> None:
    found = [offence for path in MODULES for offence in offences(path.read_text(), str(path.relative_to(PACKAGE)))]
    assert sorted(found) == sorted(ALLOWED)
    with pytest.raises(memodb.InvalidInput, match="twice"):
        parse(b'{"a":1,"a":2}', limit=100)
    tree = ast.parse((PACKAGE / "scanning.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and "subprocess" in ast.unparse(node.func)]
    assert [ast.unparse(call.func) for call in calls] == ["subprocess.run"]
    assert all(keyword.arg not in ("shell", "executable") for call in calls for keyword in call.keywords)
    assert "command = [sys.executable, " in ast.unparse(tree)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "np.load(f)",
        "eval(x)",
        "msgpack.unpackb(x, object_hook=f)",
        "connection.enable_load_extension(True)",
        "os.system(x)",
        "import msgpack_numpy",
        "def f():\n    from subprocess import run",
        "__import__(x)",
        "marshal.loads(x)",
    ],
)
def test_an_offence_is_seen(source: str) -> None:
    assert offences(source, "x")


class Payload:
    """Leaves a mark wherever it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_the_payload_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def loaded(mark: Path) -> list[bytes]:
    """Pickles of every protocol, bare and as NumPy and zstd carry them."""
    bare = [pickle.dumps(Payload(mark), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    file = io.BytesIO()
    np.save(file, np.array([Payload(mark)], dtype=object), allow_pickle=True)
    return [bare[0], bare[-1], file.getvalue(), zstandard.ZstdCompressor().compress(bare[2])]


def test_pickles_in_every_place_do_nothing(specimen: Any, tmp_path: Path, covered: Callable[..., None]) -> None:
    """As every file, as a tile of the right name, as an array, and as every value of a row."""
    import sqlite3

    mark, cases = tmp_path / "mark", 0
    for number, payload in enumerate(loaded(mark)):
        for file in specimen.files():
            if number and file.name not in ("catalog.db", "tokenizer.json.zst", specimen.tile().name):
                continue
            path = specimen.copy(tmp_path / f"{number} {file.name}")
            (path / file).write_bytes(payload)
            verdict = specimen.judge(path, read_only=bool(number % 2))
            assert not verdict.untyped
            cases += 1
        path = specimen.copy(tmp_path / f"{number} tile")
        name = hashlib.sha256(payload).hexdigest()
        (path / "segments" / name).write_bytes(b"MEMODB\x02\n" + struct.pack("<I", len(payload)) + payload)
        specimen.name_tile(path, name, bytes(32))
        assert not specimen.judge(path).untyped
        path = specimen.copy(tmp_path / f"{number} row")
        with contextlib.closing(sqlite3.connect(path / "catalog.db")) as raw, raw:
            for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                raw.execute(f"DROP TRIGGER {trigger}")
            for column in ("tokens", "text", "metadata", "digest"):
                raw.execute(f"UPDATE document SET {column} = ? WHERE id = 'document 3'", (payload,))
        assert not specimen.judge(path).untyped
        with pytest.raises(memodb.InvalidConfiguration):
            memodb.Tokenizer.from_bytes(payload)
        cases += 3
    assert not mark.exists()
    covered(cases=cases)


def test_a_search_runs_nothing_that_lies_in_the_store(
    specimen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan is another Python, which would look for modules where it is started: in the store, for who works there."""
    path, mark = specimen.copy(tmp_path / "s"), tmp_path / "mark"
    for name in ("json", "sqlite3", "numpy", "memodb"):
        (path / f"{name}.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    monkeypatch.chdir(path)
    with memodb.connect(".") as db:
        receipt = db.delete("document 7", scan=True)
    assert not mark.exists()
    assert receipt.verified
