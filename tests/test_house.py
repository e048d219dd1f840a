"""The house: who may import whom, what is public, and what `import memodb` costs."""

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import memodb
from memodb import errors

PACKAGE = Path(memodb.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LINES = 500

LEVELS = {
    "errors": 0,
    "catalog": 1,
    "storage": 1,
    "memory": 1,
    "proof": 1,
    "text": 1,
    "collection": 2,
    "recall": 3,
    "provenance": 3,
    "erasure": 3,
    "backup": 4,
    "ledger": 4,
    "cipher": 0,
    "connecting": 4,
    "governance": 4,
    "opening": 4,
    "scanning": 4,
    "statistics": 4,
    "store": 4,
    "": 5,  # memodb/__init__.py: exports
    "cli": 6,
    "__main__": 7,
}
APART = {1, 3}
"""Levels whose rooms never import each other."""

PUBLIC = [
    "AppendResult",
    "BackendUnavailable",
    "Backup",
    "Candidate",
    "CheckReport",
    "CollectionInfo",
    "CollectionNotFound",
    "Completion",
    "Conflict",
    "CorruptStore",
    "DiskFull",
    "Document",
    "DocumentExists",
    "DocumentNotFound",
    "EmptySelection",
    "Erasure",
    "Hold",
    "InvalidConfiguration",
    "InvalidInput",
    "InvalidText",
    "KeyService",
    "LedgerMissing",
    "Lookup",
    "MAX_TEXT_CHARACTERS",
    "MemodbError",
    "NotFound",
    "OutOfMemory",
    "ReadOnlyStore",
    "Receipt",
    "Record",
    "SchemaTooNew",
    "Score",
    "Source",
    "Span",
    "Statistics",
    "Step",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreLocked",
    "StoreMismatch",
    "StoreNotFound",
    "Suppressed",
    "SyncFailed",
    "TokenScore",
    "Tokenizer",
    "Transaction",
    "__version__",
    "connect",
    "restore",
]


def room(name: str) -> str:
    """The room of a dotted module name: ``memodb.catalog.codec`` is in ``catalog``."""
    return [*name.split("."), ""][1]


def imports(source: str, module: str, *, is_package: bool) -> Iterator[str]:
    """Dotted names of the memodb modules that a module imports, wherever in it."""
    parts = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "memodb")
        elif isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) - node.level + is_package] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            if name == "memodb":
                yield from (f"memodb.{a.name}" if a.name in LEVELS else "memodb" for a in node.names)
            elif name.startswith("memodb."):
                yield name


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    own = room(module)
    found = []
    for target in imports(source, module, is_package=is_package):
        other = room(target)
        if own == other:
            continue
        if LEVELS[other] > LEVELS[own] or (LEVELS[other] == LEVELS[own] and LEVELS[own] in APART):
            found.append(f"{module} imports {target}")
    return found


def dotted(path: Path) -> str:
    parts = ["memodb", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_downwards(path: Path) -> None:
    assert room(dotted(path)) in LEVELS, "a new room: give it a place in LEVELS and in docs/architecture.md"
    assert violations(dotted(path), path.read_text(), is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("memodb.catalog.codec", "from memodb.text import Tokenizer"),
        ("memodb.memory.codes", "import memodb.storage"),
        ("memodb.text.tokenizer", "def f():\n    from memodb.store import Store"),
        ("memodb.collection.layout", "from memodb import erasure"),
        ("memodb.recall.answers", "from ..provenance import trace"),
        ("memodb.erasure.deletion", "import memodb"),
        ("memodb.errors", "from .catalog import registry"),
        ("memodb.store", "from memodb.cli import main"),
    ],
)
def test_a_forbidden_import_is_seen(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


def test_modules_stay_readable_in_one_sitting() -> None:
    lengths = {dotted(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > LINES} == {}


def test_all_is_pinned() -> None:
    assert sorted(memodb.__all__) == PUBLIC
    assert all(hasattr(memodb, name) for name in memodb.__all__)


def described(thing: object) -> bool:
    """Whether it has a docstring that somebody wrote: a dataclass gets its signature as one, a class may inherit."""
    text = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    return bool(text) and not (isinstance(thing, type) and text.startswith(f"{thing.__name__}("))


def test_every_public_thing_says_what_it_is() -> None:
    bare = []
    for name in memodb.__all__:
        thing = getattr(memodb, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            bare += [] if described(thing) else [name]
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                value = value.fget if isinstance(value, property) else inspect.unwrap(getattr(value, "__func__", value))
                own = inspect.isfunction(value) and value.__module__.startswith("memodb")
                if own and not member.startswith("_") and not described(value) and member != "of":
                    bare.append(f"{name}.{member}")
    assert bare == []


@dataclasses.dataclass
class _Bare:
    x: int


def test_a_missing_docstring_is_seen() -> None:
    assert not described(_Bare)


def test_the_drawn_error_tree_is_the_real_one() -> None:
    drawn: dict[str, tuple[str, ...]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?: \((\w+)\))?", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = (*path[-2:-1], *([found[3]] if found[3] else []))
    real = {
        name: tuple(base.__name__ for base in vars(errors)[name].__bases__ if base is not Exception)
        for name in errors.__all__
    }
    assert drawn == real
    public = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert public == set(errors.__all__)


def test_importing_memodb_is_light(in_process: Callable[..., str]) -> None:
    said = in_process(
        "import sys, memodb\n"
        "from memodb.text import tokenizer\n"
        "heavy = 'click cupy alembic matplotlib numba tokenizers torch'.split()\n"
        "print([name for name in heavy if name in sys.modules], tokenizer._shipped.cache_info().currsize)"
    )
    assert said.strip() == "[] 0"
