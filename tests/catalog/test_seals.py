"""Damage to any row of any table is named by `check`."""

from datetime import UTC, datetime
from typing import Any

import pytest

from memodb.catalog import check, erasing, history, keeping, registry
from memodb.catalog.models import TABLES

T0 = datetime(2024, 5, 17, tzinfo=UTC)

# A lost row of doomed_key leaves an orphan: a key that nothing names, which the store finds by comparing all the names
# it knows with the keys that there are. One too many could only be the name of no key, since names are random: so
# these rows need no seal, and a key service passes over what it does not have.
UNSEALED = {"doomed_key"}
UNSEALED_COLUMNS = {"seal", "version", "segment_id", "state", "erasure_id"}
"""Counters, and what foreign keys or a list of known values guard."""


@pytest.fixture
def furnished(house: Any) -> Any:
    """A row in every table."""
    house.insert(house.new("d", place=5, source="s", expires_at=datetime.max.replace(tzinfo=UTC), text="t", batch="b"))
    with house.catalog.write() as session:
        registry.put_setting(session, "a", 1)
        registry.set_tile(session, house.collection, house.segment, "tile", b"tile key")
        registry.doom(session, [b"doomed"])
        erasing.add_erasure(session, erasing.ErasureRow("e", house.collection, "requested", T0, {}), [bytes(16)])
        erasing.set_receipt(session, "e", "receipt")
        keeping.add_hold(session, house.collection, "case", [5], T0)
        keeping.add_suppression(session, house.collection, b"digest", T0)
        history.append_lines(session, [b"line"])
        history.add_backup(session, history.BackupRow("b", T0, T0))
        history.destroy_backup(session, "b", T0)
        assert check(session, house.collection) == []
    return house


def test_every_table_is_sealed_but_one() -> None:
    assert {name for name, table in TABLES.items() if "seal" not in table.columns} == UNSEALED


NOBODYS = {("collection", "id"), ("segment", "collection_id"), ("document", "collection_id")}
"""Changed, these take rows out of what is looked at: the rows that refer to them tell, to `integrity`."""

ROW_KEYS = {("document", "place"), ("audit", "seq")}
"""Integers by SQLite's own rule."""


def changed(kind: str, value: Any) -> Any:
    """Another value of the same kind, one bit away where there is one."""
    match kind:
        case "integer":
            return value ^ 1 << 3
        case "text":
            return value[:-1] + chr(ord(value[-1]) ^ 1)
        case "blob":
            return value[:-1] + bytes([value[-1] ^ 16])
    return "x"


@pytest.mark.parametrize("table", sorted(set(TABLES) - UNSEALED))
def test_a_changed_row_is_named(furnished: Any, table: str) -> None:
    with furnished.outside() as raw:
        for column in (one.name for one in TABLES[table].columns):
            if column in UNSEALED_COLUMNS or (table, column) in NOBODYS:
                continue
            first = f"FROM {table} ORDER BY {', '.join(TABLES[table].primary_key.columns.keys())} LIMIT 1"
            kind, value, seal = raw.execute(f"SELECT typeof({column}), {column}, seal {first}").fetchone()
            for damage in (changed(kind, value), b"\xff\x00"):
                if (table, column) in ROW_KEYS and isinstance(damage, bytes):
                    continue
                raw.execute(f"UPDATE {table} SET {column} = ? WHERE seal = ?", (damage, seal))
                with furnished.catalog.read() as session:
                    findings = check(session, furnished.collection)
                assert any(finding.startswith(f"{table} ") for finding in findings), (column, damage, findings)
                raw.execute(f"UPDATE {table} SET {column} = ? WHERE seal = ?", (value, seal))
    with furnished.catalog.read() as session:
        assert check(session, furnished.collection) == []


@pytest.mark.parametrize("table", sorted(set(TABLES) - UNSEALED - {"document"}))
def test_a_lost_seal_is_named(furnished: Any, table: str) -> None:
    with furnished.outside() as raw:
        raw.execute(f"UPDATE {table} SET seal = x''")
        ((count,),) = raw.execute(f"SELECT count(*) FROM {table}").fetchall()
    with furnished.catalog.read() as session:
        findings = check(session, furnished.collection)
    assert len(findings) == count > 0
    assert all(finding.endswith(": its row is not as it was written") for finding in findings)


def test_rows_of_one_kind_do_not_pass_for_each_other(furnished: Any) -> None:
    """A seal covers which row it is: the contents of two lines exchanged, seals and all, are seen."""
    with furnished.catalog.write() as session:
        history.append_lines(session, [b"another"])
    with furnished.outside() as raw:
        rows = raw.execute("SELECT entry, seal FROM audit ORDER BY seq").fetchall()
        for seq, row in enumerate(reversed(rows)):
            raw.execute("UPDATE audit SET entry = ?, seal = ? WHERE seq = ?", (*row, seq))
    with furnished.catalog.read() as session:
        assert [finding.split(":")[0] for finding in check(session, furnished.collection)] == ["audit 0", "audit 1"]
        assert list(history.lines(session)) == [b"another", b"line"]


@pytest.mark.parametrize(
    "table",
    [
        "document",
        "erasure",
    ],
)
def test_a_state_that_nobody_knows_is_named(furnished: Any, table: str) -> None:
    with furnished.outside() as raw:
        raw.execute(f"UPDATE {table} SET state = 'mive'")
    with furnished.catalog.read() as session:
        findings = check(session, furnished.collection)
    assert [finding.split()[0] for finding in findings] == [table]


@pytest.mark.parametrize("table", ["setting", "erasure", "hold", "backup"])
def test_a_name_that_is_no_text_any_more_is_named(furnished: Any, table: str) -> None:
    column = {"erasure": "id", "backup": "id"}.get(table, "name")
    with furnished.outside() as raw:
        raw.execute(f"UPDATE {table} SET {column} = CAST(x'61ff' AS TEXT) WHERE {column} IN ('a', 'b', 'e', 'case')")
    with furnished.catalog.read() as session:
        findings = check(session, furnished.collection)
    assert any(finding.startswith(table) for finding in findings)
