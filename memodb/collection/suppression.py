"""Suppression: a text that was erased, and asked not to come back, is refused on every write path.

What is kept is a keyed hash of the normalised text (HMAC-SHA-256, RFC 2104), under a key that no backup holds: nobody
who has only the hashes can tell whether a text that they guess is among them. It stops exact copies, up to case, forms
of letters and blanks; a text with one word changed is another text.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from typing import TYPE_CHECKING

from memodb.catalog import keeping
from memodb.errors import Suppressed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from memodb.collection.collection import Collection

__all__ = ["normalised", "require_unsuppressed", "suppressed", "suppression_hash"]

_BYTES = 16


def normalised(text: str) -> str:
    """The form under which copies of a text are alike: NFKC, case-folded, one blank for each run of white space."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def suppression_hash(collection: Collection, text: str) -> bytes:
    """What a text is known by in the list of one collection, 16 bytes: another collection's says nothing of it."""
    message = collection.id.encode() + b"\0" + normalised(text).encode()
    return hmac.digest(collection.audit.keyring.suppression, message, hashlib.sha256)[:_BYTES]


def suppressed(collection: Collection, session: Session, texts: list[str]) -> list[bytes | None]:
    """The hash of each text that must not come back, None for each other one."""
    if not keeping.suppressions(session, collection.id):
        return [None] * len(texts)
    hashes = [suppression_hash(collection, text) for text in texts]
    refused = keeping.suppressed(session, collection.id, hashes)
    return [found if found in refused else None for found in hashes]


def require_unsuppressed(collection: Collection, found: list[bytes | None]) -> None:
    """Refuse texts of which some are suppressed; the refusal is recorded.

    Parameters
    ----------
    found : list of bytes or None
        From :func:`suppressed`, in a session that has ended.

    Raises
    ------
    Suppressed
        Names the first of them by its position, not by its words.
    """
    refused = {each for each in found if each is not None}
    if not refused:
        return
    with collection.catalog.write() as session:
        collection.audit.record(session, "refused", collection.id, sorted(each.hex() for each in refused))
    collection.audit.mirror()
    first = next(number for number, each in enumerate(found) if each is not None)
    raise Suppressed(
        f"text {first + 1} of {len(found)} was erased from collection {collection.name!r} and must not be stored "
        "again: nothing of the call was stored. End its suppression first, if that was a mistake"
    )
