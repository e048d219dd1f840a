"""A store against a dict, in any order of its verbs, read back through this handle, a reader's, and a fresh one.

Among the verbs are the ends that nobody chooses: the process dies, also between the two commits of a deletion, and what
is on disk at that moment is opened by another; and the store is lost, and restored from its backup.
"""

import contextlib
import importlib
import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import memodb

transactions = importlib.import_module("memodb.collection.transaction")

NAMES = st.sampled_from("abcdef")
TEXTS = st.sampled_from(["", "x", "one two three four five", "five four three two one", "é\0😀\n", "LONG 1", "LONG 2"])
SOURCES = st.sampled_from([None, "s", "t"])
STEP = st.tuples(st.sampled_from(["append", "append", "delete"]), NAMES, TEXTS, SOURCES)


class Undo(Exception):
    """Rolls a transaction back."""


ENGINES = [{}, {"engine": "kohonen", "dim": 64}, {"engine": "kohonen", "dim": 64, "layers": 1}]
"""Settings of stores: linear memories promise no answers, and to forget exactly all the same."""


def machine(
    fresh: Callable[..., memodb.Store], model: Any, prose: Callable[..., str], engine: dict[str, Any]
) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.files = tempfile.TemporaryDirectory()
            self.path = Path(self.files.name) / "s"
            self.numbers = itertools.count()
            self.db = fresh(self.path, **engine)
            self.reader = memodb.connect(self.path, read_only=True)
            self.held: dict[str, tuple[str, str | None]] = {}
            self.expected = model()
            self.asked = 0

        def full(self, text: str) -> str:
            return prose(900, int(text[-1])) if text.startswith("LONG") else text

        def step(self, held: dict[str, tuple[str, str | None]], step: Any) -> None:
            verb, name, text, source = step
            text = self.full(text)
            if verb == "delete":
                if name in held:
                    self.db.delete(name, verify=len(held) % 2 == 0)
                    del held[name]
                else:
                    with pytest.raises(memodb.DocumentNotFound):
                        self.db.delete(name)
            elif name not in held:
                assert self.db.append(text, id=name, source=source).source == source
                held[name] = (text, source)
            elif held[name][0] == text and source in (None, held[name][1]):
                assert self.db.append(text, id=name, source=source).source == held[name][1]
            else:
                with pytest.raises(memodb.DocumentExists):
                    self.db.append(text, id=name, source=source)

        @rule(step=STEP)
        def one(self, step: Any) -> None:
            self.step(self.held, step)

        @rule(steps=st.lists(STEP, max_size=5), commits=st.booleans())
        def transaction(self, steps: Any, commits: bool) -> None:
            held = dict(self.held)
            with contextlib.suppress(Undo), self.db.transaction():
                for step in steps:
                    self.step(held, step)
                if not commits:
                    raise Undo
                self.held = held

        @rule(records=st.lists(st.tuples(NAMES, TEXTS, SOURCES), max_size=5))
        def append_many(self, records: Any) -> None:
            new = same = 0
            clash = False
            for name, text, source in records:
                text = self.full(text)
                if name not in self.held:
                    self.held[name] = (text, source)
                    new += 1
                elif self.held[name][0] == text and source in (None, self.held[name][1]):
                    same += 1
                else:
                    clash = True
                    break
            given = ({"id": name, "text": self.full(text), "source": source} for name, text, source in records)
            if clash:
                with pytest.raises(memodb.DocumentExists):
                    self.db.append_many(given)
            else:
                result = self.db.append_many(given)
                assert (result.appended, result.existing) == (new, same)

        @rule(source=st.sampled_from("st"))
        def delete_by_source(self, source: str) -> None:
            gone = {name for name, (_, given) in self.held.items() if given == source}
            if not gone:
                with pytest.raises(memodb.EmptySelection):
                    self.db.delete(source=source)
                return
            receipt = self.db.delete(source=source)
            assert set(receipt.documents) == gone
            assert receipt.verified
            for name in gone:
                del self.held[name]

        @rule()
        def compact(self) -> None:
            self.db.compact()
            assert not self.db.compact()

        @rule()
        def reopen(self) -> None:
            digest = self.db.digest()
            self.db.close()
            self.db = memodb.connect(self.path)
            assert self.db.digest() == digest

        def move(self, path: Path) -> None:
            """Go on with the store at another path."""
            self.reader.close()
            self.db.close()
            self.path = path
            self.db = memodb.connect(path)
            self.reader = memodb.connect(path, read_only=True)

        @rule()
        def checkpoint(self) -> None:
            self.db.checkpoint()
            assert self.db.checkpoint() == 0

        @rule(stopped=st.booleans())
        def crash(self, stopped: bool) -> None:
            if stopped and self.held:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(transactions, "finish_deletions", lambda _: None)
                    self.db.delete(min(self.held), verify=False)
                del self.held[min(self.held)]
            left = Path(self.files.name) / f"crashed {next(self.numbers)}"
            shutil.copytree(self.path, left)
            self.move(left)

        @rule(replace=st.booleans())
        def restore(self, replace: bool) -> None:
            number = next(self.numbers)
            kept = Path(self.files.name) / f"backup {number}"
            handle = self.reader if number % 2 else self.db
            assert handle.backup(kept).documents == len(self.held)
            path = self.path if replace else Path(self.files.name) / f"restored {number}"
            if self.held:  # what is erased after the backup does not come back with it
                self.db.delete(min(self.held), verify=False)
                del self.held[min(self.held)]
            ledger = None if replace else self.path / "ledger"
            if replace:
                self.db.append("This comes after the backup, and is lost with the store.", source="lost")
                self.reader.close()
                self.db.close()
            memodb.restore(kept, path, replace=replace, ledger=ledger)
            self.move(path)
            shutil.rmtree(kept)

        @precondition(lambda self: self.held)
        @rule(fix=st.booleans())
        def check(self, fix: bool) -> None:
            report = self.db.check(fix=fix)
            assert report == memodb.CheckReport(len(self.held), len(self.db.stats().segments), ())

        @invariant()
        def agrees(self) -> None:
            wanted = {name: text for name, (text, _) in self.held.items()}
            for name in set(self.expected.texts) - set(wanted):
                self.expected.drop(name)
            for name, text in wanted.items():
                if self.expected.texts.get(name) != text:
                    self.expected.put(name, text, self.db.tokenizer.encode(text))
            self.asked += 1
            prompts = self.expected.prompts(self.asked, (1, 4, 16))
            for handle in (self.db, self.reader):
                assert {d.id: (handle.text(d.id), d.source) for d in handle.documents()} == self.held
                assert len(handle) == len(self.held)
                stats = handle.stats()
                if stats.promised_false_recall is not None:
                    self.expected.require(handle, prompts, exact=False)
                    assert stats.false_recall <= stats.promised_false_recall
            assert self.reader.digest() == self.db.digest()

        def teardown(self) -> None:
            try:
                assert self.db.check().ok
                assert self.reader.check().ok
                with fresh(**engine) as never:
                    never.append_many({"id": name, "text": text} for name, (text, _) in self.held.items())
                    never.compact()
                    self.db.compact()
                    assert never.digest() == self.db.digest()
            finally:
                self.reader.close()
                self.db.close()
                self.files.cleanup()

    return Machine


@pytest.mark.parametrize("engine", ENGINES[:2], ids=["willshaw", "kohonen"])
def test_a_store_is_a_dict(
    fresh: Callable[..., memodb.Store],
    model: Any,
    prose: Callable[..., str],
    tokenizer_of: Callable[..., Path],
    engine: dict[str, Any],
) -> None:
    if engine:
        engine = {**engine, "tokenizer": tokenizer_of(prose(900, number) for number in (1, 2))}
    run_state_machine_as_test(
        lambda: machine(fresh, model, prose, engine)(),
        settings=settings(max_examples=2 if engine else 5, stateful_step_count=12, deadline=None),
    )


@pytest.mark.stress
@pytest.mark.parametrize("engine", ENGINES, ids=["willshaw", "kohonen", "kohonen of one layer"])
def test_a_store_is_a_dict_for_long(
    fresh: Callable[..., memodb.Store],
    model: Any,
    prose: Callable[..., str],
    stress_factor: float,
    engine: dict[str, Any],
) -> None:
    """2,000 steps; MEMODB_STRESS=10 takes 20,000."""
    run_state_machine_as_test(
        lambda: machine(fresh, model, prose, engine)(),
        settings=settings(
            max_examples=round((10 if engine else 40) * stress_factor), stateful_step_count=50, deadline=None
        ),
    )
