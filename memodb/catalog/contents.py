"""What documents say, as it lies in the catalog: packed, then encrypted under a key of each document's own.

Destroying a document's key makes every copy of its row unreadable, wherever a device, a snapshot or a journal kept one.
Provenance is not encrypted: it is searched by, and goes with the row. Keys are created before the commit that names
them and destroyed after the commit that removes it, so that a crash leaves keys without documents, never the reverse.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from memodb.catalog.codec import decode_text, decode_tokens, encode_text, encode_tokens
from memodb.catalog.execution import chunks
from memodb.catalog.models import TABLES, Document
from memodb.catalog.seals import broken
from memodb.cipher import KeyService, decrypt, encrypt
from memodb.errors import CorruptStore, StoreError

__all__ = ["KEYS", "NAMED_TOKENS", "TOKENS", "damaged", "intact", "lock", "lock_packed", "opened", "service"]

KEYS: Final = "memodb_keys"
"""Where a session carries its key service."""

_TOKENS, _TEXT = 1, 2
"""The numbers of AES-GCM: a key encrypts these two things, once each."""

_AT_A_TIME = 64

TOKENS: Final = (
    Document.id,
    Document.place,
    Document.key,
    sa.type_coerce(Document.tokens, sa.types.NULLTYPE).label("tokens"),
    broken(TABLES["document"]).label("damaged"),
)
"""What `intact` needs of a row."""

NAMED_TOKENS: Final = (
    *TOKENS[:-1],
    sa.case((Document.expires_at.is_(None), False), else_=broken(TABLES["document"])).label("damaged"),
)
"""As `TOKENS`, for whoever knows which id a row key stands for. The key is authenticated with the tokens, so that what
is left to the seal, which takes longer than to decrypt them, is the expiry; that a row has none, or no text of its own
(SQLite's NULL), is believed until `check`."""

Content = tuple[npt.NDArray[np.integer], str | None]


def service(session: Session) -> KeyService:
    """The key service of the session's catalog.

    Raises
    ------
    StoreError
        The catalog was opened without one.
    """
    keys = session.info.get(KEYS)
    if keys is None:
        raise StoreError("the catalog was opened without its keys: no document's content can be read or written")
    return keys  # type: ignore[no-any-return]  # a session's info is untyped


def lock(keys: KeyService, places: Sequence[int], contents: Iterable[Content]) -> list[dict[str, Any]]:
    """The columns ``key``, ``tokens`` and ``text`` of new documents, each under a new key that is durable.

    Raises
    ------
    InvalidInput
        Tokens or text that cannot be stored.
    DiskFull, StoreError
        There is no place for the keys.
    """
    packed = [(encode_tokens(tokens), None if text is None else encode_text(text)) for tokens, text in contents]
    return lock_packed(keys, places, packed)


def lock_packed(
    keys: KeyService, places: Sequence[int], packed: Sequence[tuple[bytes, bytes | None]]
) -> list[dict[str, Any]]:
    """As :func:`lock`, of tokens and texts that are packed already."""
    names = keys.create(len(packed))
    rows = []
    for name, key, place, (tokens, text) in zip(names, keys.read(names), places, packed, strict=True):
        if key is None:
            raise StoreError("the key service does not have a key that it just made: nothing was stored")
        about = _about(place)
        rows.append(
            {
                "key": name,
                "tokens": encrypt(key, _TOKENS, tokens, about),
                "text": None if text is None else encrypt(key, _TEXT, text, about),
            }
        )
    return rows


def opened(
    session: Session, rows: Iterable[Any]
) -> Iterator[tuple[Any, npt.NDArray[np.int32] | CorruptStore, str | CorruptStore | None]]:
    """Rows with their tokens and texts, in their order, a few at a time in memory; an error in the place of a value
    that cannot be read, so that the caller decides what one damaged row means for the others.

    Parameters
    ----------
    rows : rows with the attributes ``place``, ``key``, ``tokens`` and ``text``
        As SQLite stores them; ``tokens`` or ``text`` may be missing from the query.
    """
    keys = service(session)
    for part in chunks(rows, _AT_A_TIME):
        fields = part[0]._fields
        read = [(_tokens_of if "tokens" in fields else _nothing), (_text_of if "text" in fields else _nothing)]
        for row, key in zip(part, _keys(keys, [row.key for row in part]), strict=True):
            tokens, text = (_attempt(each, key, row) for each in read)
            yield row, tokens, text


def intact(session: Session, rows: Iterable[Any]) -> Iterator[tuple[Any, npt.NDArray[np.int32]]]:
    """Rows of `TOKENS`, or of `NAMED_TOKENS`, with their tokens, once it is known that they are as they were written.

    Raises
    ------
    CorruptStore
        A row is not as it was written, its key is gone, or its array does not decode.
    """
    keys = service(session)
    for part in chunks(rows, _AT_A_TIME):
        for row, key in zip(part, _keys(keys, [row.key for row in part]), strict=True):
            if row.damaged:
                raise damaged(row)
            tokens = _attempt(_tokens_of, key, row)
            if isinstance(tokens, CorruptStore):
                raise damaged(row) from tokens
            yield row, tokens


def damaged(row: Any) -> CorruptStore:
    """What is to be raised about a document's row."""
    return CorruptStore(f"the row of document {row.id!r} is damaged: run `memodb check`")


def _keys(keys: KeyService, names: list[Any]) -> list[bytes | CorruptStore | None]:
    sound = [name if isinstance(name, bytes) else b"" for name in names]
    try:
        return list(keys.read(sound))
    except CorruptStore:  # one of them: which?
        found: list[bytes | CorruptStore | None] = []
        for name in sound:
            try:
                found += keys.read([name])
            except CorruptStore as exc:
                found.append(exc)
        return found


def _attempt(read: Any, key: bytes | CorruptStore | None, row: Any) -> Any:
    try:
        if isinstance(key, CorruptStore):
            raise key
        return read(key, row)
    except CorruptStore as exc:
        return exc


def _tokens_of(key: bytes | None, row: Any) -> npt.NDArray[np.int32]:
    return decode_tokens(_decrypted(key, _TOKENS, row, row.tokens))


def _nothing(key: bytes | None, row: Any) -> None:
    """Of a column that the query does not have."""


def _text_of(key: bytes | None, row: Any) -> str | None:
    return None if row.text is None else decode_text(_decrypted(key, _TEXT, row, row.text))


def _decrypted(key: bytes | None, number: int, row: Any, stored: Any) -> bytes:
    if key is None:
        raise CorruptStore("its key was destroyed or lost: it cannot be read any more")
    if not isinstance(stored, bytes):
        raise CorruptStore("a stored document is damaged: its bytes are missing")
    return decrypt(key, number, stored, _about(row.place))


def _about(place: int) -> bytes:
    return place.to_bytes(8, "little", signed=True)
