"""The two keys of a ledger, and what the catalog says of them: nobody signs, or refuses texts, with another store's."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from memodb.errors import CorruptStore, InvalidInput, LedgerMissing, StoreError, StoreMismatch
from memodb.proof import Signer, new_key

if TYPE_CHECKING:
    from memodb.storage import Ledger

__all__ = ["Binding", "Keyring"]

_STORE = re.compile(r"[0-9a-f]{32}")
_CHECKED = b"memodb suppression check 1\0"


@dataclass(frozen=True)
class Binding:
    """Which ledger a store has, as its catalog says.

    Parameters
    ----------
    store : str
        Opaque id of the store, 32 hexadecimal digits.
    public_key : str or None
        PEM of the key that signs; None while the store waits for a new ledger.
    suppression : str or None
        A keyed hash that only the right suppression key makes.
    """

    store: str
    public_key: str | None = None
    suppression: str | None = None

    @classmethod
    def of(cls, stated: Any) -> Binding | None:
        """The binding that a setting states; None where there is none.

        Raises
        ------
        CorruptStore
            It is none that memodb writes.
        """
        if stated is None:
            return None
        sound = isinstance(stated, dict) and stated.keys() == {"store", "public_key", "suppression"}
        sound = sound and isinstance(stated["store"], str) and _STORE.fullmatch(stated["store"]) is not None
        if not sound or not all(isinstance(stated[name], str | None) for name in ("public_key", "suppression")):
            raise CorruptStore("the catalog's note of the store's ledger is damaged: restore the store from a backup")
        return cls(**stated)

    def to_dict(self) -> dict[str, str | None]:
        """As the setting holds it."""
        return asdict(self)


class Keyring:
    """The keys, read when they are first used.

    Parameters
    ----------
    ledger : Ledger or None
        None where there is none at hand.
    binding : Binding or None
        None for a store in memory, and for a copy that is only being checked: these have keys of the moment.
    """

    def __init__(self, ledger: Ledger | None, binding: Binding | None) -> None:
        self._ledger = ledger
        self._binding = binding
        self._signer: Signer | None = None
        self._suppression: bytes | None = None

    @property
    def signer(self) -> Signer:
        """The key of the store's signatures.

        Raises
        ------
        LedgerMissing
            It is not at hand.
        StoreMismatch
            The ledger's is another one than the store's.
        CorruptStore
            It is damaged.
        """
        if self._signer is None:
            ledger = self._at_hand()
            try:
                signer = Signer(new_key() if ledger is None else ledger.signing())
            except InvalidInput as exc:
                where = None if ledger is None else ledger.path
                raise CorruptStore(f"the signing key of the ledger {where} is damaged: put back the ledger") from exc
            if self._stated("public_key") not in (None, signer.public_pem.decode()):
                raise StoreMismatch("the ledger is another store's, or not the last one of this store: name that one")
            self._signer = signer
        return self._signer

    @property
    def public_key(self) -> str:
        """PEM of the key that the store's signatures are made with."""
        return self._stated("public_key") or self.signer.public_pem.decode()

    @property
    def suppression(self) -> bytes:
        """The key of the hashes of suppressed texts, 32 bytes; errors as of :attr:`signer`."""
        if self._suppression is None:
            ledger = self._at_hand()
            key = secrets.token_bytes(32) if ledger is None else ledger.suppression()
            if self._stated("suppression") not in (None, self._check_of(key)):
                raise CorruptStore(
                    "the suppression key of the ledger is damaged, or another store's: put back the ledger, or texts "
                    "that were erased would be stored again"
                )
            self._suppression = key
        return self._suppression

    def binding(self, store: str) -> Binding:
        """What the catalog is to say of these keys."""
        return Binding(store, self.signer.public_pem.decode(), self._check_of(self.suppression, store))

    def findings(self) -> Iterator[str]:
        """What is wrong with the keys, in words; nothing where they are not at hand."""
        if self._ledger is None or self._binding is None:
            return
        for look in (lambda: self.signer, lambda: self.suppression):
            try:
                look()
            except StoreError as exc:
                yield str(exc)
            except StoreMismatch as exc:
                yield str(exc)

    def _check_of(self, key: bytes, store: str | None = None) -> str:
        named = store or self._stated("store") or ""
        return hmac.digest(key, _CHECKED + named.encode(), hashlib.sha256)[:8].hex()

    def _stated(self, name: str) -> str | None:
        return None if self._binding is None else getattr(self._binding, name)

    def _at_hand(self) -> Ledger | None:
        if self._ledger is None and self._stated("public_key") is not None:
            raise LedgerMissing("the store's ledger, and its keys, are not at hand: say where it is (ledger=...)")
        return self._ledger
