"""Merkle trees as in RFC 6962 section 2.1 over SHA-256, and their proofs.

A hash of a tree says which leaves it has, in which order; it commits to nothing else. In particular an inclusion proof
does not bind the size of the tree: a path may fit several sizes. That is what a signed head is for, which names both.

Leaves are hashes of 32 bytes throughout: those of :func:`leaf_hash`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice

from memodb.errors import InvalidInput

__all__ = [
    "HASH_BYTES",
    "Tree",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "root",
    "verify_consistency",
    "verify_inclusion",
]

HASH_BYTES = 32
_EMPTY = hashlib.sha256().digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node: SHA-256(0x01 || left || right). The other prefix keeps nodes from passing as leaves."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The root of a tree that grows: the hashes of its complete subtrees, one for each bit of its size.

    Parameters
    ----------
    leaves : iterable of bytes
        Leaf hashes to begin with.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._size = 0
        self._subtrees: list[bytes] = []  # from the largest to the smallest
        self._path: list[bytes] = []
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """How many leaves it has."""
        return self._size

    @property
    def root(self) -> bytes:
        """Its Merkle tree hash, 32 bytes; SHA-256 of nothing where it has no leaf."""
        if not self._subtrees:
            return _EMPTY
        found = self._subtrees[-1]
        for subtree in reversed(self._subtrees[:-1]):
            found = node_hash(subtree, found)
        return found

    @property
    def path(self) -> list[bytes]:
        """The inclusion proof of the newest leaf, without going through the others: of all it joined so far."""
        return list(self._path)

    def append(self, leaf: bytes) -> int:
        """Add a leaf hash; its index. At most log2(size) hashes are computed, and as many kept.

        Raises
        ------
        InvalidInput
            It is not 32 bytes.
        """
        if len(leaf) != HASH_BYTES:
            raise InvalidInput(f"a leaf hash has {HASH_BYTES} bytes, not {len(leaf)}")
        index = self._size
        node = bytes(leaf)
        carry = index
        joined = []
        while carry & 1:  # as a binary counter carries
            joined.append(self._subtrees.pop())
            node = node_hash(joined[-1], node)
            carry >>= 1
        self._path = joined + self._subtrees[::-1]
        self._subtrees.append(node)
        self._size += 1
        return index


def root(leaves: Iterable[bytes]) -> bytes:
    """The Merkle tree hash of leaf hashes: MTH of RFC 6962 section 2.1."""
    return Tree(leaves).root


def _between(leaves: Sequence[bytes], start: int, stop: int) -> bytes:
    return root(islice(leaves, start, stop))


def _split(size: int) -> int:
    """The largest power of two smaller than the size: how many leaves the left subtree has."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of a leaf, from the leaf upwards: PATH of RFC 6962 section 2.1.1.

    Raises
    ------
    InvalidInput
        There is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise InvalidInput(f"a tree of {len(leaves)} leaves has none of index {index}")
    path = []
    start, stop = 0, len(leaves)
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(_between(leaves, middle, stop))
            stop = middle
        else:
            path.append(_between(leaves, start, middle))
            start = middle
    return path[::-1]


def consistency_proof(leaves: Sequence[bytes], earlier: int) -> list[bytes]:
    """What shows that the tree of the first ``earlier`` leaves was extended: PROOF of RFC 6962 section 2.1.2.

    Empty for the empty tree, which every tree extends, and for the tree itself.

    Raises
    ------
    InvalidInput
        The tree has never been of this size.
    """
    if not 0 <= earlier <= len(leaves):
        raise InvalidInput(f"a tree of {len(leaves)} leaves never had {earlier}")
    if earlier in (0, len(leaves)):
        return []
    path = []
    start, stop = 0, len(leaves)
    whole = True  # whether the part under consideration begins where the earlier tree does
    while stop != earlier:
        middle = start + _split(stop - start)
        if earlier <= middle:
            path.append(_between(leaves, middle, stop))
            stop = middle
        else:
            path.append(_between(leaves, start, middle))
            start = middle
            whole = False
    if not whole:  # else it is the earlier root itself, which the verifier has
        path.append(_between(leaves, start, stop))
    return path[::-1]


def _are_hashes(hashes: Sequence[bytes]) -> bool:
    return all(isinstance(found, bytes) and len(found) == HASH_BYTES for found in hashes)


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether a path shows that a leaf hash stands at an index of the tree of this root: RFC 9162 section 2.1.3.2."""
    if not 0 <= index < size or not _are_hashes([leaf, root, *path]):
        return False
    first, last = index, size - 1
    found = leaf
    for sibling in path:
        if last == 0:
            return False
        if first & 1 or first == last:
            found = node_hash(sibling, found)
            while not first & 1 and first:
                first >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        first >>= 1
        last >>= 1
    return last == 0 and found == root


def verify_consistency(earlier: int, size: int, earlier_root: bytes, root: bytes, path: Sequence[bytes]) -> bool:
    """Whether a path shows that the tree of the one root begins with all of the other's: RFC 9162 section 2.1.4.2."""
    if not 0 <= earlier <= size or not _are_hashes([earlier_root, root, *path]):
        return False
    if earlier == 0:
        return not path and earlier_root == _EMPTY
    if earlier == size:
        return not path and earlier_root == root
    if not path:
        return False
    nodes = list(path)
    if earlier & (earlier - 1) == 0:
        nodes.insert(0, earlier_root)
    first, last = earlier - 1, size - 1
    while first & 1:
        first >>= 1
        last >>= 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old = node_hash(node, old)
            new = node_hash(node, new)
            while not first & 1 and first:
                first >>= 1
                last >>= 1
        else:
            new = node_hash(new, node)
        first >>= 1
        last >>= 1
    return last == 0 and old == earlier_root and new == root
