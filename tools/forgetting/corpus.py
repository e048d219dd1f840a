"""The real text that is stored, forgotten, and never seen: the installed Python's docstrings and modules.

No network. Who is stored, forgotten or never seen is drawn at random from one pool, so that nothing but having been
stored tells the groups apart: an attack that separates forgotten from never-seen texts has found a trace.
"""

from __future__ import annotations

import ast
import os
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import memodb

__all__ = ["Canary", "Split", "canaries", "docstrings", "identified", "pieces", "sources", "split"]

LEAST, MOST = 160, 20_000
"""Characters of a docstring that is taken: shorter ones say little, longer ones do not fit a search's needles."""

_APART = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}


@dataclass(frozen=True)
class Canary:
    """A made-up sentence whose end nobody could guess (Carlini, Liu, Erlingsson, Kos and Song, "The secret sharer",
    2019)."""

    prompt: str
    secret: str

    @property
    def text(self) -> str:
        return self.prompt + self.secret


@dataclass(frozen=True)
class Split:
    """Texts by id: kept, deleted, and never stored."""

    live: dict[str, str]
    forgotten: dict[str, str]
    never: dict[str, str]


def sources(seed: int) -> Iterator[str]:
    """Texts of the standard library's modules, without its tests, in an order of the seed."""
    paths = _modules()
    random.Random(seed).shuffle(paths)
    for path in paths:
        try:
            yield path.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue


def _modules() -> list[Path]:
    found = []
    for folder, below, files in os.walk(sysconfig.get_path("stdlib")):
        below[:] = [name for name in below if name not in _APART]  # not even looked into: packages may be many
        found += [Path(folder) / name for name in files if name.endswith(".py")]
    return sorted(found)


def docstrings(seed: int, limit: int | None = None) -> list[str]:
    """Distinct docstrings of the library, as they are written, in an order of the seed."""
    found: dict[str, None] = {}
    for text in sources(seed):
        if limit is not None and len(found) >= limit:
            break
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                said = ast.get_docstring(node) or ""
                if LEAST <= len(said) <= MOST:
                    found.setdefault(said)
    texts = list(found)
    random.Random(seed).shuffle(texts)
    return texts[:limit]


def identified(prefix: str, texts: list[str]) -> dict[str, str]:
    """Texts by opaque ids, which say nothing of what is in them."""
    return {f"{prefix}{number}": text for number, text in enumerate(texts)}


def split(texts: list[str], count: int) -> Split:
    """The first ``count`` texts are forgotten, as many never stored, the others kept."""
    if len(texts) < 3 * count:
        raise ValueError(f"{len(texts)} docstrings are too few to forget {count}, keep more, and never store {count}")
    return Split(
        identified("k", texts[2 * count :]),
        identified("f", texts[:count]),
        identified("n", texts[count : 2 * count]),
    )


def canaries(count: int, seed: int) -> list[Canary]:
    """Sentences of invented words, each ending in a secret number of 16 digits."""
    draw = random.Random(seed)

    def word() -> str:
        return "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(draw.randint(2, 4)))

    return [
        Canary(
            f"{word().title()} {word().title()} of {word().title()} keeps the {word()} key under the number",
            " " + " ".join(f"{draw.randrange(10_000):04d}" for _ in range(4)),
        )
        for _ in range(count)
    ]


def pieces(tokenizer: memodb.Tokenizer, length: int, seed: int) -> Iterator[str]:
    """Texts of about ``length`` tokens each, cut from the modules one after another."""
    held: list[int] = []
    for text in sources(seed):
        if not text.isascii():  # elsewhere a token may end inside a character
            continue
        held += tokenizer.encode(text).tolist()
        while len(held) >= length:
            yield tokenizer.decode(held[:length])
            held = held[length:]
