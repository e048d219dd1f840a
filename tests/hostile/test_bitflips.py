"""Flipped bits in every file of a store: harmless, or somebody is told; never a wrong text.

A flip is *harmless* where every row of every table is as before (free pages, counters of SQLite's header) or the file
means what it meant; *detected* where check() finds something or a typed error is raised at opening or reading; *missed*
where the content or an answer differs and nobody says so. The figure to reach is 0 missed of 10,000: MEMODB_STRESS=10.
"""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import memodb

LONG = pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["sample", "full"])
PARTS = pytest.mark.parametrize(
    "part",
    [-1, *(pytest.param(part, marks=pytest.mark.stress) for part in range(4))],
    ids=["sample", *(f"full {part + 1} of 4" for part in range(4))],
)
"""The longest of these tests in parts, which several processors can share (``pytest -n``)."""


def damage(rng: random.Random, data: bytes) -> tuple[str, int, bytes]:
    """Kind, place and bytes of a damage: mostly one bit; some bits near each other, a byte, a sector, a page."""
    kind = rng.choices(("bit", "bits", "byte", "sector", "page"), (80, 8, 6, 3, 3))[0]
    at = rng.randrange(len(data))
    for _ in range(3):  # most of a small catalog is free: zeros are hit, but not for the most part
        at = at if data[at] else rng.randrange(len(data))
    if kind in ("sector", "page"):
        length = 512 if kind == "sector" else 4096
        at -= at % length
        piece = data[at : at + length]
        return kind, at, rng.choice((bytes(len(piece)), rng.randbytes(len(piece)), data[: len(piece)]))
    if kind == "byte":
        return kind, at, bytes([data[at] ^ rng.randint(1, 255)])
    piece_ = bytearray(data[at : at + (1 if kind == "bit" else 16)])
    for _ in range(1 if kind == "bit" else rng.randint(2, 8)):
        piece_[rng.randrange(len(piece_))] ^= 1 << rng.randrange(8)
    return kind, at, bytes(piece_)


def chosen(rng: random.Random, specimen: Any) -> Path:
    """A file to damage: the catalog most often, tiles and the tokenizer often, the small ones sometimes."""
    files = [file for file in specimen.files() if (specimen.path / file).stat().st_size]
    weight = {"catalog.db": 6.0, "tokenizer.json.zst": 1.0}
    weights = [weight.get(file.name, 1.5 if file.parts[0] == "segments" else 0.2) for file in files]
    return rng.choices(files, weights)[0]


@PARTS
def test_no_flipped_bit_is_missed(
    specimen: Any,
    beside: Callable[[str], ModuleType],
    tmp_path: Path,
    size: Callable[..., int],
    covered: Callable[..., None],
    part: int,
) -> None:
    overwrite = beside("specimen").overwrite
    rng = random.Random(f"flips {part}")
    path = specimen.copy(tmp_path / "s")
    verdict = specimen.judge(path)
    assert verdict == type(verdict)(), "the store is sound before it is damaged"
    count: Counter[str] = Counter()
    missed, answered = [], 0
    cases = size(18, 250, long=part >= 0)
    for number in range(cases):
        file = chosen(rng, specimen)
        data = (specimen.path / file).read_bytes()
        kind, at, piece = damage(rng, data)
        before = data[at : at + len(piece)]
        overwrite(path / file, at, piece)
        try:
            changed = piece != before and specimen.changed(path, file)
            verdict = specimen.judge(path)
        finally:
            overwrite(path / file, at, before)
        case = f"{number}: {kind} at {at} of {file}"
        if verdict.lies or verdict.untyped:
            missed.append(f"{case}: {verdict.lies or verdict.untyped}")
        elif verdict.detected:
            count["detected"] += 1
            answered += bool(verdict.wrong)
        elif changed or verdict.wrong:
            missed.append(f"{case}: nobody said so; answers that differ: {verdict.wrong}")
        else:
            count["harmless"] += 1
    covered(flips=cases, **count, missed=len(missed), detected_by_check_yet_answered_from=answered)
    assert missed == []
    assert count["detected"] > cases // 5, "too blunt"
    assert specimen.judge(path) == type(verdict)(), "the damage was undone each time"


@LONG
def test_a_damaged_tile_is_mended(
    specimen: Any,
    beside: Callable[[str], ModuleType],
    tmp_path: Path,
    size: Callable[..., int],
    covered: Callable[..., None],
    long: bool,
) -> None:
    """check(fix=True) gives the store that was: clean, with the same digest; and every answer was right meanwhile."""
    rng = random.Random(f"tiles {long}")
    tile = specimen.tile()
    data = (specimen.path / tile).read_bytes()
    cases = size(5, 100, long=long)
    for number in range(cases):
        path = specimen.copy(tmp_path / str(number))
        _, at, piece = damage(rng, data)
        if data[at : at + len(piece)] == piece:
            continue
        beside("specimen").overwrite(path / tile, at, piece)
        with memodb.connect(path) as db:
            assert db.digest() == specimen.digest
            report = db.check(fix=True)
            assert report.findings
            assert report.fixed
            assert db.check().ok
            assert db.digest() == specimen.digest
            db.checkpoint()
        verdict = specimen.judge(path)
        assert verdict == type(verdict)()
    covered(flips=cases)


@LONG
def test_a_damaged_catalog_is_mended_or_stays_reported(
    specimen: Any,
    beside: Callable[[str], ModuleType],
    tmp_path: Path,
    size: Callable[..., int],
    covered: Callable[..., None],
    long: bool,
) -> None:
    """Opened for writing and mended: afterwards the truth again, or findings; and never a store that was made anew.

    A segment whose row is damaged is laid out anew, as by `compact()`: its digest is that of other matrices, which the
    check has compared with the same documents.
    """
    laid_out_anew = {f"{name}: digest" for name in specimen.truth}
    rng = random.Random(f"catalog {long}")
    data = (specimen.path / "catalog.db").read_bytes()
    cases = size(15, 200, long=long)
    count: Counter[str] = Counter()
    missed = []
    for number in range(cases):
        path = specimen.copy(tmp_path / str(number))
        kind, at, piece = damage(rng, data)
        beside("specimen").overwrite(path / "catalog.db", at, piece)
        if not specimen.changed(path, Path("catalog.db")):
            count["harmless"] += 1
            continue
        first = specimen.judge(path, read_only=False, create=True, fix=True)
        second = specimen.judge(path, read_only=False, create=True)
        case = f"{number}: {kind} at {at}"
        if first.lies or second.lies or first.untyped or second.untyped:
            missed.append(f"{case}: {first.lies + second.lies + first.untyped + second.untyped}")
        elif not first.detected:
            missed.append(f"{case}: nobody said so")
        elif second.detected:
            count["still reported"] += 1
        elif set(second.wrong) - laid_out_anew:
            missed.append(f"{case}: no longer reported, and wrong: {second.wrong}")
        else:
            count["mended"] += 1
    covered(flips=cases, **count, missed=len(missed))
    assert missed == []
