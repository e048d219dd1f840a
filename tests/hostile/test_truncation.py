"""Files of a store cut short: a valid store, or a clear typed error; never another exception, never an empty store.

Every file is cut at every 37th byte at ``MEMODB_STRESS=10``; the sample takes some of these places, and always 0.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STEP = 37


def cuts(size: int, wanted: int) -> list[int]:
    """Places, multiples of the step: all of them, or so many spread over the file, its beginning and its end."""
    places = list(range(0, size, STEP))
    if len(places) <= wanted:
        return places
    return sorted({places[number * (len(places) - 1) // (wanted - 1)] for number in range(wanted)})


def cut(path: Path, keep: int) -> None:
    os.truncate(path, keep)


@pytest.mark.parametrize(
    "part",
    [-1, *(pytest.param(part, marks=pytest.mark.stress) for part in range(4))],
    ids=["sample", *(f"full {part + 1} of 4" for part in range(4))],
)
def test_a_file_cut_short_is_refused_or_not_missed(
    specimen: Any, tmp_path: Path, size: Callable[..., int], covered: Callable[..., None], part: int
) -> None:
    """Each cut is opened for reading, and for writing with ``create=True``, which must not begin a new store."""
    long = part >= 0
    count: Counter[str] = Counter()
    bad = []
    path = specimen.copy(tmp_path / "s")
    most = size(2, 500, long=long)
    for file in specimen.files():
        data = (specimen.path / file).read_bytes()
        wanted = most if file.name != "ballast" else min(most, 50)  # which holds nothing
        for keep in cuts(len(data), wanted)[max(part, 0) :: 4 if long else 1]:
            for writing in (False, True):
                if writing and (keep // STEP) % (4 if long else 2):
                    continue  # opening for writing may change any file, so it takes a copy of its own: not every time
                here = specimen.copy(tmp_path / f"{file.name} {keep}") if writing else path
                cut(here / file, keep)
                verdict = specimen.judge(here, read_only=not writing, create=writing)
                if not writing:
                    (path / file).write_bytes(data)
                what = f"{file} cut to {keep} of {len(data)} bytes, opened for {'writing' if writing else 'reading'}"
                if verdict.lies or verdict.untyped:
                    bad.append(f"{what}: {verdict.lies + verdict.untyped}")
                elif verdict.detected:
                    count["refused or found"] += 1
                elif verdict.wrong:
                    bad.append(f"{what}: not a word, and {verdict.wrong}")
                else:
                    count["as before"] += 1
    covered(cuts=sum(count.values()) + len(bad), **count, violations=len(bad))
    assert bad == []
    assert count["refused or found"] > 10


def test_a_catalog_cut_to_nothing_is_no_new_store(specimen: Any, tmp_path: Path) -> None:
    """What an interrupted creation leaves looks alike but for the files that come later."""
    path = specimen.copy(tmp_path / "s")
    for damage in (lambda: cut(path / "catalog.db", 0), (path / "catalog.db").unlink):
        damage()
        for read_only in (True, False):
            verdict = specimen.judge(path, read_only=read_only, create=not read_only)
            assert verdict.findings
            assert not verdict.wrong
            assert not verdict.untyped
        assert not (path / "catalog.db").exists() or (path / "catalog.db").stat().st_size == 0
