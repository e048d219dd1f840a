"""An exported audit log, and its verification, offline.

JSON lines, each in canonical spelling: one that says what the file is, then the entries::

    {"format":"memodb audit log 1","head":{...},"public_key":"<PEM>","store":"<opaque id>"}
    {"actor":null,"collection":null,"id":null,"op":"key","reason":null,"seq":0,"time":"...","until":null}
    ...

The head is signed and names the number of entries and their Merkle tree hash, so nothing can be changed, left out,
added or moved without its key. A log is read line by line; of its tree only the frontier is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from memodb.errors import CorruptStore, InvalidInput
from memodb.proof import signing
from memodb.proof.encoding import canonical, fields, parse
from memodb.proof.entries import MAX_ENTRY_BYTES, Entry
from memodb.proof.heads import Head, head_key
from memodb.proof.merkle import Tree

__all__ = ["FORMAT", "LogVerdict", "verify_log", "write_log"]

FORMAT: Final = "memodb audit log 1"
_MAX_HEADER_BYTES: Final = 1 << 13


@dataclass(frozen=True)
class LogVerdict:
    """What the verification of an exported log found.

    Attributes
    ----------
    store : str or None
        Opaque id of the store.
    size : int
        Entries that were read and are entries.
    fingerprint : str or None
        SHA-256 of the public key that signed its head, as hexadecimal.
    trusted : bool
        Whether that is the key that the caller named.
    extends : bool or None
        Whether it begins with all that the earlier head was made of; None where none was given.
    problems : tuple of str
        Why it is not valid, in words.
    """

    store: str | None
    size: int
    fingerprint: str | None
    trusted: bool
    extends: bool | None
    problems: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "valid": self.valid,
            "trusted": self.trusted,
            "fingerprint": self.fingerprint,
            "store": self.store,
            "size": self.size,
            "extends": self.extends,
            "problems": list(self.problems),
        }


def write_log(stream: BinaryIO, head: Mapping[str, Any], entries: Iterable[Entry]) -> int:
    """Write a log; how many entries it has.

    Parameters
    ----------
    stream : binary file
        Written, neither flushed nor synced: where that matters the caller replaces a file as a whole.
    head : mapping
        The document of the signed head of exactly these entries.

    Raises
    ------
    InvalidInput
        The head is not signed with the key that it names.
    CorruptStore
        The entries are not those of the head; what was written is then no log.
    """
    signed = Head.verified(dict(head))
    header = {
        "format": FORMAT,
        "store": signed.store,
        "public_key": head_key(dict(head)).decode("ascii"),
        "head": dict(head),
    }
    stream.write(canonical(header) + b"\n")
    tree = Tree()
    for entry in entries:
        stream.write(entry.to_bytes() + b"\n")
        if entry.seq != tree.append(entry.leaf()):
            raise CorruptStore(f"audit entry {entry.seq} stands where entry {tree.size - 1} should")
    if tree.size != signed.size or tree.root != signed.root:
        raise CorruptStore(f"the audit log has {tree.size:,} entries that are not those of its signed head")
    return tree.size


def verify_log(
    stream: BinaryIO, *, public_key: bytes | None = None, earlier: Mapping[str, Any] | None = None
) -> LogVerdict:
    """Check an exported log.

    Parameters
    ----------
    stream : binary file
        Read to its end, or to the first line that is wrong.
    public_key : bytes, optional
        The key in PEM that must have signed its head. Without it the log is only checked against itself.
    earlier : mapping, optional
        The document of a head that the caller has kept: the log must begin with what that was made of. It may be signed
        with an earlier key of the store if the log has an entry ``key`` since that names the fingerprint of its own.

    Returns
    -------
    LogVerdict
        Whatever is wrong with the log or the earlier head is told there, not raised.

    Raises
    ------
    InvalidInput
        The public key is none.
    """
    wanted = None if public_key is None else signing.fingerprint(public_key)
    check = _Check(wanted, earlier)
    try:
        check.header(stream)
        check.entries(stream)
    except (InvalidInput, CorruptStore) as exc:
        check.problems.append(str(exc))
    return check.verdict()


class _Check:
    """How far a verification came."""

    def __init__(self, wanted: str | None, earlier: Mapping[str, Any] | None) -> None:
        self.wanted = wanted
        self.given = earlier
        self.tree = Tree()
        self.head: Head | None = None
        self.fingerprint: str | None = None
        self.extends: bool | None = None if earlier is None else False
        self.problems: list[str] = []

    def verdict(self) -> LogVerdict:
        return LogVerdict(
            store=None if self.head is None else self.head.store,
            size=self.tree.size,
            fingerprint=self.fingerprint,
            trusted=self.fingerprint is not None and self.fingerprint == self.wanted,
            extends=self.extends,
            problems=tuple(self.problems),
        )

    def header(self, stream: BinaryIO) -> None:
        line = _line(stream, _MAX_HEADER_BYTES, "the first line")
        if line is None:
            raise InvalidInput("the log is empty")
        value = parse(line)
        said = fields(value, {"format", "store", "public_key", "head"}, "the first line")
        if said["format"] != FORMAT:
            raise InvalidInput(f"the log is not of the format {FORMAT!r}")
        if canonical(value) != line:
            raise InvalidInput("the first line is not in the one spelling that it has")
        pem = signing.pem_of(said["public_key"], "the public key of the log")
        head = Head.verified(said["head"], pem)
        if said["store"] != head.store:
            raise InvalidInput("the head is of another store than the log")
        self.head, self.fingerprint = head, signing.fingerprint(pem)
        if self.wanted is not None and self.fingerprint != self.wanted:
            self.problems.append("the log is signed with another key than the one named")

    def entries(self, stream: BinaryIO) -> None:
        if self.head is None:
            return
        earlier, own_key = self._earlier()
        while True:
            if earlier is not None and self.tree.size == earlier.size:
                self.extends = self.tree.root == earlier.root
            line = _line(stream, MAX_ENTRY_BYTES, f"audit entry {self.tree.size}")
            if line is None:
                break
            if self.tree.size == self.head.size:
                raise InvalidInput(f"the log has more than the {self.head.size:,} entries that its head names")
            entry = Entry.from_bytes(line, seq=self.tree.size)
            if earlier is not None and entry.seq >= earlier.size and entry.op == "key" and entry.id == self.fingerprint:
                own_key = True
            self.tree.append(entry.leaf())
        if self.tree.size != self.head.size:
            raise InvalidInput(f"the log has {self.tree.size:,} entries, and its head names {self.head.size:,}")
        if self.tree.root != self.head.root:
            raise InvalidInput("the entries are not those of the head: one was changed or moved")
        if earlier is not None and not own_key:
            self.extends = False
            self.problems.append(
                "the earlier head is signed with another key, and the log has no entry of a new one since"
            )
        elif earlier is not None and not self.extends:
            self.problems.append("the log does not begin with what the earlier head was made of: history was rewritten")

    def _earlier(self) -> tuple[Head | None, bool]:
        """The head that the caller has kept, and whether its key is that of the log."""
        if self.given is None or self.head is None:
            return None, True
        try:
            earlier = Head.verified(dict(self.given))
        except InvalidInput as exc:
            raise InvalidInput(f"the earlier head cannot be used: {exc}") from exc
        if earlier.store != self.head.store:
            raise InvalidInput("the earlier head is of another store")
        return earlier, signing.fingerprint(head_key(dict(self.given))) == self.fingerprint


def _line(stream: BinaryIO, limit: int, name: str) -> bytes | None:
    """The next line without its end, None at the end of the file; never more than the limit is read."""
    line = stream.readline(limit + 1)
    if not line:
        return None
    if not line.endswith(b"\n"):
        raise InvalidInput(f"{name} has no end within {limit:,} bytes: the log is cut off, or is none")
    return line[:-1]
