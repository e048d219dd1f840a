"""A disk that is really full, and one that is mounted read-only: a small tmpfs, where the kernel says no.

The shim refuses calls by number; a real disk refuses by need, so that a deletion can make the room it needs: for that a
store keeps a ballast.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash.harness import DIE_BEFORE, Case, Stock
from crash.sizes import size
from crash.verifying import SETTINGS, verify
from crash.workload import DEFAULT, Scenario, Step, source_of, text_of

import memodb

THOROUGH_EVERY = 10
STOCK = 24
"""Documents that a store holds before its disk is filled."""


def documents() -> dict[str, str]:
    return {f"s{n}": text_of(f"s{n}", n, 40) for n in range(STOCK)}


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """The command that gives a program a mount namespace, in which it may mount a tmpfs; skips where there is none."""
    unshare, mount = shutil.which("unshare"), shutil.which("mount")
    if unshare is None or mount is None:
        pytest.skip("a disk can only be filled where unshare(1) and mount(8) are: Linux with util-linux")
    command = [unshare, "--mount", "--map-root-user"]
    trial = [*command, mount, "-t", "tmpfs", "tmpfs", "/mnt"]
    tried = subprocess.run(trial, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this user may not mount a tmpfs: {tried.stderr.strip()}")
    return command


def run(namespace: list[str], *arguments: object) -> list[dict[str, Any]]:
    """The lines that filling.py says."""
    done = subprocess.run(
        [*namespace, sys.executable, str(Path(__file__).with_name("filling.py")), *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(memodb.__file__).parents[1]),
            "TOKENIZERS_PARALLELISM": "false",
            "OPENBLAS_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def make_stock(path: Path) -> None:
    with memodb.connect(path, **SETTINGS) as db:
        for number, (name, text) in enumerate(documents().items()):
            db.append(text, id=name, source=source_of(name))
            if number == STOCK // 2:
                db.checkpoint()


def fill(namespace: list[str], disk: Path, count: int, seed: int = 1) -> dict[str, int]:
    stock, mount, out = disk / "stock", disk / "mount", disk / "out"
    make_stock(stock)
    mount.mkdir()
    out.mkdir()
    acknowledged = refused = deleted = 0
    lines = run(namespace, "fill", mount, stock, out, count, seed)
    assert len(lines) == count
    for number, told in enumerate(lines):
        assert "problem" not in told, f"with {told['free']} bytes free: {told['problem']}"
        for message in told["refused"]:
            assert "space" in message, message
        acknowledged += told["acknowledged"]
        refused += len(told["refused"])
        deleted += told["deleted"]
        state = frozenset((DEFAULT, name, text) for name, text in told["state"])
        known = state | {(DEFAULT, name, text) for name, text in documents().items()}
        verify(out / str(number) / "store", [state], known, thorough=number % THOROUGH_EVERY == 0)
        shutil.rmtree(out / str(number))
    return {"fills": count, "appends_acknowledged": acknowledged, "appends_refused": refused, "deleted": deleted}


def test_a_full_disk_refuses_appends_and_completes_erasures(
    namespace: list[str], disk: Path, figures: Callable[..., None]
) -> None:
    figures(**fill(namespace, disk, size(2, 0, long=False)))


@pytest.mark.stress
def test_disks_filled_to_every_page_refuse_appends_and_complete_erasures(
    namespace: list[str], disk: Path, figures: Callable[..., None]
) -> None:
    """At factor 1 the hundred fills of docs/reliability.md."""
    figures(**fill(namespace, disk, size(0, 100, long=True), seed=2))


def test_a_read_only_disk_serves_readers_and_tells_writers(namespace: list[str], disk: Path) -> None:
    make_stock(disk / "stock")
    (disk / "mount").mkdir()
    writer, reader = run(namespace, "readonly", disk / "mount", disk / "stock")
    assert writer["known"], writer
    assert "read_only=True" in writer["message"]
    assert reader["ok"]
    assert dict(reader["state"]) == documents()


def test_a_read_only_disk_with_an_interrupted_write_is_refused_in_words(
    namespace: list[str], disk: Path, stock: Stock
) -> None:
    """A reader cannot roll a journal back there, and must not answer from a half-written catalog."""
    (first, second, *_) = documents().items()
    steps = (Step("open"), Step("append", put=(first,)), Step("append", put=(second,)))
    scenario = Scenario("read-only disk", (), steps)
    (disk / "mount").mkdir()
    changes = len(stock.changes(scenario))
    interrupted = 0
    for back in range(1, 8, 2):
        root, _ = stock.copy(scenario)
        assert stock.zygote.run(Case(root, steps, DIE_BEFORE, changes - back)).killed
        reader = run(namespace, "readonly", disk / "mount", root / "store")[1]
        if "error" in reader:
            assert reader["known"], reader
            assert "interrupted write" in reader["message"]
            interrupted += 1
        else:
            assert reader["ok"]
            assert len(reader["state"]) in (1, 2)
    assert interrupted
