"""Encryption of what is stored, under keys that are stored elsewhere, so that destroying a key destroys all copies.

Overwriting reaches the blocks that a file has now. Copies that a device, a file system's snapshot or a backup made of
older ones stay, and hold texts; encrypted under a key that is nowhere any more, they hold noise. NIST calls this
cryptographic erase (SP 800-88 Rev. 1, section 2.6). It is worth as much as the destruction of the key: where the keys
are kept, and what destroying one means there, is what a :class:`KeyService` answers for.

A key belongs to one document or one tile, and is never used for another: each is then forgotten alone, and the numbers
that AES-GCM needs to be unique under a key are counted from 1 by whoever encrypts, instead of drawn.
"""

from __future__ import annotations

import functools
import secrets
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from memodb.errors import CorruptStore, InvalidInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["KEY_BYTES", "TAG_BYTES", "KeyService", "MemoryKeys", "decrypt", "encrypt"]

KEY_BYTES = 32
"""Bytes of a key: AES-256."""

TAG_BYTES = 16
"""How much longer encrypted data is: the authentication tag, at its end."""

Data: TypeAlias = bytes | bytearray | memoryview

_NONCE_BYTES = 12  # the length that GCM counts with directly: NIST SP 800-38D, section 5.2.1.1
_LARGEST = 2**31 - 1 - TAG_BYTES
_NAME_BYTES = 16


class KeyService(Protocol):
    """Where keys are kept: a file of the store's (:class:`memodb.storage.KeyFile`), or one that you write.

    Write one for a key management service, a hardware module or a vault, to have keys destroyed where no file system
    of this machine, no snapshot and no backup of it ever held them.

    - **A destroyed key can never be read again**, by nobody, after :meth:`destroy` returned: not from a cache, a
      replica, a recycle bin or a backup of the service. Services that only schedule destruction (a KMS with a waiting
      period) must not return from :meth:`destroy` before it has happened, or else a receipt says what is not true.
      Nothing that this service keeps may restore a key, a name included: names are stored beside the encrypted data.
    - **Durability:** a key that :meth:`create` returned outlives a power loss. memodb creates keys before the commit
      that names them, and destroys them after the commit that removes their documents, so that a crash in between
      leaves keys that nothing names, or keys still to be destroyed; never a document without its key.
    - **Batches:** a call may carry thousands of names (a scan of a collection, a deletion by filter). Make one round
      trip of each call, not one of each name.
    - **Threads:** reads come from many threads at once, also while another creates or destroys. Other processes read
      too: what one process destroyed no other may return afterwards.
    - **Errors:** raise :class:`memodb.StoreError`, or one below it, for all that goes wrong outside, a service out of
      reach included; None is for keys that are destroyed, never for keys that cannot be had at the moment. A document
      whose key is None is forgotten.

    Attributes
    ----------
    kind : str
        Shown in receipts, e.g. "key file".
    """

    kind: str

    def create(self, count: int) -> list[bytes]:
        """Make so many new random keys, durable when this returns; their names, 1 to 64 bytes each.

        A name is opaque to the caller, and never that of another key, not even of a destroyed one.

        Raises
        ------
        StoreError
            None of them can be named afterwards; DiskFull where there is no space for them.
        """

    def read(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The keys of these names, in their order, `KEY_BYTES` each; None where it was destroyed or never made.

        Raises
        ------
        StoreError
            Whether there is a key cannot be said; CorruptStore where it is damaged.
        """

    def destroy(self, names: Iterable[bytes]) -> int:
        """Destroy keys, durably and beyond recovery when this returns; how many of them were there.

        Idempotent: a name that has no key, or comes twice, is passed over. A damaged key is destroyed like any other.

        Raises
        ------
        StoreError
            Some may still be there: the caller asks again.
        """

    def close(self) -> None:
        """Give back what the service holds open; idempotent."""


class MemoryKeys:
    """The keys of a store in memory, which go with the process.

    A destroyed key is overwritten where it lies. Copies that :meth:`read` handed out stay in the process until Python
    gives their memory to something else.
    """

    kind = "memory"

    def __init__(self) -> None:
        self._keys: dict[bytes, bytearray] = {}
        self._made = 0
        self._lock = threading.Lock()

    def create(self, count: int) -> list[bytes]:
        """Make so many new random keys; their names."""
        with self._lock:
            # numbered from 1, like the slots of a key file: one can be made of these keys, under the same names
            start = self._made + 1
            self._made += count
            made = {
                number.to_bytes(8, "big") + secrets.token_bytes(_NAME_BYTES - 8): bytearray(
                    secrets.token_bytes(KEY_BYTES)
                )
                for number in range(start, start + count)
            }
            self._keys |= made
        return list(made)

    def kept(self) -> dict[bytes, bytes]:
        """All keys by their names."""
        with self._lock:
            return {name: bytes(key) for name, key in self._keys.items()}

    def read(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The keys of these names; None where it was destroyed or never made."""
        with self._lock:
            return [bytes(self._keys[name]) if name in self._keys else None for name in names]

    def destroy(self, names: Iterable[bytes]) -> int:
        """Overwrite and forget keys; how many of them were there."""
        destroyed = 0
        with self._lock:
            for name in names:
                key = self._keys.pop(name, None)
                if key is not None:
                    key[:] = bytes(KEY_BYTES)
                    destroyed += 1
        return destroyed

    def close(self) -> None:
        """Nothing is held open; what was encrypted can be read until the process ends."""


def encrypt(key: bytes, number: int, data: Data, about: bytes) -> bytes:
    """Encrypt data with AES-256-GCM (NIST SP 800-38D).

    Parameters
    ----------
    key : bytes (`KEY_BYTES`)
    number : int
        The nonce, 12 bytes big-endian. **Used once under a key**, ever: two data under one number give away their
        difference, and the means to forge others. That is why a key belongs to one document or one tile.
    data : bytes-like
        2**31 - 17 bytes at most.
    about : bytes
        Authenticated with the data and not stored: what the data is, so that it cannot be passed off as another's.

    Returns
    -------
    bytes
        `TAG_BYTES` longer than the data.

    Raises
    ------
    InvalidInput
        The data is too large, or key or number is none.
    """
    if len(key) != KEY_BYTES or not 0 <= number < 1 << 8 * _NONCE_BYTES:
        raise InvalidInput(f"a key has {KEY_BYTES} bytes, and a number {_NONCE_BYTES} at most")
    if _nbytes(data) > _LARGEST:
        raise InvalidInput(f"{_nbytes(data)} bytes cannot be encrypted at once: {_LARGEST} are the most")
    aead, _ = _library()
    return aead(key).encrypt(number.to_bytes(_NONCE_BYTES, "big"), data, about)


def decrypt(key: bytes, number: int, data: Data, about: bytes) -> bytes:
    """What :func:`encrypt` was given under the same key, number and ``about``.

    Raises
    ------
    CorruptStore
        The data is damaged, or was encrypted under another key or number, or as something else. Which of these cannot
        be told.
    """
    aead, invalid = _library()
    if len(key) != KEY_BYTES or not 0 <= number < 1 << 8 * _NONCE_BYTES:
        raise CorruptStore(f"a key has {KEY_BYTES} bytes, and a number {_NONCE_BYTES} at most: the key is damaged")
    if not TAG_BYTES <= _nbytes(data) <= _LARGEST + TAG_BYTES:
        raise CorruptStore(f"{_nbytes(data)} bytes are no encrypted data")
    try:
        return aead(key).decrypt(number.to_bytes(_NONCE_BYTES, "big"), data, about)
    except invalid as exc:
        raise CorruptStore("the encrypted data is damaged, or of another key") from exc


@functools.cache
def _library() -> tuple[type[AESGCM], type[Exception]]:
    """The cipher, and its error: slow to import, not every store needs them, and asking for them anew each time takes
    as long as to decrypt a document of a thousand tokens."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM, InvalidTag


def _nbytes(data: Data) -> int:
    return data.nbytes if isinstance(data, memoryview) else len(data)
