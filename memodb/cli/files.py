"""What `import` reads: files found under paths, and the records in them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias

from memodb.cli.inputs import decoded, read_text
from memodb.errors import InvalidInput, InvalidText, MemodbError

if TYPE_CHECKING:
    import memodb

__all__ = ["STDIN", "Format", "Found", "Reader", "Skipped", "find"]

Format: TypeAlias = Literal["auto", "text", "jsonl"]
STDIN: Final = "-"
_JSONL_ENDINGS: Final = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Skipped:
    """A file that was not imported, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Found:
    """A file to read: its path (None: stdin), how it is called in messages and ids, and its size in bytes."""

    path: Path | None
    name: str
    size: int
    is_jsonl: bool


def find(
    paths: Sequence[str],
    *,
    globs: Sequence[str],
    format: Format,  # noqa: A002
    hidden: bool,
    root: Path,
    store: Path,
    skip: Callable[[Skipped], None],
) -> Iterator[Found]:
    """The files under the paths, in the order of the paths and then of their names.

    Parameters
    ----------
    globs : sequence of str
        Patterns, of which a file in a directory must match one; a file that is named itself is always taken.
    hidden : bool
        Take what begins with a dot in directories too.
    root : Path
        Files are called by their path relative to it; those outside by their absolute path.
    store : Path
        Passed over where a walk meets it.
    skip : callable
        Told of everything that cannot be read.
    """
    for path in paths:
        if path == STDIN:
            yield Found(None, "stdin", 0, True)
            continue
        start = Path(path)
        for file in _walk(start, globs, hidden, store, skip) if start.is_dir() else (start,):
            try:
                size = file.stat().st_size
            except OSError as exc:
                skip(Skipped(str(file), exc.strerror or str(exc)))
                continue
            if start.is_dir() and not file.is_file():
                # A pipe or device that a walk happens on would block or never end; one that is named is meant.
                skip(Skipped(str(file), "not a regular file"))
                continue
            is_jsonl = format == "jsonl" or (format == "auto" and file.suffix.lower() in _JSONL_ENDINGS)
            yield Found(file, _called(file, root), size, is_jsonl)


def _walk(
    start: Path, globs: Sequence[str], hidden: bool, store: Path, skip: Callable[[Skipped], None]
) -> Iterator[Path]:
    def failed(exc: OSError) -> None:
        skip(Skipped(os.fsdecode(exc.filename), exc.strerror or str(exc)))

    for folder, folders, names in os.walk(start, onerror=failed):
        here = Path(folder)
        folders[:] = sorted(f for f in folders if (hidden or not f.startswith(".")) and not _same(here / f, store))
        for name in sorted(names):
            inside = (here / name).relative_to(start)
            if (hidden or not name.startswith(".")) and (not globs or any(inside.match(glob) for glob in globs)):
                yield here / name


def _same(path: Path, other: Path) -> bool:
    return path.name == other.name and path.samefile(other)


def _called(file: Path, root: Path) -> str:
    """The file's path relative to the root, lexically (a symbolic link keeps its own name), with forward slashes."""
    whole, base = (PurePath(os.path.normpath(Path.cwd() / path)) for path in (file, root))
    return (whole.relative_to(base) if whole.is_relative_to(base) else whole).as_posix()


@dataclass
class Reader:
    """The records of files, one after the other.

    A text file that cannot be taken is skipped. JSON lines that cannot be taken end the reading, with ``failure`` set:
    raised out of the iteration it would keep the records before it, which `append_many` holds for its next batch, from
    being stored.

    Parameters
    ----------
    files : iterator of Found
    id_prefix : str
        Put before the id of every record that has one.
    provenance : mapping
        What a record does not say itself.
    skip : callable
        Told of every skipped file.
    advance : callable
        Told of bytes read.
    """

    files: Sequence[Found]
    id_prefix: str
    provenance: Mapping[str, Any]
    skip: Callable[[Skipped], None]
    advance: Callable[[int], None]
    failure: MemodbError | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[memodb.Record]:
        for file in self.files:
            if file.is_jsonl:
                try:
                    yield from self._lines(file)
                except MemodbError as exc:
                    self.failure = exc
                    return
            elif (record := self._text(file)) is not None:
                yield record

    def _text(self, file: Found) -> memodb.Record | None:
        from memodb import Record

        path = Path(file.name) if file.path is None else file.path
        try:
            with path.open("rb") as stream:
                text = read_text(stream, "it")
            document_id = self.id_prefix + file.name
            document_id.encode()
        except InvalidText as exc:
            self.skip(Skipped(str(path), str(exc)))
            return None
        except UnicodeEncodeError:
            self.skip(Skipped(str(path), "its name is not UTF-8, so it cannot be an id"))
            return None
        except OSError as exc:
            self.skip(Skipped(str(path), exc.strerror or str(exc)))
            return None
        finally:
            self.advance(file.size)
        return Record(text, id=document_id, **self.provenance)

    def _lines(self, file: Found) -> Iterator[memodb.Record]:
        if file.path is None:
            yield from self._records(file, sys.stdin.buffer)
            return
        try:
            stream = file.path.open("rb")
        except OSError as exc:
            self.skip(Skipped(str(file.path), exc.strerror or str(exc)))
            return
        with stream:
            yield from self._records(file, stream)

    def _records(self, file: Found, stream: BinaryIO) -> Iterator[memodb.Record]:
        for number, line in enumerate(stream, start=1):
            self.advance(len(line))
            where = f"{file.name} line {number}"
            data = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if data.strip():
                yield self._record(decoded(data, where), where)

    def _record(self, line: str, where: str) -> memodb.Record:
        from memodb import Record

        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise InvalidInput(f"{where} is not JSON: {exc}") from exc
        if not isinstance(value, dict):
            raise InvalidInput(f"{where} is no JSON object: {line.strip():.80}")
        given = {**self.provenance} | {key: item for key, item in value.items() if item is not None}
        if isinstance(given.get("id"), str):
            given["id"] = self.id_prefix + given["id"]
        try:
            return Record.of(given)
        except InvalidInput as exc:
            raise type(exc)(f"{where}: {exc}") from exc
