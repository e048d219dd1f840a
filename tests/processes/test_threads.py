"""Four writer threads and four reader threads on one handle: the same promise as between processes (see workers.py)."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import memodb


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["sample", "full"])
@pytest.mark.parametrize("where", ["file", "memory"])
def test_threads_see_committed_states_only(
    beside: Callable[[str], ModuleType],
    tmp_path: Path,
    seconds: Callable[..., float],
    covered: Callable[..., None],
    where: str,
    long: bool,
) -> None:
    workers = beside("workers")
    words = workers.vocabulary(tmp_path / "words.json")
    path = tmp_path / "s" if where == "file" else ":memory:"
    with memodb.connect(path, tokenizer=words, segment_tokens=4096, layers=1, false_recall=1e-9) as db:
        states: list[dict[str, Any]] = []
        live = {f"{number}.{half}": 0 for number in range(3) for half in "ab"}
        workers.commit(db, [], live)
        states.append({"begin": time.monotonic_ns(), "ack": time.monotonic_ns(), "live": live, "digest": None})
        deadline = time.monotonic() + seconds(long=long) / 2
        count: Counter[str] = Counter()
        errors: list[BaseException] = []
        fresh = iter(range(3, 1 << 30, 2))

        def writer(seed: int) -> None:
            rng = random.Random(seed)
            while time.monotonic() < deadline:
                if rng.random() < 0.1:
                    db.compact()
                    count["compactions"] += 1
                    continue
                with db.transaction():
                    # Other writers wait until the block is left, so this is the order of the commits.
                    before = states[-1]
                    gone, come = workers.planned(rng, before["live"], next(fresh))
                    for name in gone:
                        db.delete(name)
                    for name, version in come.items():
                        db.append(workers.text_of(name, version), id=name)
                    kept = {name: version for name, version in before["live"].items() if name not in gone}
                    state = {"begin": time.monotonic_ns(), "ack": 0, "live": {**kept, **come}, "digest": None}
                    states.append(state)
                state["ack"] = time.monotonic_ns()
                count["commits"] += 1
                time.sleep(rng.uniform(0, 0.003))

        def reader(seed: int, notes: list[list[Any]]) -> None:
            def note(found: list[Any]) -> None:
                if found[2] != "digest":  # a writer cannot tell it between its commit and the next
                    notes.append(found)

            count["refused"] += workers.read(db, random.Random(seed), lambda: time.monotonic() > deadline + 0.3, note)

        def guarded(action: Callable[..., None], *arguments: Any) -> None:
            try:
                action(*arguments)
            except BaseException as exc:
                errors.append(exc)

        reads: list[list[list[Any]]] = [[] for _ in range(4)]
        threads = [threading.Thread(target=guarded, args=(writer, seed)) for seed in range(4)]
        threads += [threading.Thread(target=guarded, args=(reader, 100 + at, notes)) for at, notes in enumerate(reads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds(long=long) + 60)
            assert not thread.is_alive()
        assert errors == []
        judge = workers.Judge([workers.State(**state) for state in states], apart=True)
        bad = [found for notes in reads for found in judge.inconsistent(notes)]
        covered(states=len(states), **count, reads=sum(map(len, reads)), inconsistent=len(bad))
        assert bad == []
        assert count["commits"] > 5
        assert all(len(notes) > 5 for notes in reads)
        assert db.check().ok
        assert {document.id for document in db.documents()} == set(states[-1]["live"])


def test_a_trace_is_of_one_commit(
    beside: Callable[[str], ModuleType], tmp_path: Path, seconds: Callable[..., float], covered: Callable[..., None]
) -> None:
    """Two pairs of one text take turns: a trace that asked memory and catalog at two commits finds none, or both."""
    workers = beside("workers")
    words = workers.vocabulary(tmp_path / "words.json")
    text = workers.text_of("0.a", 0)
    with memodb.connect(tmp_path / "s", tokenizer=words, segment_tokens=4096, layers=1, false_recall=1e-9) as db:
        pairs = [("0.a", "0.b"), ("1.a", "1.b")]
        for name in pairs[0]:
            db.append(text, id=name)
        seen: Counter[tuple[str, ...]] = Counter()
        refused: list[int] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                try:
                    seen[tuple(sorted({found.id for span in db.trace(text) for found in span.documents}))] += 1
                except memodb.StoreLocked:
                    refused.append(1)

        readers = [threading.Thread(target=ask) for _ in range(3)]
        for thread in readers:
            thread.start()
        try:
            deadline, commits = time.monotonic() + seconds(long=False) / 2, 0
            while time.monotonic() < deadline or commits < 10:
                commits += 1
                with db.transaction():
                    db.delete(*pairs[(commits + 1) % 2])
                    for name in pairs[commits % 2]:
                        db.append(text, id=name)
        finally:
            done.set()
            for thread in readers:
                thread.join(30)
        covered(commits=commits, traces=sum(seen.values()), refused=len(refused))
        assert set(seen) <= set(pairs)
        assert len(seen) == 2
