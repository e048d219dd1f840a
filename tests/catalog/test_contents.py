"""What documents say: encrypted under a key of each document's own, and damage to one never harms another."""

import itertools
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from memodb.catalog import Catalog, check, documents, erasing, registry
from memodb.catalog.codec import encode_text, encode_tokens
from memodb.catalog.models import TABLES
from memodb.catalog.seals import sealed_columns
from memodb.cipher import MemoryKeys
from memodb.errors import CorruptStore, DiskFull, DocumentExists, StoreError

T0 = datetime(2024, 5, 17, tzinfo=UTC)
TOKENS = {"d": [1, 2, 300], "e": [7] * 40, "f": [], "g": [70_000]}
TEXTS = {"d": "one", "e": "two", "g": "three"}
RESEAL = f"UPDATE document SET seal = memodb_seal({', '.join(sealed_columns(TABLES['document']))})"
"""As a forger would: then only the encryption can tell."""

contents = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2**31 - 1), max_size=40),
        st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    ),
    max_size=5,
)


@pytest.fixture
def furnished(house: Any) -> Any:
    house.insert(*(house.new(name, tokens, text=TEXTS.get(name)) for name, tokens in TOKENS.items()))
    return house


def read(house: Any, name: str) -> tuple[list[int], str | None]:
    with house.fresh() as catalog, catalog.read() as session:
        tokens = documents.tokens_of(session, house.collection, [name])[name].tolist()
        return tokens, documents.texts_of(session, house.collection, [name]).get(name)


def require_lost(house: Any, *lost: str) -> None:
    """These documents are damaged, `check` names each of them, and all others are read as if nothing were."""
    for name, tokens in TOKENS.items():
        if name not in lost:
            assert read(house, name) == (tokens, TEXTS.get(name))
            continue
        with pytest.raises(CorruptStore, match=f"row of document '{name}' is damaged"):
            read(house, name)
    with house.fresh() as catalog, catalog.read() as session:
        findings = check(session, house.collection)
        assert {finding.split(":")[0] for finding in findings} == {f"document '{name}'" for name in lost}


@settings(max_examples=40, deadline=None)
@given(first=contents, second=contents)
def test_what_was_encrypted_comes_back(
    memory: tuple[Catalog, str, str], first: list[tuple[list[int], str | None]], second: list[Any]
) -> None:
    catalog, collection, segment = memory
    every = {f"{kind}{i}": content for kind, part in (("a", first), ("b", second)) for i, content in enumerate(part)}
    with catalog.write() as session:
        for kind in "ab":
            rows = [
                documents.NewDocument(name, segment, bytes(32), np.array(tokens, dtype=np.int64), T0, text=said)
                for name, (tokens, said) in every.items()
                if name[0] == kind
            ]
            assert documents.insert_many(session, collection, rows) == len(rows)
        found = documents.tokens_of(session, collection, every)
        streamed = dict(documents.stream_segment(session, collection, segment))
        assert {name: tokens.tolist() for name, tokens in found.items()} == {n: list(t) for n, (t, _) in every.items()}
        assert {name: tokens.tolist() for name, tokens in streamed.items()} == {
            n: list(t) for n, (t, _) in every.items()
        }
        assert documents.texts_of(session, collection, every) == {n: s for n, (_, s) in every.items() if s is not None}
        keys = session.execute(text("SELECT key FROM document")).scalars().all()
        assert len(set(keys)) == len(every)  # one key encrypts one document, once
        assert check(session, collection) == []
        erasing.delete_many(session, collection, every)


def test_nothing_that_documents_say_is_in_the_file(house: Any) -> None:
    tokens, said = np.random.default_rng(1).integers(0, 1 << 16, 400), "A sentence of no importance, " * 4
    house.insert(house.new("d", tokens, text=said))
    house.catalog.close()
    raw = house.path.read_bytes()
    for plain in (encode_tokens(tokens), encode_text(said), said.encode()):
        assert not any(plain[at : at + 8] in raw for at in range(8, len(plain) - 8, 8))
    assert b"segment_id" in raw  # the search does find what is there


def test_no_two_ciphertexts_share_a_key_stream(house: Any) -> None:
    """Else their difference would be that of what they say (NIST SP 800-38D, appendix A)."""
    tokens, said = np.random.default_rng(2).integers(0, 1 << 16, 100), "A sentence of no importance."
    house.insert(*(house.new(name, tokens, text=said) for name in "de"))
    with house.catalog.read() as session:
        rows = session.execute(text("SELECT tokens, text FROM document")).all()
    locked = [one for row in rows for one in zip(row, (encode_tokens(tokens), encode_text(said)), strict=True)]
    streams = {bytes(a ^ b for a, b in zip(cipher, plain[:16], strict=False)) for cipher, plain in locked}
    assert len(streams) == len(locked) == 4


SWAPS = {
    "tokens of two rows": "tokens = (SELECT o.tokens FROM document o WHERE o.id = 'e')",
    "tokens of two rows, with the key": (
        "(key, tokens, text) = (SELECT o.key, o.tokens, o.text FROM document o WHERE o.id = 'e')"
    ),
    "text of two rows, with all": (
        "(key, tokens, text, digest, token_count) = (SELECT o.key, o.tokens, o.text, o.digest, o.token_count "
        "FROM document o WHERE o.id = 'e')"
    ),
    "tokens for text": "text = tokens",
    "text for tokens": "tokens = text",
    "both": "tokens = text, text = tokens",
    "key of another": "key = (SELECT o.key FROM document o WHERE o.id = 'e')",
    "key of none": "key = zeroblob(16)",
    "text as tokens": "tokens = CAST('a' AS TEXT)",
    "row key": "place = 77",
}


@pytest.mark.parametrize("swap", SWAPS)
def test_a_ciphertext_is_only_good_where_it_was_written(furnished: Any, swap: str) -> None:
    with furnished.outside() as raw:
        raw.execute(f"UPDATE document SET {SWAPS[swap]} WHERE id = 'd'")
        raw.execute(RESEAL)
    require_lost(furnished, "d")


@pytest.mark.parametrize("column", ["tokens", "text"])
def test_no_flipped_bit_goes_unseen(furnished: Any, column: str) -> None:
    with furnished.outside() as raw:
        ((sound,),) = raw.execute(f"SELECT {column} FROM document WHERE id = 'd'").fetchall()
    with furnished.fresh() as catalog:
        for bit in range(0, 8 * len(sound), 5):
            flipped = bytearray(sound)
            flipped[bit // 8] ^= 1 << bit % 8
            with furnished.outside() as raw:
                raw.execute(f"UPDATE document SET {column} = ? WHERE id = 'd'", (bytes(flipped),))
                raw.execute(RESEAL)
            with catalog.read() as session:
                (finding,) = check(session, furnished.collection)
            assert finding == "document 'd': the encrypted data is damaged, or of another key"
    require_lost_part(furnished, column)
    with furnished.outside() as raw:
        raw.execute(f"UPDATE document SET {column} = ? WHERE id = 'd'", (sound,))
        raw.execute(RESEAL)
    assert read(furnished, "d") == (TOKENS["d"], "one")


def require_lost_part(house: Any, column: str) -> None:
    """Only what is damaged: a document's tokens are read although its text cannot be, and the other way round."""
    kinds = {"tokens": documents.tokens_of, "text": documents.texts_of}
    with house.fresh() as catalog, catalog.read() as session:
        with pytest.raises(CorruptStore, match="'d'"):
            kinds.pop(column)(session, house.collection, ["d"])
        (other,) = kinds.values()
        assert set(other(session, house.collection, ["d"])) == {"d"}


def test_a_destroyed_key_takes_its_document_alone(furnished: Any) -> None:
    with furnished.catalog.read() as session:
        key = session.execute(text("SELECT key FROM document WHERE id = 'e'")).scalar_one()
    assert furnished.keys.destroy([key]) == 1
    require_lost(furnished, "e")
    with furnished.catalog.read() as session:
        stream = documents.stream_segment(session, furnished.collection, furnished.segment)
        assert next(stream)[0] == "d"
        with pytest.raises(CorruptStore, match="'e'"):
            next(stream)
    with furnished.catalog.write() as session:  # and it can still be deleted
        assert erasing.delete_many(session, furnished.collection, ["e"]) == 1
        assert check(session, furnished.collection) == []


class Damaged(MemoryKeys):
    """Keys, one of which is damaged where it is kept."""

    bad = b""

    def read(self, names: Any) -> list[bytes | None]:
        if self.bad in names:
            raise CorruptStore("a key is damaged")
        return super().read(names)


def test_a_damaged_key_takes_its_document_alone(house: Any) -> None:
    house.keys = Damaged()
    with Catalog.open(house.path, keys=house.keys) as catalog, catalog.write() as session:
        rows = [house.new(name, tokens, text=TEXTS.get(name)) for name, tokens in TOKENS.items()]
        documents.insert_many(session, house.collection, rows)
        house.keys.bad = session.execute(text("SELECT key FROM document WHERE id = 'e'")).scalar_one()
    require_lost(house, "e")


def test_without_keys_documents_are_listed_but_not_read(furnished: Any) -> None:
    name = furnished.collection
    with Catalog.open(furnished.path) as catalog:
        with catalog.read() as session:
            assert documents.select_ids(session, name) == list(TOKENS)
            assert [row.id for row in documents.select(session, name, order="id")] == list(TOKENS)
            assert registry.list_collections(session)[0].documents == len(TOKENS)
            for use in (
                lambda: documents.tokens_of(session, name, ["d"]),
                lambda: documents.texts_of(session, name, ["d"]),
                lambda: list(documents.stream_segment(session, name, furnished.segment)),
                lambda: check(session, name),
            ):
                with pytest.raises(StoreError, match="without its keys"):
                    use()
        with pytest.raises(StoreError, match="without its keys"), catalog.write() as session:
            documents.insert_many(session, name, [furnished.new("new")])
        with catalog.write() as session:
            assert erasing.delete_many(session, name, ["d"]) == 1
            assert documents.select_ids(session, name) == ["e", "f", "g"]


class Full(MemoryKeys):
    """A key service without space."""

    def create(self, count: int) -> list[bytes]:
        raise DiskFull("no space for keys")


class Forgetful(MemoryKeys):
    """A key service that loses what it makes."""

    def create(self, count: int) -> list[bytes]:
        names = super().create(count)
        self.destroy(names[-1:])
        return names


@pytest.mark.parametrize(("service", "error"), [(Full, DiskFull), (Forgetful, StoreError)])
def test_without_a_key_nothing_is_inserted(house: Any, service: type[MemoryKeys], error: type[StoreError]) -> None:
    with Catalog.open(house.path, keys=service()) as catalog, catalog.write() as session:
        with pytest.raises(error):
            documents.insert_many(session, house.collection, [house.new("d"), house.new("e")])
        assert documents.select_ids(session, house.collection) == []


def test_an_insert_that_is_undone_leaves_keys_but_no_document(furnished: Any) -> None:
    with furnished.catalog.write() as session:
        before = set(registry.named_keys(session))
        with pytest.raises(DocumentExists):
            documents.insert_many(session, furnished.collection, [furnished.new("new"), furnished.new("d")])
        assert set(registry.named_keys(session)) == before


def test_documents_are_decrypted_a_few_at_a_time(furnished: Any) -> None:
    furnished.insert(*(furnished.new(f"x{i:03}", [i]) for i in range(200)))
    asked: list[int] = []

    class Counting(MemoryKeys):
        def read(self, names: Any) -> list[bytes | None]:
            asked.append(len(names))
            return furnished.keys.read(names)

    with Catalog.open(furnished.path, keys=Counting()) as catalog, catalog.read() as session:
        stream = documents.stream_segment(session, furnished.collection, furnished.segment)
        assert len(list(itertools.islice(stream, 10))) == 10
        assert len(asked) == 1  # not the whole segment for its first ten
        assert len(list(stream)) == 194
    assert sum(asked) == 204
    assert max(asked) <= 64
    assert len(asked) <= 5  # and one round trip for many: a key service may be far away
