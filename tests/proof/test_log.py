"""Exported logs: nothing can be changed, left out, added or moved, and a kept head tells a rewritten history."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb import proof
from memodb.errors import CorruptStore, InvalidInput

STORE = "aa" * 16
TIME = datetime(2026, 5, 1, tzinfo=UTC)
SIGNER, OTHER = proof.Signer(proof.new_key()), proof.Signer(proof.new_key())


def entries_of(n: int, start: int = 0, **changed: Any) -> list[proof.Entry]:
    return [
        proof.Entry(**{"seq": i, "time": TIME + timedelta(seconds=i), "op": "hold", "id": f"{i:08x}", **changed})
        for i in range(start, n)
    ]


def head_of(entries: list[proof.Entry], signer: proof.Signer = SIGNER, store: str = STORE) -> dict[str, Any]:
    return proof.Head(store, len(entries), proof.Tree(e.leaf() for e in entries).root, TIME).signed(signer)


def log_of(entries: list[proof.Entry], signer: proof.Signer = SIGNER) -> bytes:
    stream = io.BytesIO()
    assert proof.write_log(stream, head_of(entries, signer), entries) == len(entries)
    return stream.getvalue()


def checked(data: bytes, **how: Any) -> proof.LogVerdict:
    return proof.verify_log(io.BytesIO(data), **how)


@given(st.integers(0, 40))
def test_a_whole_log(n: int) -> None:
    data = log_of(entries_of(n))
    verdict = checked(data, public_key=SIGNER.public_pem)
    assert verdict.problems == ()
    assert verdict.valid
    assert (verdict.size, verdict.trusted, verdict.extends, verdict.store) == (n, True, None, STORE)
    assert verdict.fingerprint == SIGNER.fingerprint
    assert not checked(data).trusted
    other = checked(data, public_key=OTHER.public_pem)
    assert (other.valid, other.trusted) == (False, False)
    assert other.to_dict()["problems"] == ["the log is signed with another key than the one named"]


@given(st.integers(0, 30), st.integers(0, 30))
def test_it_extends_every_earlier_head(n: int, m: int) -> None:
    n, m = max(n, m), min(n, m)
    entries = entries_of(n)
    verdict = checked(log_of(entries), earlier=head_of(entries[:m]))
    assert verdict.valid
    assert verdict.extends is True


@given(st.integers(1, 30), st.integers(0, 29), st.data())
def test_a_rewritten_history_is_noticed(m: int, at: int, draw: st.DataObject) -> None:
    n = m + draw.draw(st.integers(0, 10))
    at %= m
    kept = head_of(entries_of(m))
    entries = entries_of(n)
    entries[at] = proof.Entry(at, TIME, "hold", id="ff" * 8)
    verdict = checked(log_of(entries), earlier=kept)
    assert verdict.extends is False
    assert not verdict.valid
    cut = entries_of(m - 1)  # its tail cut off, and signed anew
    verdict = checked(log_of(cut), earlier=kept)
    assert verdict.extends is False
    assert not verdict.valid


def test_every_edit_of_a_log_is_noticed() -> None:
    entries = entries_of(8)
    data = log_of(entries)
    lines = data.splitlines(keepends=True)
    extra = proof.Entry(8, TIME, "hold").to_bytes() + b"\n"
    changed: list[list[bytes]] = [
        [],
        [*lines, extra],
        [*lines, b"\n"],
        [b"\n", *lines],
        [*lines, b"x"],
        [b"\n", *lines[1:]],
    ]
    for at in range(len(lines)):
        changed.append(lines[:at] + lines[at + 1 :])
        changed.append(lines[: at + 1] + lines[at:])
        changed.append([*lines[:at], b"\n", *lines[at:]])
        changed.append([*lines[:at], extra, *lines[at:]])
        changed.append([*lines[:at], lines[at].replace(b"\n", b"\r\n"), *lines[at + 1 :]])
        changed.append([*lines[:at], lines[at].replace(b"{", b"{ ", 1), *lines[at + 1 :]])
        if at:
            changed.append(lines[:at])
            changed.append([*lines[:at], proof.Entry(at - 1, TIME, "sweep").to_bytes() + b"\n", *lines[at + 1 :]])
        for other in range(at):
            swapped = list(lines)
            swapped[at], swapped[other] = swapped[other], swapped[at]
            changed.append(swapped)
    for parts in changed:
        verdict = checked(b"".join(parts))
        assert not verdict.valid, b"".join(parts)
    for at in range(len(data)):
        assert not checked(data[:at]).valid


def test_a_log_shorter_than_its_head_says_so() -> None:
    lines = log_of(entries_of(4)).splitlines(keepends=True)
    for n in range(4):
        verdict = checked(b"".join(lines[: n + 1]))
        assert verdict.problems == (f"the log has {n} entries, and its head names 4",)
        assert verdict.size == n


@given(st.data())
def test_every_flipped_bit_of_a_log_is_noticed(draw: st.DataObject) -> None:
    at, bit = draw.draw(st.integers(0, len(LOG) - 1)), draw.draw(st.integers(0, 7))
    assert not checked(LOG[:at] + bytes([LOG[at] ^ 1 << bit]) + LOG[at + 1 :]).valid


@pytest.mark.stress
def test_all_flipped_bits_of_a_log_are_noticed() -> None:
    for place in range(8 * len(LOG)):
        changed = bytearray(LOG)
        changed[place // 8] ^= 1 << place % 8
        assert not checked(bytes(changed)).valid


LOG = log_of(entries_of(5, reason="a-reason", actor="dpo"))


def test_an_entry_of_another_number_is_refused_though_the_root_fits() -> None:
    # somebody with the key signs a log whose entries are numbered wrongly
    entries = entries_of(3)
    entries[1] = proof.Entry(5, TIME, "hold")
    stream = io.BytesIO()
    with pytest.raises(CorruptStore, match="entry 5 stands where entry 1"):
        proof.write_log(stream, head_of(entries), entries)
    data = stream.getvalue() + entries[2].to_bytes() + b"\n"
    assert "says that it is entry 5" in checked(data).problems[0]


def test_a_log_that_is_not_that_of_its_head_is_not_written() -> None:
    for entries in (entries_of(2), entries_of(4), [*entries_of(2), proof.Entry(2, TIME, "sweep")]):
        with pytest.raises(CorruptStore, match="not those of its signed head"):
            proof.write_log(io.BytesIO(), head_of(entries_of(3)), entries)
    with pytest.raises(InvalidInput, match="does not fit"):
        proof.write_log(io.BytesIO(), {**head_of(entries_of(3)), "size": 2}, entries_of(2))


def test_an_earlier_head_that_cannot_be_used() -> None:
    entries = entries_of(4)
    for earlier, word in [
        ({}, "cannot be used"), ({**head_of(entries[:2]), "size": 3}, "cannot be used"),
        (head_of(entries[:2], store="bb" * 16), "another store"), (head_of(entries_of(5)), "does not begin"),
    ]:  # fmt: skip
        verdict = checked(log_of(entries), earlier=earlier)
        assert word in verdict.problems[0]
        assert verdict.extends is False


def test_a_key_may_change_if_the_log_says_so() -> None:
    begun = entries_of(3)
    kept = head_of(begun, OTHER)
    verdict = checked(log_of(entries_of(6)), earlier=kept)
    assert not verdict.valid
    assert "another key" in verdict.problems[0]
    for named, valid in [(SIGNER.fingerprint, True), (OTHER.fingerprint, False)]:
        told = [*begun, proof.Entry(3, TIME, "key", id=named), *entries_of(6, start=4)]
        verdict = checked(log_of(told), earlier=kept)
        assert (verdict.valid, verdict.extends) == (valid, valid)
    before = [proof.Entry(0, TIME, "key", id=SIGNER.fingerprint), *entries_of(6, start=1)]
    assert not checked(log_of(before), earlier=head_of(before[:3], OTHER)).valid


def test_only_a_line_is_read_at_a_time() -> None:
    class Endless(io.RawIOBase):
        """A file without line ends, and without an end."""

        taken = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= 10_000
            self.taken += size
            assert self.taken <= 10_000
            return b"x" * size

    assert "cut off" in proof.verify_log(Endless()).problems[0]  # type: ignore[arg-type]
