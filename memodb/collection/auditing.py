"""The audit log of a store: what was done about forgetting, to whom no line gives a name.

A line is written in the transaction of what it tells, so that neither is there without the other, and mirrored to the
ledger before the call returns. The ledger stays out of backups and outlives the store: where it knows more than the
catalog, the catalog is an older copy, and what was erased since must be erased again (:mod:`memodb.erasure.replay`).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from memodb.catalog import Catalog, history, now, registry
from memodb.collection.keyring import Binding, Keyring
from memodb.errors import CorruptStore, StoreError, SyncFailed
from memodb.proof import Entry, Head, Signer, Tree, code, inclusion_proof, leaf_hash

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from memodb.storage import Ledger

_REPLAY, _REPLAYED = "replay from", "replay to"
"""Settings: the lines that were taken over from the ledger and are still to be carried out; none where null."""

__all__ = ["AuditLog", "require_code"]


def require_code(name: str, value: str | None) -> None:
    """Refuse what must not stand in the audit log; None is not given.

    Raises
    ------
    InvalidInput
        It is no code.
    """
    if value is not None:
        code(name, value)


def is_code(value: str | None) -> bool:
    """Whether a text may stand in the audit log."""
    try:
        require_code("text", value)
    except ValueError:
        return False
    return True


class AuditLog:
    """The lines in the catalog, their mirror, and the keys that are kept with that.

    Parameters
    ----------
    catalog : Catalog
    store : str
        Opaque id of the store.
    ledger : Ledger or None
        None where there is none at hand.
    binding : Binding or None
        What the catalog says of the ledger; None for a store in memory, and for a copy that is only being checked.
    actor : str or None
        Pseudonym of whoever works with this handle: a code.
    """

    def __init__(
        self, catalog: Catalog, store: str, ledger: Ledger | None, binding: Binding | None, actor: str | None
    ) -> None:
        require_code("actor", actor)
        self.catalog = catalog
        self.store = store
        self.keyring = Keyring(ledger, binding)
        self._ledger = ledger
        self.actor = actor
        self._mirrored: int | None = None
        self._recorded = 0
        """No line that this handle wrote has this number or a higher one."""
        self._guard = threading.Lock()
        self._tree = Tree()

    @property
    def signer(self) -> Signer:
        """The key of the store's signatures: see :attr:`Keyring.signer`."""
        return self.keyring.signer

    def record(
        self,
        session: Session,
        op: str,
        collection_id: str | None,
        ids: Iterable[str | None],
        *,
        reason: str | None = None,
        until: datetime | None = None,
        time: datetime | None = None,
    ) -> None:
        """Tell of something done to these opaque ids, in the session that does it: a line each.

        Parameters
        ----------
        op : str
            One of `memodb.proof.OPS`.
        reason : str, optional
            A text that is no code is left out: it may name a person.
        """
        told = list(ids)
        if not told:
            return
        at, said = time or now(), reason if is_code(reason) else None
        start = history.line_count(session)
        self._recorded = max(self._recorded, start + len(told))
        lines = [
            Entry(seq, at, op, collection_id, opaque, self.actor, said, until).to_bytes()
            for seq, opaque in enumerate(told, start)
        ]
        history.append_lines(session, lines, start)

    def mirror(self) -> None:
        """Bring to the ledger what was committed; durable when this returns.

        Raises
        ------
        DiskFull, StoreError, SyncFailed
            It stands in the catalog; the next call, or the next open for writing, mirrors it.
        """
        if self._ledger is None:
            return
        with self._guard:
            if self._mirrored is None:
                self._mirrored = self._ledger.count()
            elif self._mirrored >= self._recorded:
                return
            with self.catalog.read() as session:
                fresh = list(history.lines(session, self._mirrored))
            if fresh:
                try:
                    self._ledger.append(fresh)
                except SyncFailed as exc:
                    self.catalog.poison(exc)
                    raise
                self._mirrored += len(fresh)

    def adopt(self) -> None:
        """Take over the lines that the ledger has and the catalog has not, with a note that they are to be carried out:
        one commit, so that neither a crash nor a reader meets the lines without the note.

        Raises
        ------
        CorruptStore
            A line of the ledger is not one that was written.
        """
        if self._ledger is None:
            return
        with self.catalog.read() as session:
            known = history.line_count(session)
        if self._ledger.count() <= known:
            return
        missing = []
        for seq, line in enumerate(islice(self._ledger.lines(), known, None), known):
            missing.append(Entry.from_bytes(line, seq=seq).to_bytes())
        with self.catalog.write() as session:
            before = registry.get_setting(session, _REPLAY)
            registry.put_setting(session, _REPLAY, known if before is None else before)
            history.append_lines(session, missing)
            registry.put_setting(session, _REPLAYED, known + len(missing))

    def pending(self) -> list[Entry]:
        """The entries that were taken over and are still to be carried out."""
        with self.catalog.read() as session:
            start, end = self._noted(session)
            if start is None:
                return []
            return [Entry.from_bytes(line) for line in islice(history.lines(session, start), end - start)]

    def _noted(self, session: Session) -> tuple[int | None, int]:
        """The lines that are still to be carried out, from and to.

        Raises
        ------
        CorruptStore
            The notes are none that memodb writes.
        """
        start, end = (registry.get_setting(session, name) for name in (_REPLAY, _REPLAYED))
        if start is None:
            return None, 0
        if type(start) is not int or type(end) is not int or not 0 <= start <= end <= history.line_count(session):
            raise CorruptStore("the catalog's note of what is to be replayed is damaged: restore from a backup")
        return start, end

    def settle(self) -> None:
        """Record that all entries that were taken over are carried out."""
        with self.catalog.write() as session:
            registry.put_setting(session, _REPLAY, None)

    def tree(self) -> Tree:
        """A tree of all lines, the caller's own. Kept between calls is only its frontier, so a call costs what came
        since the last one.
        """
        with self._guard, self.catalog.read() as session:
            for line in history.lines(session, self._tree.size):
                self._tree.append(leaf_hash(line))
            return copy.deepcopy(self._tree)

    def head(self) -> dict[str, Any]:
        """The signed head of the whole log, JSON-ready."""
        return self.signed_head(self.tree())

    def signed_head(self, tree: Tree) -> dict[str, Any]:
        """The signed head of a tree, JSON-ready."""
        return Head(self.store, tree.size, tree.root, now()).signed(self.signer)

    def proof(self, seq: int) -> tuple[list[bytes], dict[str, Any]]:
        """The inclusion proof of any entry, and the signed head that it is for. Hashes the whole log."""
        with self.catalog.read() as session:
            leaves = [leaf_hash(line) for line in history.lines(session)]
        return inclusion_proof(leaves, seq), self.signed_head(Tree(leaves))

    @property
    def is_behind(self) -> bool:
        """Whether lines of the ledger are still to be carried out: nobody may read before."""
        with self.catalog.read() as session:
            return self._noted(session)[0] is not None

    def findings(self) -> Iterator[str]:
        """What is wrong with the log, its mirror and the keys, in words. A mirror that lacks lines is a crash's, and no
        fault: the next writer adds them.
        """
        with self.catalog.read() as session:
            mirrored = iter(()) if self._ledger is None or not self._ledger.exists() else self._ledger.lines()
            try:
                for seq, line in enumerate(history.lines(session)):
                    Entry.from_bytes(line, seq=seq)
                    if next(mirrored, line) != line:
                        yield f"line {seq} of the ledger's log is not that of the catalog's: put back the ledger"
            except StoreError as exc:
                yield str(exc)
        yield from self.keyring.findings()

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from a number on.

        Raises
        ------
        CorruptStore
            A line is not one that was written.
        """
        with self.catalog.read() as session:
            for seq, line in enumerate(history.lines(session, start), start):
                entry = Entry.from_bytes(line)
                if entry.seq != seq:
                    raise CorruptStore(f"line {seq} of the audit log is another one: restore the store from a backup")
                yield entry
