"""Entries of the audit log: one spelling, no room for personal data."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb.errors import CorruptStore, InvalidInput
from memodb.proof import OPS, Entry, code, pseudonym
from memodb.proof.entries import MAX_ENTRY_BYTES

CODES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
IDS = st.from_regex(r"[0-9a-f]{8,64}", fullmatch=True)
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28), timezones=ZONES)
ENTRIES = st.builds(
    Entry,
    seq=st.integers(0, 2**53 - 1),
    time=TIMES,
    op=st.sampled_from(sorted(OPS)),
    collection=st.none() | IDS,
    id=st.none() | IDS,
    actor=st.none() | CODES,
    reason=st.none() | CODES,
    until=st.none() | TIMES,
)


@given(ENTRIES)
def test_a_line_is_the_entry(entry: Entry) -> None:
    line = entry.to_bytes()
    assert Entry.from_bytes(line, seq=entry.seq) == entry
    assert Entry.from_bytes(line).to_bytes() == line
    assert len(line) <= MAX_ENTRY_BYTES
    assert line.isascii()
    assert b"\n" not in line
    assert b" " not in line
    assert list(json.loads(line)) == ["actor", "collection", "id", "op", "reason", "seq", "time", "until"]


@given(ENTRIES, st.data())
def test_a_changed_line_is_another_entry_or_none(entry: Entry, draw: st.DataObject) -> None:
    line = entry.to_bytes()
    at, bit = draw.draw(st.integers(0, len(line) - 1)), draw.draw(st.integers(0, 7))
    changed = line[:at] + bytes([line[at] ^ 1 << bit]) + line[at + 1 :]
    try:
        found = Entry.from_bytes(changed)
    except CorruptStore:
        return
    assert found != entry
    assert found.leaf() != entry.leaf()


def test_other_spellings_are_refused() -> None:
    line = Entry(3, datetime(2026, 5, 1, tzinfo=UTC), "hold", until=datetime(2027, 5, 1, tzinfo=UTC)).to_bytes()
    assert line == (
        b'{"actor":null,"collection":null,"id":null,"op":"hold","reason":null,"seq":3,'
        b'"time":"2026-05-01T00:00:00.000000+00:00","until":"2027-05-01T00:00:00.000000+00:00"}'
    )
    for old, new in [
        (b'"seq":3', b'"seq": 3'), (b'"seq":3', b'"seq":3.0'), (b'"seq":3', b'"seq":"3"'), (b'"seq":3', b'"seq":true'),
        (b'"seq":3', b'"seq":-3'), (b'"hold"', b'"hol\\u0064"'), (b"{", b'{"actor":null,'), (b"}", b"}\n"),
        (b"}", b',"x":1}'), (b'"actor":null,', b""), (b"2026-05-01T00:00:00.000000+00:00", b"2026-05-01T00:00:00Z"),
        (b"2026-05-01T00:00:00.000000+00:00", b"2026-05-01T02:00:00.000000+02:00"), (b"null", b"NaN"), (line, b"[]"),
        (line, b"[" * 600), (line, b""), (line, b"\xff"), (line, b"null"), (line, line + b" " * MAX_ENTRY_BYTES),
        (b'"hold"', b'["hold"]'), (b'"id":null', b'"id":{}'),
    ]:  # fmt: skip
        with pytest.raises(CorruptStore, match="audit entry 3"):
            Entry.from_bytes(line.replace(old, new, 1), seq=3)
    with pytest.raises(CorruptStore, match="audit entry 4 says that it is entry 3"):
        Entry.from_bytes(line, seq=4)


@pytest.mark.parametrize("value", ["", "Alice", "a b", "a\n", "é", "a" * 65, "-a", ".a", "a/b", "a@b.org", 7, None])
def test_free_text_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="personal data"):
        code("actor", value)
    if value is not None:
        for name in ("actor", "reason"):
            with pytest.raises(InvalidInput, match=name):
                Entry(0, datetime(2026, 5, 1, tzinfo=UTC), "hold", **{name: value})


@pytest.mark.parametrize(
    "value", ["", "alice", "AB" * 8, "ab" * 3, "ab" * 33, "abcdefgh", "12345678\n", 12345678, None]
)
def test_ids_that_could_tell_something_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="opaque"):
        pseudonym("id", value)
    if value is not None:
        for name in ("collection", "id"):
            with pytest.raises(InvalidInput, match=name):
                Entry(0, datetime(2026, 5, 1, tzinfo=UTC), "hold", **{name: value})


@pytest.mark.parametrize(
    "changed",
    [
        {"seq": -1}, {"seq": True}, {"seq": 2**53}, {"seq": "1"}, {"op": "deleted"}, {"op": None},
        {"time": datetime(2026, 5, 1)}, {"time": "2026-05-01"}, {"until": datetime(2026, 5, 1)},
        {"time": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=9)))},
    ],
)  # fmt: skip
def test_what_is_no_entry_is_refused(changed: dict[str, Any]) -> None:
    given = {"seq": 0, "time": datetime(2026, 5, 1, tzinfo=UTC), "op": "hold", **changed}
    with pytest.raises(InvalidInput):
        Entry(**given)
