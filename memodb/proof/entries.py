"""Entries of the audit log: what was done, when, to what opaque id, by whose pseudonym, for which code.

One entry is one line of canonical JSON, all eight fields in the order of their names::

    {"actor":null,"collection":"3f...","id":"9c...","op":"erased","reason":"gdpr-17","seq":4,
     "time":"2026-05-01T08:00:00.000000+00:00","until":null}

A log outlives what it tells of, so nothing personal may enter it: no text, no title, no name of a file, no plain hash
of content. Ids are random hexadecimal, people and reasons are codes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from memodb.errors import CorruptStore, InvalidInput
from memodb.proof.encoding import canonical, fields, moment, parse, timestamp
from memodb.proof.merkle import leaf_hash

__all__ = ["MAX_ENTRY_BYTES", "OPS", "Entry", "code", "pseudonym"]

OPS: Final = frozenset(
    {
        "requested",
        "hidden",
        "held_back",
        "erased",
        "hold",
        "hold_released",
        "quarantine",
        "quarantine_released",
        "expiry",
        "sweep",
        "suppress",
        "suppression_ended",
        "subject_export",
        "hold_export",
        "backup",
        "backup_destroyed",
        "restore",
        "key",
        "refused",
    }
)
"""What an entry may tell of. ``held_back``: a hold stopped a purge; ``key``: a new signing key, whose fingerprint is
the entry's id."""

MAX_ENTRY_BYTES: Final = 1024
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PSEUDONYM: Final = re.compile(r"[0-9a-f]{8,64}")
_FIELDS: Final = {"actor", "collection", "id", "op", "reason", "seq", "time", "until"}


def code(name: str, value: str) -> str:
    """A value of the field ``name`` if it is a code, such as ``ticket-17``.

    Raises
    ------
    InvalidInput
        It is anything else: a free text could hold personal data, and an entry can never be taken back.
    """
    if not isinstance(value, str) or _CODE.fullmatch(value) is None:
        raise InvalidInput(
            f"{name} must be a code of up to 64 of the characters a-z 0-9 . _ - that begins with a letter or digit: "
            "free text could hold personal data, and the audit log keeps it for ever"
        )
    return value


def pseudonym(name: str, value: str) -> str:
    """A value of the field ``name`` if it is an opaque id: 8 to 64 lower-case hexadecimal digits.

    Raises
    ------
    InvalidInput
        It is anything else, such as a document's own id, which may name a person.
    """
    if not isinstance(value, str) or _PSEUDONYM.fullmatch(value) is None:
        raise InvalidInput(f"{name} must be 8 to 64 lower-case hexadecimal digits: the audit log takes opaque ids only")
    return value


@dataclass(frozen=True)
class Entry:
    """One entry of the audit log.

    Attributes
    ----------
    seq : int
        Its index in the log, from 0.
    time : datetime
        When, with a zone.
    op : str
        What, one of :data:`OPS`.
    collection, id : str or None
        Opaque ids, 8 to 64 lower-case hexadecimal digits.
    actor, reason : str or None
        Codes: see :func:`code`.
    until : datetime or None
        The end of what has one, such as a hold.

    Raises
    ------
    InvalidInput
        A field is none of this.
    """

    seq: int
    time: datetime
    op: str
    collection: str | None = None
    id: str | None = None
    actor: str | None = None
    reason: str | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if type(self.seq) is not int or not 0 <= self.seq < 1 << 53:
            raise InvalidInput("seq must be an integer from 0 to 2^53 - 1")
        if not isinstance(self.op, str) or self.op not in OPS:
            raise InvalidInput(f"op must be one of {', '.join(sorted(OPS))}")
        for name in ("collection", "id"):
            value: Any = getattr(self, name)
            if value is not None:
                pseudonym(name, value)
        for name in ("actor", "reason"):
            value = getattr(self, name)
            if value is not None:
                code(name, value)
        timestamp(self.time)
        if self.until is not None:
            timestamp(self.until)

    def to_bytes(self) -> bytes:
        """Its line, without a line end."""
        return canonical(
            {
                "actor": self.actor,
                "collection": self.collection,
                "id": self.id,
                "op": self.op,
                "reason": self.reason,
                "seq": self.seq,
                "time": timestamp(self.time),
                "until": None if self.until is None else timestamp(self.until),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, seq: int | None = None) -> Entry:
        """The entry of a line that :meth:`to_bytes` made, and of no other.

        Parameters
        ----------
        seq : int, optional
            Which entry it must be.

        Raises
        ------
        CorruptStore
            The line is longer than 1,024 bytes, is not what an entry is spelled like, or is another entry.
        """
        name = "an audit entry" if seq is None else f"audit entry {seq}"
        try:
            found = fields(parse(data, limit=MAX_ENTRY_BYTES), _FIELDS, "it")
            times = {key: moment(found[key]) for key in ("time", "until")}
            if times["time"] is None:
                raise InvalidInput("its time is none")
            entry = cls(**{**found, **times})
        except InvalidInput as exc:
            raise CorruptStore(f"{name} cannot be read: {exc}") from exc
        if entry.to_bytes() != data:
            raise CorruptStore(f"{name} is not in the one spelling that entries have")
        if seq is not None and entry.seq != seq:
            raise CorruptStore(f"{name} says that it is entry {entry.seq}")
        return entry

    def leaf(self) -> bytes:
        """Its leaf hash in the log's tree."""
        return leaf_hash(self.to_bytes())
