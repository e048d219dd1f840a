"""What goes to stdout: JSON documents, exact texts, plain tables; and files that are replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

import click

__all__ = [
    "counted",
    "json_line",
    "pairs",
    "plain",
    "quoted",
    "replacing",
    "table",
    "write_bytes",
    "write_json",
    "write_text",
]


def json_line(value: Any) -> bytes:
    """A JSON value as one line of UTF-8, whatever the locale: that is JSON's own encoding.

    A lone surrogate, as in the name of a file that is no UTF-8, becomes the escape that JSON has for it.
    """
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def write_bytes(stream: IO[bytes], data: bytes) -> None:
    """Write all of it. With PYTHONUNBUFFERED stdout is a raw file, which may take a part and say how much."""
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]


def write_json(value: Any) -> None:
    """Print one JSON document."""
    _print(json_line(value))


def write_text(text: str, *, nl: bool = False) -> None:
    """Print a text as UTF-8, byte for byte as it is stored: neither line ends nor encoding are translated."""
    _print(text.encode() + (b"\n" if nl else b""))


def _print(data: bytes) -> None:
    sys.stdout.flush()  # what was printed as text comes first
    write_bytes(sys.stdout.buffer, data)
    sys.stdout.buffer.flush()


def plain(value: Any) -> str:
    """A value on one line of a table: control characters as escapes, so that no document can steer a terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 document, 2,000 documents."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def quoted(text: str) -> str:
    """A piece of text with its blanks visible."""
    return json.dumps(text, ensure_ascii=False)


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print aligned columns, those of numbers on the right; nothing at all where there are no rows."""
    values = [list(row) for row in rows]
    if not values:
        return
    right = [all(isinstance(row[at], int | float) for row in values) for at in range(len(headers))]
    cells = [list(headers), *([plain(value) for value in row] for row in values)]
    widths = [max(_width(row[at]) for row in cells) for at in range(len(headers))]
    for row in cells:
        padded = (
            " " * (width - _width(cell)) + cell if on_right else cell + " " * (width - _width(cell))
            for cell, width, on_right in zip(row, widths, right, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def pairs(values: Iterable[tuple[str, Any]]) -> None:
    """Print a name and a value a line."""
    lines = list(values)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:{width}}  {plain(value)}")


def _width(text: str) -> int:
    """Columns of a terminal: East Asian wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the path's place when the block ends, or nothing does if it raises.

    An export that is interrupted must not leave half a file where a whole one was. What is no regular file (a device,
    a named pipe) is written to directly. A new file is the user's alone: it holds the documents.
    """
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        with path.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))  # through a symbolic link, which stays
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
