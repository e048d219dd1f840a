"""Hostile rows of the catalog: what they name, claim or weigh must not lead out of the store, nor cost more than it.

The attacker may write the catalog and knows how its rows are sealed (`rows.py`): here the product's own functions write
them where they take the value, and SQL where they do not.
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import memodb
from memodb.memory import Backend
from memodb.memory.willshaw import WillshawMatrix
from memodb.storage import destroy_orphans, read_tile, write_tile

Update = Callable[..., None]


def in_turn(cases: Iterable[Any]) -> list[Any]:
    """Every second case, opened for reading or for writing in turn; under stress the others, and all in both ways."""
    return [
        pytest.param(
            case,
            bool(writing),
            marks=() if number % 4 == 2 * writing else pytest.mark.stress,
            id=f"{name}-{how}",
        )
        for number, case in enumerate(cases)
        for name in [case if isinstance(case, str) else number]
        for writing, how in enumerate(("reading", "writing"))
    ]


def test_a_row_that_is_sealed_again_is_believed(specimen: Any, update: Update, tmp_path: Path) -> None:
    """Else the tests of this file would show no more than that seals are looked at."""
    path = specimen.copy(tmp_path / "s")
    update(path, "UPDATE document SET expires_at = expires_at + 1000000 WHERE expires_at IS NOT NULL")
    verdict = specimen.judge(path)
    assert not verdict.detected
    assert verdict.wrong


TILES = (
    "../{tile}",
    "../../outside/{tile}",
    "../outside/{tile}",
    "{outside}/{tile}",
    "./{tile}",
    "{tile}/",
    "{tile}\n",
    "{TILE}",
    "",
    ".",
    "..",
    "../catalog.db",
    "../tokenizer.json.zst",
    "../LOCK",
    "{outside}/precious",
    "/etc/passwd",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/mem",
    "file:{tile}",
    "{tile}\0",
    "\udc80",
    "%2e%2e%2f{tile}",
    "{tile}" * 100,
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if number % 3 == 0 else pytest.mark.stress) for number, name in enumerate(TILES)],
    ids=range(len(TILES)),
)
def test_no_tile_s_name_leads_out_of_its_directory(
    specimen: Any, update: Update, beside: Callable[[str], ModuleType], tmp_path: Path, name: str
) -> None:
    """Reading, checking, sweeping, deleting: the same sound tile lies outside, and nothing there is touched or used."""
    listing = beside("specimen").listing
    path, outside = specimen.copy(tmp_path / "s"), tmp_path / "outside"
    outside.mkdir()
    tile = specimen.tile().name
    (outside / tile).write_bytes((path / specimen.tile()).read_bytes())
    (outside / "precious").write_text("mine")
    before = listing(outside)
    hostile = name.format(tile=tile, TILE=tile.upper(), outside=outside)
    with pytest.raises(memodb.CorruptStore, match="not the digest of a header"):
        read_tile(path / "segments", hostile, specimen.tile_key())
    stored: Any = hostile.encode("utf-8", "surrogateescape")
    column = "CAST(? AS TEXT)"
    update(path, f"UPDATE segment SET tile = {column} WHERE tile = '{tile}'", stored)
    verdict = specimen.judge(path)
    assert verdict.detected
    assert not verdict.untyped
    assert not verdict.lies
    with contextlib.suppress(memodb.MemodbError), memodb.connect(path) as db:
        with contextlib.suppress(memodb.MemodbError):
            assert db.digest() == specimen.digest
        with contextlib.suppress(memodb.MemodbError):
            db.check(fix=True)
        with contextlib.suppress(memodb.MemodbError):
            db.delete("document 1", verify=False)
        with contextlib.suppress(memodb.MemodbError):
            db.compact()
        with contextlib.suppress(memodb.MemodbError):
            db.checkpoint()
    assert listing(outside) == before
    assert (path / "catalog.db").exists()
    assert (path / "LOCK").exists()


def test_a_tile_that_is_a_link_is_no_tile(specimen: Any, tmp_path: Path) -> None:
    """Even to the very bytes: what is outside may change between two looks at it."""
    path = specimen.copy(tmp_path / "s")
    tile = path / specimen.tile()
    tile.rename(tmp_path / "outside")
    tile.symlink_to(tmp_path / "outside")
    with pytest.raises(memodb.CorruptStore):
        read_tile(path / "segments", tile.name, specimen.tile_key())
    assert specimen.judge(path).detected
    (path / "segments").rename(tmp_path / "folder")
    (path / "segments").symlink_to(tmp_path / "folder")
    with pytest.raises(memodb.CorruptStore):
        read_tile(path / "segments", tile.name, specimen.tile_key())


def other(value: Any) -> Any:
    """Another value of the same kind: what a flipped bit, or a hand, would make of it."""
    if value is None:
        return 7
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"x"
    return value[:-1] + chr(ord(value[-1]) ^ 1) if value else "x"


def columns(path: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(path / "catalog.db")) as raw:
        tables = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        named = [(table, row[1]) for table in tables for row in raw.execute(f"PRAGMA table_info({table})")]
    # versions are only ever compared for change; keys that are doomed are gone when the call that doomed them returns
    return [(table, column) for table, column in named if column != "version" and table != "doomed_key"]


def test_no_column_of_any_table_changes_unseen(specimen: Any, tmp_path: Path, covered: Callable[..., None]) -> None:
    """One value in each column of each table, as SQL would set it: every row is sealed, and a check says so."""
    unseen = []
    every = columns(specimen.path)
    for number, (table, column) in enumerate(every):
        path = specimen.copy(tmp_path / str(number))
        with contextlib.closing(sqlite3.connect(path / "catalog.db")) as raw, raw:
            triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                raw.execute(f"DROP TRIGGER {name}")
            (value,) = raw.execute(f"SELECT max({column}) FROM {table}").fetchone()
            where = f"{column} IS ?" if value is None else f"{column} = ?"
            key = {"document": "place", "segment": "id", "collection": "id", "erasure": "id", "backup": "id"}.get(
                table, column
            )
            (row,) = raw.execute(f"SELECT max({key}) FROM {table} WHERE {where}", (value,)).fetchone()
            raw.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (other(value), row))
            for _, sql in triggers:
                raw.execute(sql)
        if not told(path):
            unseen.append(f"{table}.{column}: {value!r:.40} became {other(value)!r:.40}")
    covered(columns=len(every))
    assert unseen == []


def told(path: Path) -> bool:
    """Whether opening a store, or a check of one of its collections, says that something is wrong."""
    try:
        with memodb.connect(path, read_only=True) as db:
            return not all(db.collection(info.name, create=False).check().ok for info in db.collections())
    except memodb.MemodbError:
        return True


def test_every_table_of_the_specimen_has_rows(specimen: Any) -> None:
    """Else a column of an empty one would be changed in no row."""
    with contextlib.closing(sqlite3.connect(specimen.path / "catalog.db")) as raw:
        tables = {table for table, _ in columns(specimen.path)}
        assert all(raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)
    assert {"erasure", "hold", "suppression", "audit", "backup"} <= tables


VALUES: tuple[Any, ...] = (None, 7, -3, 2**63 - 1, -(2**63), 1.5, "", "x" * 16, b"", b"x" * 16, "null", "[]", b"\xff")


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["sample", "full"])
def test_a_value_of_another_type_is_damage(
    specimen: Any, update: Update, tmp_path: Path, covered: Callable[..., None], long: bool
) -> None:
    """SQLite stores any type in any column: under a right seal only those who use the value can refuse it."""
    untyped, cases = [], 0
    targets = [*columns(specimen.path), ("doomed_key", "name")]
    for number, (table, column) in enumerate(targets if long else targets[::3]):
        for at, value in list(enumerate(VALUES))[0 if long else number % len(VALUES) :: 1 if long else len(VALUES)]:
            path = specimen.copy(tmp_path / f"{number} {at}")
            statement = f"UPDATE {table} SET {column} = ?"
            if table == "doomed_key":
                statement = "INSERT INTO doomed_key VALUES (?)"
            elif table in ("document", "audit", "erasure", "setting"):
                key = {"document": "place", "audit": "seq", "erasure": "id", "setting": "name"}[table]
                statement += f" WHERE {key} = (SELECT max({key}) FROM {table})"
            try:
                update(path, statement, value)
            except sqlite3.Error:  # the schema itself refuses it
                continue
            for writing in (False, True) if long else (bool((number + at) % 2),):
                verdict = specimen.judge(path, read_only=not writing)
                cases += 1
                if verdict.untyped or verdict.lies:
                    untyped.append((table, column, value, writing, verdict.untyped + verdict.lies))
    covered(cases=cases)
    assert untyped == []


def test_orphans_behind_a_link_are_somebody_else_s(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (tmp_path / "segments").symlink_to(outside)
    with pytest.raises(memodb.StoreError):
        destroy_orphans(tmp_path / "segments", set())
    with pytest.raises(memodb.StoreError):
        write_tile(tmp_path / "segments", {}, {}, bytes(32))
    assert [found.name for found in outside.iterdir()] == ["precious"]
    real = tmp_path / "real"
    real.mkdir()
    (real / "link").symlink_to(outside / "precious")
    (real / "folder link").symlink_to(outside)
    (real / "folder").mkdir()
    (real / "second name").hardlink_to(outside / "precious")
    assert destroy_orphans(real, set()).names == ("folder link", "link", "second name")
    assert (outside / "precious").read_text() == "mine"
    assert [found.name for found in real.iterdir()] == ["folder"]


GEOMETRIES: list[Any] = [
    None,
    1,
    "x",
    [],
    {},
    {"rows": []},
    {"rows": [8, 8], "provenance_rows": 8},
    {"rows": "88", "provenance_rows": 8},
    {"rows": [-8, 8], "provenance_rows": 8},
    {"rows": [0, 0], "provenance_rows": 0},
    {"rows": [7, 9], "provenance_rows": 5},
    {"rows": [10**12, 8], "provenance_rows": 8},
    {"rows": [2**63, 8], "provenance_rows": 8},
    {"rows": [8.0, 8.5], "provenance_rows": 8},
    {"rows": [True, True], "provenance_rows": True},
    {"rows": [8] * 9, "provenance_rows": 8},
    {"rows": {"a": 1}, "provenance_rows": 8},
    {"rows": [48, 48], "provenance_rows": 48, "ordinal": -1},
    {"rows": [48, 48], "provenance_rows": 48, "ordinal": 10**9},
    {"rows": [48, 48], "provenance_rows": 48, "ordinal": "0"},
]
SETTINGS: list[Any] = [
    None,
    1,
    [],
    {},
    "store",
    {"tokenizer": 1},
    {"tokenizer": "00"},
    {"tokenizer": None, "configuration": None},
    {"configuration": {}},
    {"configuration": {"vocabulary": 61, "exec": "id"}},
    {"configuration": {"vocabulary": 10**12}},
    {"configuration": {"vocabulary": 2**31 - 4}},
    {"configuration": {"vocabulary": 61, "columns": 2**40}},
    {"configuration": {"vocabulary": 61, "layers": 10**6}},
    {"configuration": {"vocabulary": -1}},
    {"configuration": {"vocabulary": 61, "segment_tokens": -5}},
    {"configuration": {"vocabulary": 61.5}},
    {"configuration": [61]},
    {"configuration": {"vocabulary": 61, "false_recall": "x"}},
    {"tokenizer": "../../x"},
]


AUDITS: list[Any] = [
    None, 1, [], {}, "x", {"store": 1}, {"public_key": 2}, {"public_key": None}, {"store": "../../x"},
    {"public_key": "-----BEGIN PUBLIC KEY-----"}, {"store": None, "public_key": None},
]  # fmt: skip
REPLAYS: list[Any] = ["x", 1e300, -5, 2**62, 2**70, [1], True, 1.5, {}, 0]


@pytest.mark.parametrize(("setting", "writing"), in_turn(AUDITS))
def test_a_hostile_binding_to_a_ledger_is_refused(
    specimen: Any, update: Update, beside: Callable[[str], ModuleType], tmp_path: Path, setting: Any, writing: bool
) -> None:
    """It names the store, and the key that its receipts are signed with: no other file comes of it."""
    path = specimen.copy(tmp_path / "s")
    with contextlib.closing(sqlite3.connect(path / "catalog.db")) as raw:
        honest = json.loads(raw.execute("SELECT value FROM setting WHERE name = 'audit'").fetchone()[0])
    stated = {**honest, **setting} if isinstance(setting, dict) and setting else setting
    update(path, "UPDATE setting SET value = ? WHERE name = 'audit'", json.dumps(stated, sort_keys=True))
    before = beside("specimen").listing(tmp_path).keys()
    verdict = specimen.judge(path, read_only=not writing)
    assert not verdict.untyped
    assert not verdict.lies
    assert {name for name in beside("specimen").listing(tmp_path).keys() - before if not name.startswith("s/")} == set()


@pytest.mark.parametrize("value", REPLAYS, ids=str)
def test_a_hostile_note_of_what_is_to_be_replayed_is_refused(
    specimen: Any, update: Update, tmp_path: Path, value: Any
) -> None:
    for name, others in (("replay from", {}), ("replay to", {"replay from": 0})):
        path = specimen.copy(tmp_path / name)
        for given, number in {name: value, **others}.items():
            update(path, "INSERT INTO setting VALUES (?, ?, x'')", given, json.dumps(number))
        verdict = specimen.judge(path, read_only=False, checking=False)
        assert not verdict.untyped
        assert not verdict.lies


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(("geometry", "writing"), in_turn(GEOMETRIES))
def test_a_hostile_geometry_is_refused(
    specimen: Any, update: Update, tmp_path: Path, geometry: Any, writing: bool
) -> None:
    path = specimen.copy(tmp_path / "s")
    if isinstance(geometry, dict):
        geometry = {"ordinal": 0, **geometry}
    text = json.dumps(geometry, sort_keys=True, separators=(",", ":"))
    update(path, "UPDATE segment SET geometry = ? WHERE id = (SELECT min(id) FROM segment)", text)
    verdict = specimen.judge(path, read_only=not writing)
    assert verdict.detected
    assert not verdict.untyped
    assert not verdict.lies


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(("setting", "writing"), in_turn(SETTINGS))
def test_a_hostile_setting_is_refused(
    specimen: Any, update: Update, tmp_path: Path, setting: Any, writing: bool
) -> None:
    path = specimen.copy(tmp_path / "s")
    with contextlib.closing(sqlite3.connect(path / "catalog.db")) as raw:
        honest = json.loads(raw.execute("SELECT value FROM setting WHERE name = 'store'").fetchone()[0])
    if isinstance(setting, dict) and setting:
        given = setting.get("configuration")
        if isinstance(given, dict) and given:
            setting = {"configuration": {**honest["configuration"], **given}}
        setting = {**honest, **setting}
    tokenizer = (path / "tokenizer.json.zst").read_bytes()
    update(path, "UPDATE setting SET value = ? WHERE name = 'store'", json.dumps(setting, sort_keys=True))
    verdict = specimen.judge(path, read_only=not writing, create=writing)
    assert verdict.detected
    assert not verdict.untyped
    assert not verdict.lies
    assert (path / "tokenizer.json.zst").read_bytes() == tokenizer


def test_a_lost_setting_is_no_unfinished_store(specimen: Any, update: Update, tmp_path: Path) -> None:
    """Finishing a creation writes a tokenizer and a configuration: over a store's own, that would be the end of it."""
    for number, statement in enumerate(
        ("DELETE FROM setting WHERE name = 'store'", "UPDATE setting SET name = 'stose' WHERE name = 'store'")
    ):
        path = specimen.copy(tmp_path / str(number))
        tokenizer = (path / "tokenizer.json.zst").read_bytes()
        update(path, statement)
        for writing in (False, True):
            verdict = specimen.judge(path, read_only=not writing, create=writing)
            assert verdict.detected
            assert not verdict.wrong
        assert (path / "tokenizer.json.zst").read_bytes() == tokenizer


def symbols(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return arrays["symbols"]


ARRAYS: dict[str, Callable[[dict[str, Any], dict[str, np.ndarray]], Any]] = {
    "no symbols": lambda facts, a: a.pop("symbols"),
    "symbols of another type": lambda facts, a: a.update(symbols=a["symbols"].astype(np.int64)),
    "symbols as bytes": lambda facts, a: a.update(symbols=a["symbols"].view(np.uint8)),
    "symbols twice": lambda facts, a: a.update(symbols=np.repeat(a["symbols"], 2)),
    "symbols backwards": lambda facts, a: a.update(symbols=a["symbols"][::-1].copy()),
    "symbols of nobody": lambda facts, a: a.update(symbols=a["symbols"] + np.uint64(1)),
    "a symbol less": lambda facts, a: a.update(symbols=a["symbols"][1:]),
    "no symbols in it": lambda facts, a: a.update(symbols=a["symbols"][:0]),
    "no cells": lambda facts, a: a.pop("low 0"),
    "cells that are not packed": lambda facts, a: a.update({"cells 0": a.pop("low 0").repeat(4)}),
    "cells of eight bytes": lambda facts, a: a.update({"low 0": a["low 0"].astype(np.int64)}),
    "cells as larger numbers": lambda facts, a: a.update({"low 0": a["low 0"].astype(np.uint64) << np.uint64(9)}),
    "four cells less": lambda facts, a: a.update({"low 1": a["low 1"][1:]}),
    "four cells more": lambda facts, a: a.update({"low 1": np.append(a["low 1"], np.uint8(0))}),
    "a hundred times the cells": lambda facts, a: a.update({"low 0": np.zeros(100 * a["low 0"].size, np.uint8)}),
    "a count more": lambda facts, a: a.update({"low 0": a["low 0"] ^ (np.arange(a["low 0"].size) == 9).astype("u1")}),
    "all counts zero": lambda facts, a: a.update({"low 0": np.zeros_like(a["low 0"])}),
    "all counts 3 and more": lambda facts, a: a.update({"low 0": np.full_like(a["low 0"], 255)}),
    "all counts 15": lambda facts, a: a.update(
        {"low 0": np.full_like(a["low 0"], 255), "more 0": np.full(4 * a["low 0"].size, 15, np.uint8)}
    ),
    "larger counts than four bits have": lambda facts, a: a.update({"more 0": a["more 0"] | np.uint8(16)}),
    "no larger counts": lambda facts, a: a.pop("more 0"),
    "a larger count less": lambda facts, a: a.update({"more 0": a["more 0"][1:]}),
    "a larger count more": lambda facts, a: a.update({"more 0": np.append(a["more 0"], np.uint8(3))}),
    "a larger count below 3": lambda facts, a: a.update({"more 0": a["more 0"] * (np.arange(a["more 0"].size) > 0)}),
    "larger counts of eight bytes": lambda facts, a: a.update({"more 0": a["more 0"].astype(np.int64)}),
    "large without counts": lambda facts, a: a.update({"large 0": np.array([1, 2])}),
    "large out of range": lambda facts, a: a.update({"large 0": np.array([2**62]), "large_counts 0": np.array([300])}),
    "large negative": lambda facts, a: a.update({"large 0": np.array([-1]), "large_counts 0": np.array([300])}),
    "no table": lambda facts, a: a.pop("large_counts 1"),
    "matrices exchanged": lambda facts, a: a.update({"low 0": a["low 1"], "low 1": a["low 0"]}),
    "one array more": lambda facts, a: a.update({"low 9": np.zeros(9, np.uint8)}),
    "larger counts of nothing": lambda facts, a: a.update({"more 9": np.zeros(9, np.uint8)}),
    "tokens missing": lambda facts, a: facts.pop("tokens"),
    "tokens negative": lambda facts, a: facts.update(tokens=-1),
    "tokens as text": lambda facts, a: facts.update(tokens="7"),
    "tokens true": lambda facts, a: facts.update(tokens=True),
    "tokens as a float": lambda facts, a: facts.update(tokens=float(facts["tokens"])),
    "tokens beyond": lambda facts, a: facts.update(tokens=2**63),
    "tokens one more": lambda facts, a: facts.update(tokens=facts["tokens"] + 1),
    "tokens none": lambda facts, a: facts.update(tokens=None),
    "geometry missing": lambda facts, a: facts.pop("geometry"),
    "geometry as text": lambda facts, a: facts.update(geometry="x"),
    "no facts": lambda facts, a: facts.clear(),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(("change", "writing"), in_turn(ARRAYS))
def test_arrays_that_contradict_each_other_are_not_believed(
    specimen: Any, tmp_path: Path, change: str, writing: bool
) -> None:
    """A sound tile of unsound contents, named by a sealed row: the documents decide, and the check tells."""
    path = specimen.copy(tmp_path / "s")
    facts, stored = read_tile(path / "segments", specimen.tile().name, specimen.tile_key())
    arrays, key = dict(stored), bytes(range(32))
    ARRAYS[change](facts, arrays)
    specimen.name_tile(path, write_tile(path / "segments", facts, arrays, key), key)
    verdict = specimen.judge(path, read_only=not writing)
    assert verdict.findings
    assert not verdict.untyped
    assert not verdict.lies


COUNTS = ([300], [14], [0], [-1], [2**63 - 1], [-(2**63)])


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_a_large_count_must_be_large(specimen: Any, counts: list[int]) -> None:
    """15 in a cell points into the table of large counts: a small number there would be read as the truth."""
    matrix = WillshawMatrix(Backend(np), 8, 64)
    cells = np.zeros(256, dtype=np.uint8)
    cells[1] = 15 << 4
    honest = counts[0] >= 15
    with contextlib.nullcontext() if honest else pytest.raises(memodb.CorruptStore):
        matrix.restore(cells, np.array([3]), np.array(counts))
        assert matrix.counts_of(np.array([3])).tolist() == counts


@pytest.mark.parametrize("name", ["cells", "large", "large_counts"])
def test_counts_must_be_of_their_type(name: str) -> None:
    """Eight-byte cells would be believed by comparisons, and misread by whatever packs bits."""
    honest = {"cells": np.zeros(256, np.uint8), "large": np.zeros(0, np.int64), "large_counts": np.zeros(0, np.int64)}
    WillshawMatrix(Backend(np), 8, 64).restore(**honest)
    for kind in (np.uint16, np.uint64, np.float64, np.bool_):
        with pytest.raises(memodb.CorruptStore):
            WillshawMatrix(Backend(np), 8, 64).restore(**{**honest, name: honest[name].astype(kind)})
