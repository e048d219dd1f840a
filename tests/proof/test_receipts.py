"""Receipts: whatever is changed in one is noticed, and nothing makes the verification fail otherwise."""

import copy
import importlib.util
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb import proof
from memodb.errors import InvalidInput


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tampering = _load("tampering")


def test_a_whole_receipt(receipt: dict[str, Any], statement: dict[str, Any], signer: proof.Signer) -> None:
    for document in (receipt, json.dumps(receipt), json.dumps(receipt, indent=1, sort_keys=True).encode()):
        verdict = proof.verify(document)
        assert verdict.valid
        assert verdict.problems == ()
        assert not verdict.trusted
        assert verdict.statement == statement
        assert (verdict.in_log, verdict.size, verdict.fingerprint) == (True, 7, signer.fingerprint)
        assert proof.verify(document, public_key=signer.public_pem).trusted
    assert proof.verify(receipt).to_dict()["statement"] == statement


def test_the_key_that_is_named_counts(
    receipt: dict[str, Any], statement: dict[str, Any], stranger: proof.Signer, signer: proof.Signer
) -> None:
    verdict = proof.verify(receipt, public_key=stranger.public_pem)
    assert not verdict.valid
    assert not verdict.trusted
    assert "another key" in verdict.problems[0]
    forged = proof.signed(statement, stranger)
    assert proof.verify(forged).valid  # by itself anybody's receipt is
    assert not proof.verify(forged, public_key=signer.public_pem).valid
    with pytest.raises(InvalidInput):
        proof.verify(receipt, public_key=b"no key")


def test_a_receipt_without_a_log(statement: dict[str, Any], signer: proof.Signer) -> None:
    verdict = proof.verify(proof.signed(statement, signer))
    assert verdict.valid
    assert (verdict.in_log, verdict.size) == (False, None)


def test_every_change_of_a_field_is_noticed(receipt: dict[str, Any], signer: proof.Signer) -> None:
    tried = 0
    for name, document in tampering.tampered(receipt):
        assert not proof.verify(document, public_key=signer.public_pem).valid, name
        tried += 1
    assert tried > 2500
    for name, data in tampering.doubled(receipt):
        verdict = proof.verify(data)
        assert "twice" in verdict.problems[0], name


def test_every_change_in_another_receipts_favour_is_noticed(
    make: Callable[..., dict[str, Any]], statement: dict[str, Any], signer: proof.Signer
) -> None:
    # parts of two receipts of one key, each valid by itself
    one, other = make(statement), proof.signed({**statement, "id": "ee" * 16}, signer)
    assert not proof.verify({**one, "audit": None}).valid
    for name in ("statement", "signature", "audit"):
        assert not proof.verify({**one, name: other[name]}).valid
        assert not proof.verify({**other, name: one[name]}).valid


def flipped_bits(receipt: dict[str, Any], step: int) -> int:
    data = json.dumps(receipt, separators=(",", ":")).encode()
    meant = proof.canonical(receipt)
    tried = 0
    for place in range(0, 8 * len(data), step):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        verdict = proof.verify(bytes(changed))
        if verdict.valid:  # the E of an escape, in upper case, is the same text
            assert proof.canonical(proof.parse(bytes(changed))) == meant
            assert data[place // 8 - 4 : place // 8 + 1].startswith((b"\\u", b"u0", b"00"))
        tried += 1
    return tried


def test_flipped_bits_are_noticed(receipt: dict[str, Any]) -> None:
    assert flipped_bits(receipt, 23) > 1000


@pytest.mark.stress
def test_all_flipped_bits_are_noticed(receipt: dict[str, Any]) -> None:
    assert flipped_bits(receipt, 1) > 25_000


@given(st.data())
def test_cut_and_spliced_bytes_are_noticed(draw: st.DataObject) -> None:
    start, stop = sorted(draw.draw(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))))
    middle = draw.draw(st.binary(max_size=8))
    changed = WHOLE[:start] + middle + WHOLE[stop:]
    verdict = proof.verify(changed)
    assert not verdict.valid or proof.parse(changed) == proof.parse(WHOLE)


_SIGNER = proof.Signer(proof.new_key())
WHOLE = json.dumps(proof.signed({"id": "ab" * 8, "verified": False, "limits": ["one"]}, _SIGNER)).encode()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON | st.binary() | st.text())
def test_rubbish_is_told_not_raised(document: Any) -> None:
    verdict = proof.verify(document)
    assert not verdict.valid
    assert all(said.isprintable() and len(said) < 400 for said in verdict.problems)
    assert not verdict.trusted


@given(st.data(), JSON)
def test_rubbish_in_a_receipt_is_told_not_raised(draw: st.DataObject, value: Any) -> None:
    document = json.loads(WHOLE)
    path = draw.draw(st.sampled_from([p for p in tampering.places(document) if p]))
    if not tampering.same(tampering.at(document, path), value):
        tampering.put(tampering.at(document, path[:-1]), path[-1], value)
        assert not proof.verify(document).valid


@pytest.mark.parametrize("value", [{1: 2}, {None: 1}, b"x", {1, 2}, 1.5, "\ud800", object()])
def test_values_that_are_no_json_are_told_not_raised(value: Any, receipt: dict[str, Any]) -> None:
    for name in receipt:
        assert not proof.verify({**receipt, name: value}).valid
    assert not proof.verify({**receipt, value if isinstance(value, bytes) else 7: 1}).valid
    assert not proof.verify({**receipt, "statement": {**receipt["statement"], "more": value}}).valid


def test_hostile_documents_end_quickly() -> None:
    for data in (b"[" * (1 << 20), b'{"a":' * 100_000, b" " * (1 << 26) + b"{}", b"1" * (1 << 20), b"[[]," * (3 << 20)):
        assert len(proof.verify(data).problems) == 1


def times(statement: dict[str, Any], **moved: str) -> dict[str, Any]:
    return {**statement, "states": {**statement["states"], **moved}}


def with_layer(statement: dict[str, Any], layer: str, **said: Any) -> dict[str, Any]:
    return {**statement, "layers": {**statement["layers"], layer: {**statement["layers"][layer], **said}}}


SEGMENT = {"segment": 1, "digest": "00", "rebuilt_digest": "01", "compared": True}
CONTRADICTIONS: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    (lambda s: {**s, "verified": "yes"}, "neither true nor false"),
    (lambda s: {**s, "verified": 1}, "neither true nor false"),
    (lambda s: with_layer(s, "catalog", rows_left=1), "rows_left"),
    (lambda s: with_layer(s, "catalog", rows_left="0"), "rows_left"),
    (lambda s: with_layer(s, "catalog", rows_left=False), "rows_left"),
    (lambda s: with_layer(s, "tiles", files_left=1), "files_left"),
    (lambda s: with_layer(s, "keys", readable=1), "readable"),
    (lambda s: with_layer(s, "scan", hits=1), "hits"),
    (lambda s: with_layer(s, "scan", control=0), "planted"),
    (lambda s: with_layer(s, "memory", segments=[SEGMENT]), "differs"),
    (lambda s: with_layer(s, "memory", segments=[{**SEGMENT, "compared": False}]), "differs"),
    (lambda s: with_layer(s, "memory", segments=[{**SEGMENT, "digest": None}]), "differs"),
    (lambda s: with_layer(s, "memory", segments={"1": SEGMENT}), "no list"),
    *[(lambda s, n=n: with_layer(s, n, result="failed"), n) for n in ("memory", "catalog", "journal", "tiles", "keys")],
    *[(lambda s, n=n: with_layer(s, n, result="failed"), n) for n in ("backups", "scan")],
    (lambda s: times(s, hidden=s["states"]["verified"]), "before"),
    (lambda s: times(s, verified="2020-01-01T00:00:00+00:00"), "before"),
    (lambda s: times(s, hidden="yesterday"), "no time"),
    (lambda s: times(s, hidden="2026-05-01T08:00:01"), "no time"),
]


@pytest.mark.parametrize(("change", "word"), CONTRADICTIONS)
def test_a_statement_that_contradicts_itself_is_not_valid(
    change: Callable[[dict[str, Any]], dict[str, Any]],
    word: str,
    statement: dict[str, Any],
    make: Callable[..., dict[str, Any]],
) -> None:
    document = make(change(statement))  # signed all the same: it is the record of what went wrong
    problems = proof.verify(document).problems
    assert len(problems) == 1
    assert word in problems[0]


def test_requested_after_completed(statement: dict[str, Any], signer: proof.Signer) -> None:
    late = {**statement, "requested_at": "2026-06-01T00:00:00+00:00"}
    assert "completed_at is before" in proof.verify(proof.signed(late, signer)).problems[0]


def test_what_is_not_said_is_no_contradiction(statement: dict[str, Any], signer: proof.Signer) -> None:
    assert proof.verify(proof.signed({}, signer)).valid
    nothing = with_layer(statement, "memory", segments=[{**SEGMENT, "rebuilt_digest": None, "compared": False}])
    assert proof.verify(proof.signed(nothing, signer)).valid
    for change, word in CONTRADICTIONS:
        if word not in ("before", "no time", "neither true nor false"):
            assert proof.verify(proof.signed({**change(statement), "verified": False}, signer)).valid
    gone = with_layer(statement, "memory", segments=[{**SEGMENT, "digest": None, "rebuilt_digest": None}])
    assert proof.verify(proof.signed(gone, signer)).valid
    for name in statement:
        left = {key: value for key, value in statement.items() if key != name}
        assert proof.verify(proof.signed(left, signer)).valid, name


@given(st.data(), JSON)
def test_a_malformed_statement_is_judged_not_raised(draw: st.DataObject, value: Any) -> None:
    document = copy.deepcopy(FULL)
    path = draw.draw(st.sampled_from([p for p in tampering.places(document) if p]))
    tampering.put(tampering.at(document, path[:-1]), path[-1], value)
    try:
        receipt = proof.signed(document, _SIGNER)
    except InvalidInput:
        return
    verdict = proof.verify(receipt)
    assert set(verdict.problems) == set(proof.contradictions(document))


FULL = _load("conftest").STATEMENT


@pytest.mark.parametrize(
    ("changed", "word"),
    [({"op": "hold"}, "erasure"), ({"id": "ab" * 16}, "another id"), ({"id": None}, "another id"),
     ({"collection": "ab" * 16}, "another collection"), ({"time": timedelta(microseconds=1)}, "another time")],
)  # fmt: skip
def test_the_proof_of_another_deletion_is_refused(
    changed: dict[str, Any],
    word: str,
    statement: dict[str, Any],
    entries: list[proof.Entry],
    make: Callable[..., dict[str, Any]],
    signer: proof.Signer,
    receipt: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = entries[4]
    if "time" in changed:
        changed = {"time": real.time + changed["time"]}
    given = {name: getattr(real, name) for name in ("op", "id", "collection", "time")}
    other = proof.Entry(seq=4, **{**given, **changed})
    leaves = [e.leaf() for e in [*entries[:4], other, *entries[5:]]]
    head = proof.Head(statement["store"], 7, proof.Tree(leaves).root, real.time).signed(signer)
    with pytest.raises(InvalidInput, match=word):
        make(statement, entry=other, proof=proof.inclusion_proof(leaves, 4), head=head)
    # as somebody with the key could sign it, past the check of `signed`
    monkeypatch.setattr("memodb.proof.receipts._mismatches", lambda *_: [])
    document = make(statement, entry=other, proof=proof.inclusion_proof(leaves, 4), head=head)
    monkeypatch.undo()
    problems = proof.verify(document).problems
    assert len(problems) == 1
    assert word in problems[0]


def test_a_proof_that_leads_elsewhere_is_not_signed(
    statement: dict[str, Any],
    make: Callable[..., dict[str, Any]],
    entries: list[proof.Entry],
    signer: proof.Signer,
    stranger: proof.Signer,
) -> None:
    leaves = [e.leaf() for e in entries]
    root = proof.Tree(leaves).root
    with pytest.raises(InvalidInput, match="does not lead"):
        make(statement, proof=proof.inclusion_proof(leaves, 3))
    with pytest.raises(InvalidInput, match="another store"):
        make(statement, head=proof.Head("dd" * 16, 7, root, entries[0].time).signed(signer))
    with pytest.raises(InvalidInput, match="another key"):
        make(statement, head=proof.Head(statement["store"], 7, root, entries[0].time).signed(stranger))
    with pytest.raises(InvalidInput, match="entry needs"):
        make(statement, head=None)
    with pytest.raises(InvalidInput, match="entry needs"):
        make(statement, entry=None)


def test_hexadecimal_has_one_spelling(make: Callable[..., dict[str, Any]], statement: dict[str, Any]) -> None:
    class Upper(bytes):
        def hex(self, *_: Any) -> str:
            return super().hex().upper()

    path = [Upper(bytes.fromhex(node)) for node in make(statement)["audit"]["path"]]
    with pytest.raises(InvalidInput, match="lower-case"):
        make(statement, proof=path)
