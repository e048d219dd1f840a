"""A process that has imported memodb, runs under the shim, and forks one child a case: the child is who dies.

Reads cases as JSON lines from standard input and answers each with one line. A fork takes milliseconds where a new
process takes most of a second, and it is made before any store is open. The child tells what it was acknowledged
through a pipe, a line for every step, so that what was said before a SIGKILL is known.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import memodb
import memodb.collection.checkpoint
from memodb.errors import MemodbError, StoreError

sys.path.insert(0, str(Path(__file__).parent))
import workload

SETTINGS: dict[str, Any] = {"segment_tokens": 4096, "seed": workload.seed_of(workload.DEFAULT)}
CHECKPOINT_TOKENS = 400
"""So few that checkpoints happen by themselves in a short workload."""
GRACE = 3
"""Steps that are still tried after a call was made to fail."""
COUNT = 1
"""The mode of shim.c that only counts."""
PATIENCE = 60.0
"""Seconds after which a child is taken to hang."""


class Shim:
    """The functions that shim.c exports to the process it was preloaded into."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self.arm: Callable[..., None] = library.shim_arm
        library.shim_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int]
        library.shim_arm.restype = None
        for name in ("count", "failed", "broken"):
            getattr(library, f"shim_{name}").restype = ctypes.c_long
        library.shim_name.argtypes = [ctypes.c_long]
        library.shim_name.restype = ctypes.c_char_p
        self._library = library

    @property
    def count(self) -> int:
        return int(self._library.shim_count())

    @property
    def failed(self) -> int:
        return int(self._library.shim_failed())

    def names(self) -> list[str]:
        return [self.name(number) for number in range(1, self.count + 1)]

    @property
    def last(self) -> str:
        return self.name(self.count)

    @property
    def broken(self) -> str:
        return self.name(self._library.shim_broken())

    def name(self, number: int) -> str:
        return str(self._library.shim_name(number).decode(errors="replace"))


class Child:
    """The side of the fork that does the steps and may be killed at any of them."""

    def __init__(self, shim: Shim, case: dict[str, Any], pipe: int) -> None:
        self.shim = shim
        self.case = case
        self.pipe = pipe
        self.store = Path(case["root"]) / "store"
        self.db: memodb.Store | None = None

    def say(self, *facts: Any) -> None:
        os.write(self.pipe, json.dumps(facts).encode() + b"\n")

    def run(self) -> None:
        case = self.case
        memodb.collection.checkpoint.CHECKPOINT_TOKENS = CHECKPOINT_TOKENS
        grace = GRACE
        self.shim.arm(case["root"].encode(), case["mode"], case["at"], case["error"])
        for number, step in enumerate(self.steps()):
            if self.shim.failed:
                grace -= 1
                if grace < 0:
                    break
            try:
                if self.db is None and step.do not in ("open", "reopen"):
                    self.open()  # the opening before it failed: a caller would try again
                self.perform(step)
            except StoreError as exc:
                self.say("refused", number, type(exc).__name__, str(exc))
                self.look()
            except MemodbError as exc:
                self.say("invalid", number, type(exc).__name__, str(exc))
            else:
                self.say("done", number)
        self.close()
        self.shim.arm(b"", 0, 0, 0)
        self.say("end")

    def steps(self) -> Iterator[workload.Step]:
        if self.case["random"] is not None:
            state = frozenset((a, b, c) for a, b, c in self.case["state"])
            yield workload.Step("open")
            yield from workload.random_steps(self.case["random"], state, prefix=self.case["prefix"])
            return
        for fields in self.case["steps"]:
            put = tuple((document_id, text) for document_id, text in fields.pop("put"))
            yield workload.Step(drop=tuple(fields.pop("drop")), put=put, **fields)

    def look(self) -> None:
        """Tell what this handle now says it holds, if it says anything."""
        if self.db is None:
            return
        try:
            held = []
            for info in self.db.collections():
                seen = self.db.collection(info.name, create=False)
                held += [(info.name, document.id, seen.text(document.id)) for document in seen.documents()]
        except StoreError as exc:
            self.say("blind", type(exc).__name__, str(exc))
        else:
            self.say("view", held)

    def open(self) -> None:
        self.db = memodb.connect(self.store, **SETTINGS)

    def close(self) -> None:
        if self.db is not None:
            db, self.db = self.db, None
            db.close()

    def perform(self, step: workload.Step) -> None:
        if step.do in ("open", "reopen"):
            self.close()
            self.open()
            return
        assert self.db is not None
        db = (
            self.db
            if step.collection == workload.DEFAULT
            else self.db.collection(step.collection, seed=workload.seed_of(step.collection))
        )
        records = [{"id": name, "text": text, "source": workload.source_of(name)} for name, text in step.put]
        if step.do == "append":
            db.append(**records[0])
        elif step.do == "append_many":
            db.append_many(records)
        elif step.do == "transaction":
            with db.transaction():
                if step.drop:
                    db.delete(*step.drop)
                for record in records:
                    db.append(**record)
        elif step.do in ("delete", "delete_source"):
            chosen = {"source": step.source} if step.source else {}
            receipt = db.delete(*step.drop, verify=step.verify, **chosen)
            assert receipt.committed
            assert receipt.verified or not step.verify, receipt
        elif step.do == "restore":
            self.close()
            memodb.restore(Path(self.case["root"]) / "backup", self.store, replace=True)
            self.open()
        elif step.do == "backup":
            db.backup(Path(self.case["root"]) / "backup")
        else:
            {"checkpoint": db.checkpoint, "compact": db.compact}[step.do]()


def child(shim: Shim, case: dict[str, Any], pipe: int) -> None:
    """Never returns."""
    told = Child(shim, case, pipe)
    try:
        told.run()
    except BaseException:
        # Neither an acknowledgement nor an error of memodb: the parent's test fails with this text.
        shim.arm(b"", 0, 0, 0)
        told.say("alien", traceback.format_exc())
    finally:
        os._exit(0)


def serve(shim: Shim, case: dict[str, Any]) -> dict[str, Any]:
    """Fork a child for a case, read what it says until it ends or is killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(shim, case, writing)
    os.close(writing)
    started = time.monotonic()
    kill_at = started + (PATIENCE if case["kill_after"] is None else case["kill_after"])
    said, killed = b"", False
    while True:
        left = kill_at - time.monotonic()
        if not killed and left <= 0:
            os.kill(pid, signal.SIGKILL)
            killed = True
        if select.select([reading], [], [], None if killed else max(0.0, left))[0]:
            part = os.read(reading, 1 << 16)
            if not part:
                break
            said += part
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    lines = [json.loads(line) for line in said.split(b"\n")[:-1]]  # what follows the last newline was cut off
    if killed and case["kill_after"] is None:
        lines.append(["alien", f"the child hung for {PATIENCE} s, at {shim.last}"])
    return {
        "lines": lines,
        "killed": os.WIFSIGNALED(status),
        "count": shim.count,
        "failed": shim.failed,
        "last": shim.last,
        "broken": shim.broken,
        "names": shim.names() if case["mode"] == COUNT and case["random"] is None else [],
    }


def warm_up() -> None:
    """Import what the steps import when they are first done, which would be half the time of a child.

    Nothing stays open. Encoding starts no threads, which a fork would not survive: TOKENIZERS_PARALLELISM is off.
    """
    with tempfile.TemporaryDirectory() as made:
        path = Path(made)
        with memodb.connect(path / "store", **SETTINGS) as db:
            db.append("A text.", id="a")
            db.checkpoint()
            db.delete("a")
            db.compact()
            db.backup(path / "backup")
        memodb.restore(path / "backup", path / "restored", without_ledger=True)


def main() -> None:
    warnings.simplefilter("ignore", RuntimeWarning)  # a checkpoint that could not be written warns: expected here
    shim = Shim()
    warm_up()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(serve(shim, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
