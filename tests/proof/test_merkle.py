"""The tree, against the definitions of RFC 6962 as they are written, and vectors of Certificate Transparency."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memodb.errors import InvalidInput
from memodb.proof import merkle


def naive_root(data: list[bytes]) -> bytes:
    """MTH(D[n]), as section 2.1 says it."""
    if not data:
        return hashlib.sha256().digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = split(len(data))
    return hashlib.sha256(b"\x01" + naive_root(data[:k]) + naive_root(data[k:])).digest()


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def naive_path(m: int, data: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of section 2.1.1."""
    if len(data) == 1:
        return []
    k = split(len(data))
    if m < k:
        return [*naive_path(m, data[:k]), naive_root(data[k:])]
    return [*naive_path(m - k, data[k:]), naive_root(data[:k])]


def naive_proof(m: int, data: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of section 2.1.2."""
    if m == len(data):
        return [] if whole else [naive_root(data)]
    k = split(len(data))
    if m <= k:
        return [*naive_proof(m, data[:k], whole), naive_root(data[k:])]
    return [*naive_proof(m - k, data[k:], False), naive_root(data[:k])]


def turns(m: int, n: int) -> list[bool]:
    """On which side of its sibling each node of a path stands, from the leaf upwards."""
    if n == 1:
        return []
    k = split(n)
    return [*turns(m, k), False] if m < k else [*turns(m - k, n - k), True]


def data_of(n: int) -> list[bytes]:
    return [f"entry {i}".encode() for i in range(n)]


def leaves_of(data: list[bytes]) -> list[bytes]:
    return [merkle.leaf_hash(item) for item in data]


def flips(value: bytes) -> list[bytes]:
    return [
        value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :] for at in range(len(value)) for bit in range(8)
    ]


VECTORS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
FIRST_OF_EIGHT = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]
SIX_TO_EIGHT = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]


def test_the_vectors_of_certificate_transparency() -> None:
    leaves = leaves_of([bytes.fromhex(item) for item in VECTORS])
    assert [merkle.root(leaves[:n]).hex() for n in range(9)] == ROOTS
    assert [node.hex() for node in merkle.inclusion_proof(leaves, 0)] == FIRST_OF_EIGHT
    assert [node.hex() for node in merkle.consistency_proof(leaves, 1)] == FIRST_OF_EIGHT
    assert [node.hex() for node in merkle.consistency_proof(leaves, 6)] == SIX_TO_EIGHT


@pytest.mark.parametrize("n", range(1, 34))
def test_all_of_a_tree_is_as_it_is_written(n: int) -> None:
    data = data_of(n)
    leaves = leaves_of(data)
    top = naive_root(data)
    assert merkle.root(leaves) == top
    for m in range(n):
        path = merkle.inclusion_proof(leaves, m)
        assert path == naive_path(m, data)
        assert merkle.verify_inclusion(leaves[m], m, n, path, top)
    for m in range(n + 1):
        path = merkle.consistency_proof(leaves, m)
        assert path == ([] if m == 0 else naive_proof(m, data))
        assert merkle.verify_consistency(m, n, naive_root(data[:m]), top, path)


@given(st.integers(0, 300), st.integers(0, 60))
def test_a_tree_grows_to_the_same_root(begun: int, added: int) -> None:
    leaves = leaves_of(data_of(begun + added))
    tree = merkle.Tree(leaves[:begun])
    assert [tree.append(leaf) for leaf in leaves[begun:]] == list(range(begun, begun + added))
    assert tree.size == begun + added
    assert tree.path == (naive_path(begun + added - 1, data_of(begun + added)) if begun + added else [])
    assert tree.root == naive_root(data_of(begun + added))


@settings(max_examples=40)
@given(st.data(), st.integers(1, 80))
def test_every_changed_bit_of_an_inclusion_is_refused(draw: st.DataObject, n: int) -> None:
    leaves = leaves_of(data_of(n))
    m = draw.draw(st.integers(0, n - 1))
    path, top = merkle.inclusion_proof(leaves, m), merkle.root(leaves)
    for other in flips(leaves[m]):
        assert not merkle.verify_inclusion(other, m, n, path, top)
    for other in flips(top):
        assert not merkle.verify_inclusion(leaves[m], m, n, path, other)
    for at, node in enumerate(path):
        for other in flips(node):
            assert not merkle.verify_inclusion(leaves[m], m, n, [*path[:at], other, *path[at + 1 :]], top)
    for bit in range(12):
        assert not merkle.verify_inclusion(leaves[m], m ^ 1 << bit, n, path, top)
        # RFC 6962 binds a size only as far as it shapes the path; the signed head binds it wholly
        size = n ^ 1 << bit
        alike = m < size and turns(m, size) == turns(m, n)
        assert merkle.verify_inclusion(leaves[m], m, size, path, top) == alike
    for other_path in (path[1:], path[:-1], [*path, top], [top, *path]):
        if other_path != path:
            assert not merkle.verify_inclusion(leaves[m], m, n, other_path, top)
    assert not merkle.verify_inclusion(leaves[m], -1, n, path, top)
    assert not merkle.verify_inclusion(leaves[m][:-1], m, n, path, top)


@settings(max_examples=40)
@given(st.data(), st.integers(2, 80))
def test_every_changed_bit_of_a_consistency_is_refused(draw: st.DataObject, n: int) -> None:
    leaves = leaves_of(data_of(n))
    m = draw.draw(st.integers(1, n - 1))
    path, old, new = merkle.consistency_proof(leaves, m), merkle.root(leaves[:m]), merkle.root(leaves)
    for other in flips(old):
        assert not merkle.verify_consistency(m, n, other, new, path)
    for other in flips(new):
        assert not merkle.verify_consistency(m, n, old, other, path)
    for at, node in enumerate(path):
        for other in flips(node):
            assert not merkle.verify_consistency(m, n, old, new, [*path[:at], other, *path[at + 1 :]])
    for bit in range(12):
        assert not merkle.verify_consistency(m ^ 1 << bit, n, old, new, path)
    for other_path in (path[1:], path[:-1], [*path, new], [new, *path], []):
        assert not merkle.verify_consistency(m, n, old, new, other_path)
    assert not merkle.verify_consistency(-1, n, old, new, path)


def test_the_ends_of_consistency() -> None:
    leaves = leaves_of(data_of(5))
    top, empty = merkle.root(leaves), merkle.root([])
    assert merkle.verify_consistency(0, 5, empty, top, [])
    assert not merkle.verify_consistency(0, 5, top, top, [])
    assert not merkle.verify_consistency(0, 5, empty, top, [top])
    assert merkle.verify_consistency(5, 5, top, top, [])
    assert not merkle.verify_consistency(5, 5, top, empty, [])
    assert not merkle.verify_consistency(5, 5, top, top, [top])
    assert not merkle.verify_consistency(6, 5, top, top, [])


def test_what_is_no_leaf_is_refused() -> None:
    with pytest.raises(InvalidInput, match="32 bytes"):
        merkle.Tree([b"short"])
    for index in (-1, 3):
        with pytest.raises(InvalidInput, match="index"):
            merkle.inclusion_proof(leaves_of(data_of(3)), index)
    for earlier in (-1, 4):
        with pytest.raises(InvalidInput, match="never had"):
            merkle.consistency_proof(leaves_of(data_of(3)), earlier)
