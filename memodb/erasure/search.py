"""Searching bytes for texts, in every encoding in which a text might lie there, by each 12 bytes of it.

Each 12 bytes, because a page that was reused leaves only a piece. That nothing is found is only worth something if
something would have been: the same search has to find the texts where they were planted, in every encoding.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import zstandard

from memodb.catalog.codec import decode_text, decode_tokens, encode_text, encode_tokens
from memodb.errors import CorruptStore, InvalidText, StoreError
from memodb.text import Tokenizer

__all__ = [
    "ENCODINGS",
    "Hit",
    "Needles",
    "frames",
    "require_control",
    "search_files",
    "search_rows",
    "temporary_places",
]

WINDOW: Final = 12
"""Bytes that must agree: 96 bits, so that chance finds nothing in all the storage there is."""

_TELLING: Final = 5
"""Different bytes in a window; one of fewer (blanks, zeros, a rule of dashes) is everywhere and tells nothing."""

_LONGEST: Final = 1 << 15
"""Characters of a text: each of its bytes begins a window, in each encoding."""

_CHUNK: Final = 1 << 24
_DECODED: Final = 1 << 28
_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_MIX: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))

Words = npt.NDArray[np.uint64]


def _json(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()


def _base64(offset: int) -> Callable[[str], bytes]:
    """What a text looks like inside of base64 that began so many bytes before it."""
    # the first and last characters also depend on the neighbours
    return lambda text: base64.b64encode(bytes(offset) + text.encode()).rstrip(b"=")[2 * (offset > 0) + offset : -1]


ENCODINGS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "utf-8": str.encode,
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "hex": lambda text: text.encode().hex().encode(),
    "HEX": lambda text: text.encode().hex().upper().encode(),
    "base64+0": _base64(0),
    "base64+1": _base64(1),
    "base64+2": _base64(2),
    "json": _json,
}
"""Name to the bytes that a text is in it; :class:`Needles` adds those that need the store's tokenizer."""


@dataclass(frozen=True)
class Hit:
    """A run of bytes that a searched text has too.

    Parameters
    ----------
    place : str
        File, or row and column.
    offset : int
        In the file, or in what was decoded there.
    nbytes : int
    encoding : str
    shared : bool
        It also occurs in a live document, or in the tokenizer: it need not be what was searched for.
    found : bytes
    """

    place: str
    offset: int
    nbytes: int
    encoding: str
    shared: bool = False
    found: bytes = b""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; what was found is left out, since a report is kept longer than a text may be."""
        return {name: value for name, value in asdict(self).items() if name != "found"}


class Needles:
    """Every telling window of some texts, in every encoding.

    Parameters
    ----------
    texts : strings
    tokenizer : Tokenizer, optional
        Of the store: adds token ids in 2 and 4 bytes, and the compressed forms in which a catalog keeps tokens and
        texts.

    Raises
    ------
    InvalidText
        A text is too short, or too uniform, for its occurrence to mean anything.
    """

    def __init__(self, texts: Iterable[str], tokenizer: Tokenizer | None) -> None:
        self.texts = tuple(texts)
        self.windows: dict[bytes, str] = {}
        encodings = dict(ENCODINGS)
        if tokenizer is not None:
            encodings["tokens, 2 bytes"] = lambda text: tokenizer.encode(text).astype("<u2").tobytes()
            encodings["tokens, 4 bytes"] = lambda text: tokenizer.encode(text).astype("<u4").tobytes()
            encodings["tokens as stored"] = lambda text: encode_tokens(tokenizer.encode(text))
            encodings["text as stored"] = encode_text
        self.encodings = encodings
        for text in self.texts:
            if len(text) > _LONGEST:
                raise InvalidText(
                    f"a text of {len(text)} characters is too long to search for: take {_LONGEST} of them"
                )
            if not any(True for _ in _windows(text.encode())):
                raise InvalidText(f"{text[:40]!r} is too short or too uniform: it could be anywhere by chance")
            for name, encode in encodings.items():
                for window in _windows(encode(text)):
                    self.windows.setdefault(window, name)
        self._hashes = np.unique(_hashes(b"".join(self.windows))[::WINDOW]) if self.windows else np.zeros(0, np.uint64)

    def search(self, place: str, data: bytes, start: int = 0) -> Iterator[Hit]:
        """Runs of windows in some bytes; ``start`` is where they begin at their place."""
        if len(data) < WINDOW:
            return
        hashes = _hashes(data)
        nearest = np.minimum(np.searchsorted(self._hashes, hashes), self._hashes.size - 1)
        run: tuple[int, int, str] | None = None
        for at in np.flatnonzero(self._hashes[nearest] == hashes).tolist():
            name = self.windows.get(data[at : at + WINDOW])
            if name is None:
                continue
            if run is not None and at <= run[1] and name == run[2]:
                run = (run[0], at + WINDOW, name)
                continue
            if run is not None:
                yield Hit(place, start + run[0], run[1] - run[0], run[2], found=data[run[0] : run[1]])
            run = (at, at + WINDOW, name)
        if run is not None:
            yield Hit(place, start + run[0], run[1] - run[0], run[2], found=data[run[0] : run[1]])


def _windows(data: bytes) -> Iterator[bytes]:
    for at in range(len(data) - WINDOW + 1):
        window = data[at : at + WINDOW]
        if len(set(window)) >= _TELLING:
            yield window


def _hashes(data: bytes) -> Words:
    """A hash of the 12 bytes at every offset, uint64 (n - 11,): from the 8 bytes there, and the 8 bytes 4 further."""
    padded = data + bytes(8)
    words = np.empty(len(data) - 7, dtype=np.uint64)
    for shift in range(8):
        piece = np.frombuffer(padded, dtype="<u8", offset=shift, count=(len(padded) - shift) // 8)
        lane = words[shift::8]
        lane[:] = piece[: lane.size]
    return words[:-4] * _MIX[0] + words[4:] * _MIX[1]


def search_files(needles: Needles, paths: Iterable[Path]) -> tuple[int, int, list[Hit]]:
    """Search files as bytes, and what every zstd frame in them decodes to.

    Returns
    -------
    files, nbytes : int
    hits : list of Hit

    Raises
    ------
    StoreError
        A file cannot be read: what was not looked at must not be called clean.
    """
    files = nbytes = 0
    hits: list[Hit] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                before, start = b"", 0
                while chunk := file.read(_CHUNK):
                    data = before + chunk
                    hits += needles.search(str(path), data, start - len(before))
                    before, start = data[-(WINDOW - 1) :], start + len(chunk)
            nbytes += start
            files += 1
            for offset, decoded in frames(path):
                hits += needles.search(f"{path}, zstd frame at {offset}", decoded)
                nbytes += len(decoded)
        except FileNotFoundError:
            continue  # superseded while the list was read
        except OSError as exc:
            raise StoreError(f"{path} cannot be searched: {exc}") from exc
    return files, nbytes, hits


def frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """What each thing that looks like a zstd frame decodes to, as far as it does."""
    data = path.read_bytes()
    at = data.find(_MAGIC)
    while at >= 0:
        decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        decoded = bytearray()
        try:
            for part in range(at, len(data), 1 << 16):
                decoded += decoder.decompress(data[part : part + (1 << 16)])
                if decoder.eof or len(decoded) > _DECODED:
                    break
        except zstandard.ZstdError:
            pass  # by chance, or the rest of it was overwritten
        if decoded:
            yield at, bytes(decoded)
        at = data.find(_MAGIC, at + 1)


def search_rows(needles: Needles, catalog: Path) -> Iterator[Hit]:
    """Search every value of every table, decoded: one that spans several pages is in no run of a file's bytes.

    Raises
    ------
    CorruptStore
        SQLite cannot read the file.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(os.fsencode(catalog.absolute()))}?mode=ro", uri=True)
        ) as raw:
            raw.text_factory = bytes
            tables = [name.decode() for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                rows = raw.execute(f'SELECT * FROM "{table}"')
                names = [column[0] for column in rows.description]
                for number, row in enumerate(rows):
                    for name, value in zip(names, row, strict=True):
                        if isinstance(value, bytes):
                            for data in (value, *_decoded(value)):
                                yield from needles.search(f"{catalog}, row {number} of {table}, {name}", data)
    except sqlite3.Error as exc:
        raise CorruptStore(f"the rows of {catalog} cannot be searched: {exc}") from exc


def _decoded(value: bytes) -> list[bytes]:
    found = []
    with contextlib.suppress(CorruptStore):
        found.append(decode_tokens(value).astype("<u4").tobytes())
    with contextlib.suppress(CorruptStore):
        found.append(decode_text(value).encode())
    return found


def temporary_places(store: Path) -> list[Path]:
    """Files beside a store and in SQLite's temporary directories that hold what a store's process wrote there."""
    found = [path for path in store.absolute().parent.glob("*.tmp") if path.name.startswith(store.name + ".")]
    places = {os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), tempfile.gettempdir(), "/var/tmp", "/tmp"}
    for place in sorted(filter(None, places)):
        found += Path(place).glob("etilqs_*")
    return [file for path in found for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]


def require_control(needles: Needles) -> int:
    """Plant the texts in every encoding, and search: what would not have been found was not looked for.

    Returns
    -------
    int
        Plants, each of which was found.

    Raises
    ------
    StoreError
        An encoding was not found where it was planted.
    """
    plants = 0
    with tempfile.TemporaryDirectory() as place:
        for number, (name, encode) in enumerate(needles.encodings.items()):
            for text in needles.texts:
                data = encode(text)
                expected = _covered(
                    at for at in range(len(data)) if any(True for _ in _windows(data[at : at + WINDOW]))
                )
                planted = Path(place) / str(number)
                planted.write_bytes(bytes(1000) + data + bytes(1000))
                packed = Path(place) / f"{number} packed"
                packed.write_bytes(bytes(100) + zstandard.ZstdCompressor().compress(bytes(1000) + data))
                for path in (planted, packed):
                    found: set[int] = set()
                    for hit in search_files(needles, [path])[2]:
                        found.update(range(hit.offset - 1000, hit.offset - 1000 + hit.nbytes))
                    if not expected <= found:
                        raise StoreError(f"the search does not find {name} where it was planted: do not believe it")
                    plants += 1
    return plants


def _covered(starts: Iterable[int]) -> set[int]:
    """Bytes that lie in windows with these starts."""
    return {start + byte for start in starts for byte in range(WINDOW)}
