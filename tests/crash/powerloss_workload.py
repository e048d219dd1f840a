"""A workload of every kind of write, as a plan, as a dict's view of it, and as the process that is traced doing it.

The plan is a function of a seed, so that the process that does it and the one that judges the remains agree on what is
stored at every moment without talking. Run as a script it does the plan under the tracer::

    LD_PRELOAD=shim.so python powerloss_workload.py DIRECTORY TRACE SEED STEPS JOURNAL

and marks in the trace where each step begins ("begin N") and where the store had acknowledged it ("ack N"). Progress
inside a step is marked too ("part N K": K of its records are durable).
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

import memodb

STORE = "made/on the way/store"
"""Below directories that do not exist either: creating them is part of creating the store."""

SEED = bytes(range(32))
DEFAULT = "default"
BATCH = 4
"""Records of one batch of append_many, in the traced process."""

STRANGE = "?"
"""A word that no document has."""

Entry = tuple[str, str | None, str]
"""A document: text, source, a value of its metadata."""
Contents = dict[str, dict[str, Entry]]
"""A store: its collections, each from ids to documents."""
World = dict[str, Contents]
"""All stores by their paths below the traced directory."""


@dataclass(frozen=True)
class Step:
    """One call of a user.

    Parameters
    ----------
    verb : str
    collection : str
    appends : list of (id, Entry)
    deletes : list of str
        Ids; with ``source``, those that the filter will choose.
    source : str or None
        Deletions choose by this source instead of by ids.
    path : str
        Of another store: a backup, or what is restored from one.
    """

    verb: str
    collection: str = DEFAULT
    appends: list[tuple[str, Entry]] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    source: str | None = None
    path: str = ""


# -- the plan ------------------------------------------------------------------------------------------------------


class _Planner:
    """Draws steps that the store must accept, given what it holds by then."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"workload {seed}")
        self.held: Contents = {DEFAULT: {}}
        self.made = 0
        self.backups: list[str] = []

    def entry(self) -> Entry:
        words = _vocabulary()
        text = " ".join(self.chance.choices(words, k=self.chance.choice((9, 20, 60))))
        shape = self.chance.randrange(5)
        if shape == 0:
            text = f"{text}  {text.title()}"  # what the tokenizer cannot reproduce is kept as a text beside the tokens
        return text, self.chance.choice((None, "a", "b", "c")), "é\0\n"[: shape % 4]

    def name(self) -> str:
        self.made += 1
        return f"document {self.made}"

    def step(self, verb: str, collection: str = DEFAULT) -> Step | None:
        held = self.held.setdefault(collection, {})
        some = self.chance.sample(sorted(held), min(len(held), self.chance.randint(1, 3)))
        new = [(self.name(), self.entry()) for _ in range(self.chance.randint(1, 3))]
        if verb == "append":
            return Step(verb, collection, new[:1])
        if verb == "append_many":
            count = self.chance.randint(3, 11)
            return Step(verb, collection, [(self.name(), self.entry()) for _ in range(count)])
        if verb == "transaction":  # appends, deletions, and one id with another text
            return Step(verb, collection, [*new, *((name, self.entry()) for name in some[:1])], some)
        if verb in ("delete", "delete unverified") and some:
            return Step(verb, collection, deletes=some)
        if verb == "delete by source":
            source = self.chance.choice("abc")
            chosen = [name for name, entry in held.items() if entry[1] == source]
            return Step(verb, collection, deletes=chosen, source=source) if chosen else None
        if verb == "delete all" and held:
            return Step(verb, collection, deletes=sorted(held))
        if verb in ("checkpoint", "compact", "reopen"):
            return Step(verb, collection)
        if verb == "backup":
            self.backups.append(f"backup {len(self.backups)}")
            return Step(verb, path=self.backups[-1])
        if verb == "restore" and self.backups:
            return Step(verb, path=f"restored from {self.backups[-1]}")
        return None


_EVERY_KIND = [
    *("append", "append", "append_many", "checkpoint", "append", "transaction", "delete", "append_many", "checkpoint"),
    *("delete unverified", "second append_many", "second checkpoint", "transaction", "delete by source", "reopen"),
    *("append", "backup", "compact", "checkpoint", "delete", "second transaction", "reopen", "append_many", "compact"),
    *("second delete all", "append", "restore", "second append", "delete by source", "checkpoint", "transaction"),
]
"""Each kind of write at least once, in orders that matter; what follows is drawn."""

_DRAWN = [
    *("append", "append", "append_many", "append_many", "transaction", "transaction", "delete", "delete unverified"),
    *("delete by source", "delete all", "checkpoint", "checkpoint", "compact", "reopen", "backup", "restore"),
]


def plan(seed: int, steps: int) -> list[Step]:
    """The steps of a workload: a function of the seed and of what this memodb can do."""
    planner = _Planner(seed)
    verbs = [*_EVERY_KIND, *(planner.chance.choice(("", "", "second ")) + verb for verb in _choices(planner, steps))]
    able = hasattr(memodb.Store, "backup") and hasattr(memodb, "restore")
    found = [Step("create")]
    for verb in verbs[:steps]:
        collection = "second" if verb.startswith("second ") else DEFAULT
        verb = verb.removeprefix("second ")
        if verb in ("backup", "restore") and not able:
            continue
        if collection not in planner.held:
            planner.held[collection] = {}
            found.append(Step("collection", collection))
        step = planner.step(verb, collection)
        if step is not None and step.path not in {before.path for before in found if before.path}:
            found.append(step)
            _apply(planner.held, step)
    return found


def _choices(planner: _Planner, steps: int) -> list[str]:
    return planner.chance.choices(_DRAWN, k=steps)


@functools.cache
def _vocabulary() -> list[str]:
    letters = random.Random(1)
    return sorted({"".join(letters.choices("abcdefghiklmnoprstu", k=letters.randint(2, 8))) for _ in range(300)})


# -- what a dict says ----------------------------------------------------------------------------------------------


def _apply(contents: Contents, step: Step) -> None:
    held = contents.setdefault(step.collection, {})
    for name in step.deletes:
        del held[name]
    held.update(step.appends)


def _copied(contents: Contents) -> Contents:
    return {name: dict(held) for name, held in contents.items()}


def worlds(steps: list[Step]) -> list[list[World]]:
    """Of each step, the worlds it goes through: the one before, those a crash may leave between, the one after."""
    world: World = {}
    found = []
    erased: dict[str, set[tuple[str, str]]] = {}  # since each backup: what the ledger erases again
    for step in steps:
        stages = [world]
        for since in erased.values():
            since.update((step.collection, name) for name in step.deletes)
        for part in _parts(step):
            after = dict(stages[-1])
            if step.verb == "backup":
                after[step.path] = _copied(world[STORE])
                erased[step.path] = set()
            elif step.verb == "restore":
                backup = step.path.removeprefix("restored from ")
                after[step.path] = _copied(world[backup])
                for collection, name in erased[backup]:
                    after[step.path].get(collection, {}).pop(name, None)
            elif step.verb == "create":
                after[STORE] = {DEFAULT: {}}
            else:
                after[STORE] = _copied(after[STORE])
                _apply(after[STORE], part)
            stages.append(after)
        found.append(stages)
        world = stages[-1]
    return found


def _parts(step: Step) -> list[Step]:
    """A step as the changes that are atomic: batches for append_many, else one."""
    if step.verb != "append_many":
        return [step]
    at = range(0, len(step.appends), BATCH)
    return [Step("append", step.collection, step.appends[i : i + BATCH]) for i in at]


def texts(steps: list[Step]) -> Iterator[tuple[int, str, str, Entry]]:
    """Every document ever given: number of the step, collection, id, document."""
    for number, step in enumerate(steps):
        for name, entry in step.appends:
            yield number, step.collection, name, entry


# -- doing it ------------------------------------------------------------------------------------------------------


def save_tokenizer(path: Path) -> None:
    """A tokenizer of a few words: small to write, and unlike the shipped one read back from the store."""
    words = {word: number for number, word in enumerate(["[UNK]", *_vocabulary()])}
    engine = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    engine.normalizer = tokenizers.normalizers.Lowercase()
    engine.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    engine.save(str(path))


def create(path: Path, tokenizer: Path, **settings: Any) -> memodb.Store:
    """The store of the plan, new."""
    return memodb.connect(path, seed=SEED, segment_tokens=4096, tokenizer=tokenizer, **settings)


def record(name: str, entry: Entry) -> dict[str, Any]:
    """A document as append takes it."""
    text, source, value = entry
    return {"id": name, "text": text, "source": source, "metadata": {"value": value}}


class _Doing:
    """The traced process: one open store."""

    def __init__(self, root: Path, tokenizer: Path) -> None:
        self.root = root
        self.tokenizer = tokenizer
        self.shim = ctypes.CDLL(None)
        self.db: memodb.Store | None = None

    def mark(self, text: str) -> None:
        self.shim.shim_mark(text.encode())

    def do(self, number: int, step: Step) -> None:
        path = self.root / STORE
        if step.verb in ("create", "reopen"):
            if self.db is not None:
                self.db.close()
            # What happens by itself in a store of a million tokens shall happen in one of hundreds.
            eager = {"checkpoint_tokens": 300}
            is_new = step.verb == "create"
            self.db = create(path, self.tokenizer, **eager) if is_new else memodb.connect(path, create=False, **eager)
            return
        if step.verb == "restore":
            backup = self.root / step.path.removeprefix("restored from ")
            memodb.restore(backup, self.root / step.path, ledger=self.root / STORE / "ledger")
            return
        assert self.db is not None
        db = self.db.collection(step.collection)
        if step.verb == "append":
            db.append(**record(*step.appends[0]))
        elif step.verb == "append_many":
            told = lambda result: self.mark(f"part {number} {result.appended}")  # noqa: E731
            db.append_many((record(*item) for item in step.appends), progress=told)
        elif step.verb == "transaction":
            with db.transaction():
                if step.deletes:
                    db.delete(*step.deletes)
                for item in step.appends:
                    db.append(**record(*item))
        elif step.verb == "delete by source":
            assert set(db.delete(source=step.source).documents) == set(step.deletes)
        elif step.verb.startswith("delete"):
            assert db.delete(*step.deletes, verify=step.verb != "delete unverified").committed
        elif step.verb == "checkpoint":
            db.checkpoint()
        elif step.verb == "compact":
            db.compact()
        elif step.verb == "backup":
            db.backup(self.root / step.path)
        else:
            assert step.verb == "collection", step.verb


def use_journal(mode: str) -> None:
    """Let memodb keep the journal (truncate, wal) that it chooses for another version of SQLite."""
    choose = importlib.import_module("memodb.catalog.pragmas").journal_mode
    choose.__defaults__ = ((3, 51, 3) if mode == "wal" else (3, 40, 1),)


def main(directory: str, trace: str, seed: str, steps: str, journal: str) -> None:
    """Do the plan under the tracer."""
    use_journal(journal)
    importlib.import_module("memodb.collection.streams")._BATCH_RECORDS = BATCH  # type: ignore[attr-defined]
    root = Path(directory)
    tokenizer = root.with_name("tokenizer.json")
    doing = _Doing(root, tokenizer)
    descriptor = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    doing.shim.shim_trace(os.fsencode(root), descriptor)
    for number, step in enumerate(plan(int(seed), int(steps))):
        doing.mark(f"begin {number}")
        doing.do(number, step)
        doing.mark(f"ack {number}")
    if doing.db is not None:
        doing.db.close()
    doing.shim.shim_trace(b"", -1)


if __name__ == "__main__":
    main(*sys.argv[1:])
