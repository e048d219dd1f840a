"""Encryption under keys kept elsewhere, and what every service that keeps them must do."""

import mmap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from memodb.cipher import KEY_BYTES, TAG_BYTES, KeyService, MemoryKeys, decrypt, encrypt
from memodb.errors import CorruptStore, InvalidInput
from memodb.storage.keyfile import KeyFile

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("key", "number", "data", "about", "expected"),
    [
        # D. McGrew, J. Viega: The Galois/Counter Mode of Operation (GCM), appendix B, test cases 13, 14 and 16
        ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        ("00" * 32, "00" * 12, "00" * 16, "", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
        (
            "feffe9928665731c6d6a8f9467308308" * 2,
            "cafebabefacedbaddecaf888",
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ],
)
def test_published_vectors(key: str, number: str, data: str, about: str, expected: str) -> None:
    arguments = bytes.fromhex(key), int(number, 16)
    assert encrypt(*arguments, bytes.fromhex(data), bytes.fromhex(about)).hex() == expected
    assert decrypt(*arguments, bytes.fromhex(expected), bytes.fromhex(about)).hex() == data


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**96 - 1), st.binary(), st.binary())
def test_what_is_encrypted_is_decrypted(key: bytes, number: int, data: bytes, about: bytes) -> None:
    packed = encrypt(key, number, data, about)
    assert len(packed) == len(data) + TAG_BYTES
    for kind in (bytes, bytearray, memoryview):
        assert encrypt(key, number, kind(data), about) == packed
        assert decrypt(key, number, kind(packed), about) == data


@given(st.binary(max_size=40), st.binary(max_size=20), st.data())
def test_any_flipped_bit_is_refused(data: bytes, about: bytes, choose: st.DataObject) -> None:
    packed = encrypt(KEY, 7, data, about)
    said = [KEY, (7).to_bytes(12, "big"), packed, about]
    at = choose.draw(st.integers(0, 3).filter(lambda part: said[part]))
    bit = choose.draw(st.integers(0, 8 * len(said[at]) - 1))
    changed = bytearray(said[at])
    changed[bit // 8] ^= 1 << bit % 8
    said[at] = bytes(changed)
    with pytest.raises(CorruptStore, match="damaged, or of another key"):
        decrypt(said[0], int.from_bytes(said[1], "big"), said[2], said[3])


def test_what_is_out_of_bounds_is_refused_by_name() -> None:
    for key, number in ((b"", 1), (bytes(16), 1), (bytes(33), 1), (KEY, -1), (KEY, 1 << 96)):
        with pytest.raises(InvalidInput):
            encrypt(key, number, b"", b"")
        with pytest.raises(CorruptStore):
            decrypt(key, number, bytes(16), b"")
    for short in range(TAG_BYTES):
        with pytest.raises(CorruptStore, match="no encrypted data"):
            decrypt(KEY, 1, bytes(short), b"")
    with mmap.mmap(-1, 2**31) as large, memoryview(large) as view:  # never touched, so it takes no memory
        with pytest.raises(InvalidInput, match="2147483631 are the most"):
            encrypt(KEY, 1, view[: 2**31 - TAG_BYTES], b"")
        with pytest.raises(CorruptStore, match="no encrypted data"):
            decrypt(KEY, 1, view, b"")


def test_the_cipher_is_loaded_when_it_is_used(in_process: Callable[..., str]) -> None:
    source = (
        "import sys, memodb, memodb.storage\nfrom memodb.cipher import encrypt\n"
        "before = 'cryptography' in sys.modules\nencrypt(bytes(32), 1, b'', b'')\n"
        "print(before, 'cryptography' in sys.modules)"
    )
    assert in_process(source).split() == ["False", "True"]


# -- what every service of keys promises -------------------------------------------------------------------------------


class Kind:
    """A service, and the way to have it again after its process ended, where it outlives that."""

    def __init__(self, folder: Path | None) -> None:
        self.path = folder and folder / "keys"
        if self.path is not None:
            KeyFile.make(self.path)

    def open(self) -> KeyService:
        return MemoryKeys() if self.path is None else KeyFile(self.path, read_only=False)


@pytest.fixture(params=["memory", "file"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyService]:
    service = Kind(tmp_path if request.param == "file" else None).open()
    yield service
    service.close()
    service.close()


def test_keys_are_new_named_and_gone_when_destroyed(services: KeyService) -> None:
    assert services.kind
    names = services.create(300)
    assert len(set(names)) == 300
    assert all(1 <= len(name) <= 64 for name in names)
    keys = services.read(names)
    assert len(set(keys)) == 300
    assert {len(key or b"") for key in keys} == {KEY_BYTES}
    assert services.read([names[7], names[3], names[7]]) == [keys[7], keys[3], keys[7]]
    assert services.destroy(iter([names[3], names[3], b"nobody", names[5]])) == 2
    assert services.destroy([names[3]]) == 0
    assert services.read(names) == [None if at in (3, 5) else key for at, key in enumerate(keys)]
    assert services.create(0) == services.read([]) == []
    assert services.destroy([]) == 0


@pytest.mark.parametrize("name", [b"", b"\0", bytes(16), b"\xff" * 16, bytes(64), b"\0" * 7 + b"\1" + bytes(8)])
def test_names_that_nobody_made(services: KeyService, name: bytes) -> None:
    (own,) = services.create(1)
    (key,) = services.read([own])
    assert services.read([name, own]) == [None, key]
    assert services.destroy([name]) == 0
    assert services.read([own]) == [key]


def test_reads_go_on_while_others_create_and_destroy(services: KeyService) -> None:
    names = services.create(500)
    keys = services.read(names)
    wrong: list[Any] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for key, expected in zip(services.read(names), keys, strict=True):
                if key is not None and key != expected:
                    wrong.append((key, expected))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for at in range(0, 500, 25):
        assert services.destroy(names[at : at + 25]) == 25
        assert services.read(names[: at + 25]) == [None] * (at + 25)
        services.create(20)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


class Services(RuleBasedStateMachine):
    """A service against a dict: names to keys, None once destroyed."""

    folder: Path | None = None

    @initialize()
    def begin(self) -> None:
        if self.folder is not None:
            (self.folder / "keys").unlink(missing_ok=True)
        self.kind = Kind(self.folder)
        self.service = self.kind.open()
        self.known: dict[bytes, bytes | None] = {}

    @rule(count=st.integers(0, 20))
    def create(self, count: int) -> None:
        names = self.service.create(count)
        assert len(names) == count
        assert not set(names) & self.known.keys()
        self.known.update(zip(names, self.service.read(names), strict=True))
        assert None not in {self.known[name] for name in names}

    @rule(chosen=st.lists(st.integers(0, 10**6), max_size=12))
    def destroy(self, chosen: list[int]) -> None:
        names = [list(self.known)[at % len(self.known)] for at in chosen] if self.known else []
        there = {name for name in names if self.known[name] is not None}
        assert self.service.destroy(names) == len(there)
        self.known.update(dict.fromkeys(there))

    @rule()
    def reopen(self) -> None:
        if self.folder is not None:
            self.service.close()
            self.service = self.kind.open()

    @invariant()
    def every_name_has_its_key(self) -> None:
        assert self.service.read(list(self.known)) == list(self.known.values())
        keys = [key for key in self.known.values() if key is not None]
        assert len(set(keys)) == len(keys)
        if isinstance(self.service, KeyFile):
            in_use = {name for name, key in self.known.items() if key is not None}
            assert set(self.service.orphans([])) == in_use
            assert self.service.count == len(in_use)
            assert set(self.service.orphans(list(in_use)[1:])) == set(list(in_use)[:1])

    def teardown(self) -> None:
        self.service.close()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_services_against_a_dict(tmp_path: Path, kind: str) -> None:
    machine = type("Machine", (Services,), {"folder": tmp_path if kind == "file" else None})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None))
