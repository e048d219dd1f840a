"""Fills a real disk under a store, or makes it read-only: run in a mount namespace of its own, where it may mount one.

    unshare --mount --map-root-user python filling.py fill MOUNT STOCK OUT COUNT SEED
    unshare --mount --map-root-user python filling.py readonly MOUNT STOCK

``STOCK`` holds a store to begin from; ``MOUNT`` is an empty directory. A line of JSON for every fill, and a copy of the
store that it left in ``OUT``, because the disk vanishes with this process. Everything that goes wrong is told, in the
words of an exception, and judged by test_full_disk.py.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memodb
from memodb.errors import StoreError

sys.path.insert(0, str(Path(__file__).parent))
import workload

DISK = "6m"
PAGE = 4096
SETTINGS: dict[str, Any] = {"segment_tokens": 4096, "seed": workload.seed_of(workload.DEFAULT)}
PAGES = 16
"""Free space goes from none to so many pages: few enough that a few dozen appends use them up."""
FIRST, THEN = 200, 8
"""Appends at most, before the first deletions and after the last: each ends when the disk refuses."""


class Fill:
    """One store, one amount of free space, and what was said."""

    def __init__(self, mount: Path, stock: Path, chance: random.Random, free: int) -> None:
        self.mount = mount
        self.chance = chance
        self.free = free
        self.acknowledged = 0
        self.refused: list[str] = []
        self.deleted = 0
        for found in mount.iterdir():
            shutil.rmtree(found) if found.is_dir() else found.unlink()
        shutil.copytree(stock, mount / "store")
        with memodb.connect(mount / "store", **SETTINGS) as db:
            self.state = {document.id: db.text(document.id) for document in db.documents()}

    def __call__(self) -> dict[str, Any]:
        opened_first = self.chance.random() < 0.5
        db = memodb.connect(self.mount / "store", **SETTINGS) if opened_first else None
        self.fill_disk()
        if db is None:
            db = memodb.connect(self.mount / "store", **SETTINGS)  # a full disk can be opened: how else to delete?
        with db:
            self.append(db, FIRST)
            assert self.refused, "the disk was never full"
            self.erase(db)
            self.require(db)
        with memodb.connect(self.mount / "store", **SETTINGS) as db:
            self.require(db)
            self.erase(db)
            self.append(db, THEN)
            self.require(db)
        return {
            "free": self.free,
            "opened_first": opened_first,
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "deleted": self.deleted,
            "state": sorted(self.state.items()),
        }

    def fill_disk(self) -> None:
        found = os.statvfs(self.mount)
        filler = os.open(self.mount / "filler", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(filler, 0, max(PAGE, found.f_bavail * found.f_frsize - self.free))
        finally:
            os.close(filler)

    def append(self, db: memodb.Store, most: int) -> None:
        """Append until the disk refuses, and a few times more."""
        refusals = 0
        for _ in range(most):
            name = f"n{len(self.state)}.{len(self.refused)}.{self.acknowledged}"
            text = workload.text_of(name, self.acknowledged, self.chance.choice((10, 100, 400)))
            try:
                db.append(text, id=name, source=workload.source_of(name))
            except StoreError as exc:
                self.refused.append(f"{type(exc).__name__}: {exc}")
                refusals += 1
                if refusals == 3:
                    return
            else:
                self.state[name] = text
                self.acknowledged += 1

    def erase(self, db: memodb.Store) -> None:
        """Delete by id, by source, and a third of all: each must complete, on whatever is left of the disk."""
        self.forget(db, [self.chance.choice(sorted(self.state))], verify=True)
        source = workload.source_of(self.chance.choice(sorted(self.state)))
        matching = [name for name in self.state if workload.source_of(name) == source]
        if self.chance.random() < 0.5:
            assert sorted(db.delete(source=source, verify=False).documents) == sorted(matching)
            for name in matching:
                del self.state[name]
            self.deleted += len(matching)
        else:
            self.forget(db, self.chance.sample(sorted(self.state), len(self.state) // 3), verify=False)

    def forget(self, db: memodb.Store, names: list[str], *, verify: bool) -> None:
        receipt = db.delete(*names, verify=verify)
        assert receipt.committed
        assert receipt.verified or not verify
        for name in names:
            del self.state[name]
        self.deleted += len(names)

    def require(self, db: memodb.Store) -> None:
        held = {document.id: db.text(document.id) for document in db.documents()}
        assert held == self.state, sorted(held.keys() ^ self.state.keys())
        report = db.check()
        assert report.ok, report.findings


def mounted(mount: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(mount)], check=True)


def fill(mount: Path, stock: Path, out: Path, count: int, seed: int) -> Iterator[dict[str, Any]]:
    mounted(mount)
    chance = random.Random(seed)
    for number in range(count):
        free = PAGE * (5 * number % PAGES)
        try:
            told = Fill(mount, stock, chance, free)()
        except Exception:
            yield {"free": free, "problem": traceback.format_exc()}
            continue
        shutil.copytree(mount / "store", out / str(number) / "store")
        yield told


def read_only(mount: Path, stock: Path) -> Iterator[dict[str, Any]]:
    mounted(mount)
    shutil.copytree(stock, mount / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
    for options in ({}, {"read_only": True}):
        try:
            with memodb.connect(mount / "store", create=False, **options) as db:
                held = sorted((document.id, db.text(document.id)) for document in db.documents())
                yield {**options, "state": held, "ok": db.check().ok}
        except Exception as exc:
            yield {**options, "error": type(exc).__name__, "known": isinstance(exc, StoreError), "message": str(exc)}


def main() -> None:
    warnings.simplefilter("ignore", RuntimeWarning)  # a checkpoint that could not be written warns: expected here
    what, mount, stock, *rest = sys.argv[1:]
    lines = (
        fill(Path(mount), Path(stock), Path(rest[0]), int(rest[1]), int(rest[2]))
        if what == "fill"
        else read_only(Path(mount), Path(stock))
    )
    for line in lines:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
