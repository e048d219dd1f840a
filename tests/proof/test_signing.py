"""Canonical bytes, keys and signed heads."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb.errors import InvalidInput
from memodb.proof import Head, Signer, canonical, fingerprint, new_key, parse, signing

ATOMS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner), max_leaves=20
)
TIME = datetime(2026, 5, 1, tzinfo=UTC)


@given(VALUES)
def test_one_spelling_for_every_value(value: Any) -> None:
    said = canonical(value)
    assert said.isascii()
    assert parse(said) == value
    assert canonical(parse(said)) == said
    assert canonical(parse(json.dumps(value, indent=2, ensure_ascii=False).encode())) == said


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(0, 9)))
def test_the_order_of_keys_means_nothing(value: dict[str, int]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [0.5, 1.0, float("nan"), {1: 2}, {None: 1}, {"a": b"b"}, {1, 2}, 2**53, -(2**53), "\ud800", nested(17)]
)
def test_what_others_would_spell_differently_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        canonical({"value": value})


def test_sixteen_containers_are_spelled() -> None:
    assert canonical(nested(16)) == b"[" * 16 + b"1" + b"]" * 16


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b'{"a":1,"a":1}', "twice"), (b'[{"b":[{"a":1,"a":2}]}]', "twice"), (b"1.0", "no integer"),
        (b"1e3", "no integer"), (b"NaN", "no integer"), (b"-Infinity", "no integer"), (b"\xff", "UTF-8"),
        ('{"a":1}'.encode("utf-16"), "UTF-8"), (b"\xef\xbb\xbf{}", "JSON"), (b"{", "JSON"), (b"", "JSON"),
        (b"[" * 100_000, "JSON"), (b"9" * 5000, "JSON"), (b"[" + b"[]," * (1 << 22), "values"),
    ],
)  # fmt: skip
def test_json_is_read_strictly(data: bytes, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        parse(data)


def test_a_document_beyond_the_limit_is_not_read() -> None:
    with pytest.raises(InvalidInput, match="67,108,864 bytes"):
        parse(b" " * ((1 << 26) + 1))


@given(st.binary(max_size=200), st.data())
def test_a_signature_is_of_these_bytes_alone(data: bytes, draw: st.DataObject) -> None:
    signer = Signer(KEY)
    signature = signer.sign(data)
    assert signing.verify(signer.public_pem, signature, data)
    at, bit = draw.draw(st.integers(0, 63)), draw.draw(st.integers(0, 7))
    assert not signing.verify(
        signer.public_pem, signature[:at] + bytes([signature[at] ^ 1 << bit]) + signature[at + 1 :], data
    )
    assert not signing.verify(signer.public_pem, signature, data + b"\0")
    assert not signing.verify(signer.public_pem, b"", data)
    assert not signing.verify(Signer(new_key()).public_pem, signature, data)


KEY = new_key()


def test_a_known_key() -> None:
    # RFC 8032 section 7.1, test 2
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    der = bytes.fromhex("302e020100300506032b657004220420") + seed
    body = base64.b64encode(der).decode()
    signer = Signer(f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n".encode())
    assert signer.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    raw = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    import hashlib

    assert signer.fingerprint == fingerprint(signer.public_pem) == hashlib.sha256(raw).hexdigest()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
def test_openssl_reads_the_keys_and_the_signature(tmp_path: Path) -> None:
    signer = Signer(KEY)
    for name, data in [
        ("key", KEY), ("public", signer.public_pem), ("data", b"said"), ("signature", signer.sign(b"said"))
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(data)
    made = subprocess.run(
        ["openssl", "pkey", "-in", "key", "-pubout"], cwd=tmp_path, capture_output=True, check=True
    ).stdout
    assert made == signer.public_pem
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public", "-rawin", "-in", "data"]
    done = subprocess.run([*check, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def pem(kind: str, body: bytes) -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (kind.encode(), base64.encodebytes(body), kind.encode())


def test_what_is_no_key_is_refused() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    other = ec.generate_private_key(ec.SECP256R1())
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    foreign = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = other.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    rubbish = [b"", b"\0", KEY[:-30], b"x" * 5000, KEY * 100, pem("PRIVATE KEY", os.urandom(48)), locked, foreign]
    for data in [*rubbish, Signer(KEY).public_pem]:
        with pytest.raises(InvalidInput, match="private key"):
            Signer(data)
    for data in [*rubbish, public, KEY, Signer(KEY).public_pem * 100]:
        with pytest.raises(InvalidInput, match="public key"):
            signing.verify(data, b"", b"")


def test_a_flipped_bit_makes_another_key_or_none() -> None:
    """One of them makes a key type whose keys are longer, about which OpenSSL says nothing that anybody foresaw."""
    for whole, read in ((KEY, Signer), (Signer(KEY).public_pem, fingerprint)):
        kind = whole.split(b"-----")[1].decode().removeprefix("BEGIN ")
        body = base64.b64decode(b"".join(whole.splitlines()[1:-1]))
        refused = 0
        for bit in range(8 * len(body)):
            flipped = bytearray(body)
            flipped[bit >> 3] ^= 1 << (bit & 7)
            try:
                assert read(pem(kind, bytes(flipped)))
            except InvalidInput:
                refused += 1
        assert 64 < refused <= 8 * (len(body) - 32)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p + "\n", lambda p: "x\n" + p, lambda p: p.replace("\n", "\r\n"), str.lower, lambda p: p + "é",
        lambda p: None, lambda p: [p],
    ],
)  # fmt: skip
def test_a_key_in_a_document_has_one_spelling(change: Callable[[str], Any]) -> None:
    text = Signer(KEY).public_pem.decode()
    assert signing.pem_of(text, "it") == text.encode()
    with pytest.raises(InvalidInput):
        signing.pem_of(change(text), "it")


def test_a_signature_of_one_thing_never_serves_for_another(signer: Signer) -> None:
    # what a head says, signed as a receipt would be
    head = Head("aa" * 16, 1, bytes(32), TIME)
    document = head.signed(signer)
    forged = signer.sign(signing.RECEIPT + canonical(head.to_dict()))
    with pytest.raises(InvalidInput, match="does not fit"):
        Head.verified({**document, "signature": base64.b64encode(forged).decode()})
    assert Head.verified(document, signer.public_pem) == head


def test_every_field_of_a_head_counts(signer: Signer, stranger: Signer) -> None:
    document = Head("aa" * 16, 5, bytes(range(32)), TIME).signed(signer)
    values: list[Any] = [None, True, 5.0, 6, -1, "", "x", [], {}, signer.public_pem.decode() + "\n", "00" * 32,
                         "2026-05-01T00:00:00Z", "AA" * 16, stranger.public_pem.decode()]  # fmt: skip
    for name in document:
        for value in values:
            with pytest.raises(InvalidInput):
                Head.verified({**document, name: value})
        with pytest.raises(InvalidInput, match="lacks"):
            Head.verified({key: value for key, value in document.items() if key != name})
    with pytest.raises(InvalidInput, match="unknown"):
        Head.verified({**document, "more": 1})
    with pytest.raises(InvalidInput, match="another key"):
        Head.verified(document, stranger.public_pem)
    with pytest.raises(InvalidInput, match="canonical base64"):
        Head.verified({**document, "signature": loosened(document["signature"])})


def loosened(value: str) -> str:
    """The same bytes in other base64: the last digit before the padding has bits that mean nothing."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = value.rstrip("=")[-1]
    other = value.rstrip("=")[:-1] + digits[digits.index(last) ^ 1] + "=" * (len(value) - len(value.rstrip("=")))
    assert base64.b64decode(other) == base64.b64decode(value)
    return other


@pytest.mark.parametrize(
    "changed", [{"store": None}, {"size": -1}, {"size": True}, {"root": b"x"}, {"root": "00" * 32},
                {"time": datetime(2026, 5, 1)}]
)  # fmt: skip
def test_what_is_no_head_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Head(**{"store": "aa", "size": 1, "root": bytes(32), "time": TIME, **changed})


def test_the_room_is_light(in_process: Callable[..., str]) -> None:
    said = in_process("import sys, memodb.proof, memodb.proof.page\nprint('cryptography' in sys.modules)")
    assert said.strip() == "False"
