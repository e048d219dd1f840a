"""The token stream: real text that every machine has, in documents of about 1,000 tokens.

The standard library's modules, cut at ends of lines, in an order drawn from a seed; some 9 million tokens. Where more
is asked for, the packages installed beside it follow. Each document is tokenised once, with memodb's shipped tokenizer:
peers are given the ids, memodb the text where the figure says so.
"""

from __future__ import annotations

import hashlib
import os
import random
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import memodb

__all__ = ["END", "SEED", "Document", "Stream", "pairs", "read"]

SEED = 6
CHARACTERS = 3200
"""Of a document: about 1,000 tokens of Python source."""

END = memodb.Tokenizer.shipped().vocabulary_size
"""What follows a document's last token: the id that memodb answers there, and no token's."""

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Document:
    """A text with its token ids, int32 (n,)."""

    text: str
    ids: Ids


@dataclass(frozen=True)
class Stream:
    """Documents to store, and further ones of the same kind that are not stored yet."""

    stored: tuple[Document, ...]
    spare: tuple[Document, ...]

    @property
    def tokens(self) -> int:
        """Of the stored documents."""
        return sum(document.ids.size for document in self.stored)

    def describe(self) -> str:
        """What it is, with a digest by which two runs can be seen to have had the same."""
        digest = hashlib.sha256(b"".join(document.ids.tobytes() for document in self.stored)).hexdigest()[:12]
        return (
            f"the installed Python's sources, {len(self.stored):,} documents, {self.tokens:,} tokens, seed {SEED}, "
            f"SHA-256 of the ids {digest}…"
        )


def read(tokens: int, spare: int = 0) -> Stream:
    """So many tokens in whole documents, and so many documents beside them.

    Parameters
    ----------
    tokens : int
        At least so many are stored.
    spare : int

    Raises
    ------
    SystemExit
        There is not so much text on this machine.
    """
    tokenizer = memodb.Tokenizer.shipped()
    stored: list[Document] = []
    further: list[Document] = []
    held = 0
    for texts in _groups(_pieces(), 256):
        for text, ids in zip(texts, tokenizer.encode_many(texts), strict=True):
            if held < tokens:
                stored.append(Document(text, ids))
                held += ids.size
            elif len(further) < spare:
                further.append(Document(text, ids))
        if held >= tokens and len(further) >= spare:
            return Stream(tuple(stored), tuple(further))
    raise SystemExit(f"this machine has {held:,} tokens of Python sources, which are fewer than were asked for")


def _groups(pieces: Iterator[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for piece in pieces:
        group.append(piece)
        if len(group) == size:
            yield group
            group = []
    yield group


def _pieces() -> Iterator[str]:
    """The library's pieces, shuffled; then those of installed packages, shuffled among themselves."""
    for packages in (False, True):
        found = [piece for path in _modules(packages) for piece in _cut(path)]
        random.Random(SEED).shuffle(found)
        yield from found


def _modules(packages: bool) -> list[Path]:
    """Sources by path: of installed packages, or of the library without them."""
    root = sysconfig.get_path("purelib" if packages else "stdlib")
    found = []
    for folder, below, files in os.walk(root):
        if not packages:
            below[:] = [name for name in below if name not in ("site-packages", "dist-packages")]
        found += [Path(folder) / name for name in files if name.endswith(".py")]
    return sorted(found)


def _cut(path: Path) -> Iterator[str]:
    """A file's text in pieces of about ``CHARACTERS``, whole lines; a short rest is left out."""
    try:
        lines = path.read_text("utf-8").splitlines(keepends=True)
    except (UnicodeDecodeError, OSError):  # some files of the library's tests are not UTF-8 on purpose
        return
    piece: list[str] = []
    length = 0
    for line in lines:
        piece.append(line)
        length += len(line)
        if length >= CHARACTERS:
            if length < 2 * CHARACTERS:  # one with an endless line is no text
                yield "".join(piece)
            piece, length = [], 0


def pairs(documents: Sequence[Document], length: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Every context of ``length`` tokens that lies whole in a document, and the token after it or ``END``.

    Returns
    -------
    contexts, following : uint16 (n, length), uint16 (n,)
    """
    flat = np.concatenate([np.append(document.ids, END) for document in documents]).astype(np.uint16)
    owner = np.repeat(np.arange(len(documents)), [document.ids.size + 1 for document in documents])
    if flat.size <= length:
        return np.zeros((0, length), np.uint16), np.zeros(0, np.uint16)
    inside = np.flatnonzero(owner[:-length] == owner[length:])
    return np.lib.stride_tricks.sliding_window_view(flat, length)[inside], flat[inside + length]
