"""Writers that log what they committed and when, readers that log what they saw and when, and the judge of both.

A state is what a commit left: documents (id to version) and the memory's digest. State c may be seen by a read only if
it could have been the current one at some moment of the read: after its commit began, and before the next one was
acknowledged. All of a reader's reads must fit states that never go back. That is linearizability, checked from outside:
halves of transactions, documents after their deletion, stale answers and answers of mixed commits all fit no state.

Times are CLOCK_MONOTONIC, which all processes of a machine share. Run as a script, this is one writer or one reader.
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import memodb

PROMPT = "common"
KINDS = ("documents", "length", "next", "text", "digest", "trace")
MEMORY = ("next", "digest", "trace")
VALUES = 12


def text_of(document_id: str, version: int) -> str:
    """Both documents of a pair have the same text, so every support is even; a version changes what follows."""
    number = int(document_id.split(".")[0])
    value = (number * 7 + version * 3) % VALUES
    return f"common v{value} n{number % 50} n{number // 50 % 50} v{version % VALUES} end of the story of a pair"


def vocabulary(path: Path) -> Path:
    """A tokenizer of the words that occur."""
    import tokenizers

    plain = "[UNK] common end of the story a pair".split()  # noqa: SIM905
    words = [*plain, *(f"v{number}" for number in range(VALUES)), *(f"n{number}" for number in range(50))]
    model = tokenizers.models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]")
    engine = tokenizers.Tokenizer(model)
    engine.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    engine.save(str(path))
    return path


@dataclass(frozen=True)
class State:
    """What one commit left, when it began and when it was acknowledged."""

    begin: int
    ack: int
    live: dict[str, int]
    digest: str | None


# -- writing -----------------------------------------------------------------------------------------------------------


def planned(rng: random.Random, live: dict[str, int], fresh: int) -> tuple[list[str], dict[str, int]]:
    """One transaction: ids to delete, and documents (id to version) to append; whole pairs in both."""
    pairs = sorted({name.split(".")[0] for name in live}, key=int)
    gone: list[str] = []
    come: dict[str, int] = {}
    for number in range(rng.randint(1, 2)):
        kind = rng.random()
        if kind < 0.45 or len(pairs) < 4:
            come.update({f"{fresh + number}.a": 0, f"{fresh + number}.b": 0})
        elif pairs:
            pair = pairs.pop(rng.randrange(len(pairs)))
            names = [f"{pair}.a", f"{pair}.b"]
            gone += names
            if kind < 0.65 and len(live) < 80:  # replaced, under the same ids
                come.update({name: live[name] + 1 for name in names})
    return gone, come


def commit(db: memodb.Store, gone: list[str], come: dict[str, int]) -> None:
    """Delete and append in one transaction; half of a pair before the other, so that a torn one would show."""
    with db.transaction():
        for name in gone:
            db.delete(name)
        for name, version in come.items():
            db.append(text_of(name, version), id=name)


def write(path: str, log: str, deadline: float, seed: int) -> dict[str, Any]:
    """Take turns at the lock until the deadline; every commit is a line of the log, which the lock protects too."""
    rng = random.Random(seed)
    count: Counter[str] = Counter()
    problems: list[str] = []
    while time.monotonic() < deadline:
        try:
            db = memodb.connect(path)
        except memodb.StoreLocked as exc:
            named = re.search(r"process (\d+)", str(exc))
            count["refused, naming a process" if named else "refused"] += 1
            if named and int(named[1]) == os.getpid():
                problems.append(f"locked by itself: {exc}")
            time.sleep(rng.uniform(0.001, 0.02))
            continue
        with db:
            count["turns"] += 1
            last = json.loads(Path(log).read_text().splitlines()[-1])
            held = {document.id for document in db.documents()}
            if held != set(last["live"]) or db.digest() != last["digest"]:
                problems.append(f"a turn began with other documents than the last one left: {len(held)}")
            live, fresh = dict(last["live"]), last["fresh"]
            for _ in range(rng.randint(2, 6)):
                _turn(db, rng, log, live, fresh, count, problems)
                fresh += 2
        time.sleep(rng.uniform(0.001, 0.01))
    return {"problems": problems, **count}


def _turn(
    db: memodb.Store,
    rng: random.Random,
    log: str,
    live: dict[str, int],
    fresh: int,
    count: Counter[str],
    problems: list[str],
) -> None:
    begin = time.monotonic_ns()
    upkeep = rng.random()
    after = dict(live)
    try:
        if upkeep < 0.05:
            db.compact()
            count["compactions"] += 1
        elif upkeep < 0.15:
            db.checkpoint()
            count["checkpoints"] += 1
        else:
            gone, come = planned(rng, live, fresh)
            for name in gone:
                del after[name]
            after.update(come)
            commit(db, gone, come)
            count["commits"] += 1
    except memodb.StoreLocked:
        count["a reader was in the way"] += 1
        held = {found["id"]: found["text"] for found in db.export()}
        after = next((each for each in (after, live) if held == {i: text_of(i, v) for i, v in each.items()}), {})
        if not after:
            problems.append(f"half of a transaction after StoreLocked: {len(held)} documents")
    except memodb.MemodbError as exc:
        problems.append(f"{type(exc).__name__}: {exc}")
    if after is not live:
        live.clear()
        live.update(after)
    record(log, begin, time.monotonic_ns(), live, db.digest(), fresh + 2)


def record(log: str, begin: int, ack: int, live: dict[str, int], digest: str | None, fresh: int) -> None:
    """One line, appended in one write."""
    line = json.dumps({"begin": begin, "ack": ack, "live": live, "digest": digest, "fresh": fresh}) + "\n"
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


# -- reading -----------------------------------------------------------------------------------------------------------


def ask(db: memodb.Store, kind: str, name: str) -> Any:
    """One read, as JSON-ready values."""
    if kind == "documents":
        return sorted(document.id for document in db.documents())
    if kind == "length":
        return len(db)
    if kind == "digest":
        return db.digest()
    if kind == "next":
        return sorted([candidate.text.strip(), candidate.support] for candidate in db.next_tokens(PROMPT, k=200))
    if kind == "trace":
        return sorted({found.id for span in db.trace(text_of(name, 0)) for found in span.documents})
    try:
        return db.text(name)
    except memodb.DocumentNotFound:
        return None


def expected(kind: str, name: str, state: State) -> Any:
    """What that read answers in a state."""
    if kind == "documents":
        return sorted(state.live)
    if kind == "length":
        return len(state.live)
    if kind == "digest":
        return state.digest
    if kind == "next":
        counts = Counter(text_of(i, version).split()[1] for i, version in state.live.items())
        return sorted([value, count] for value, count in counts.items())
    if kind == "trace":
        # eight tokens of the sought text: the tail is common to all, the head to those of the same words
        words = text_of(name, 0).split()
        windows = {tuple(words[at : at + 8]) for at in range(len(words) - 7)}
        return sorted(i for i, version in state.live.items() if _windows(text_of(i, version)) & windows)
    return text_of(name, state.live[name]) if name in state.live else None


def _windows(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + 8]) for at in range(len(words) - 7)}


def read(db: memodb.Store, rng: random.Random, finished: Callable[[], bool], note: Callable[[list[Any]], None]) -> int:
    """Read at random until told to stop, then once of each kind; the number of times that the store was locked."""
    locked, names = 0, ["0.a", "0.b"]
    left: list[str] | None = None
    while left is None or left:
        if left is None and finished():
            left = list(KINDS)
        kind = left[-1] if left else rng.choice(KINDS)
        name = rng.choice(names)
        begin = time.monotonic_ns()
        try:
            found = ask(db, kind, name)
        except memodb.StoreLocked:
            locked += 1
            continue
        note([begin, time.monotonic_ns(), kind, name, found])
        if kind == "documents" and found:
            # old names are kept for a while: what was deleted must not come back
            names = [*names[-40:], *rng.sample(found, min(8, len(found)))]
        if left:
            left.pop()
        time.sleep(rng.uniform(0, 0.005))  # else eight readers and writers on two cores leave the writers no turn
    return locked


# -- judging -----------------------------------------------------------------------------------------------------------


@dataclass
class Judge:
    """Every state in order; see the module's first lines for what a read may have seen."""

    states: list[State]
    apart: bool = False
    """Judge reads of the catalog and of the memory each by themselves: in the handle that writes, a commit shows in the
    one a moment before it shows in the other, and only its acknowledgement promises both."""
    cache: dict[tuple[int, str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begins = [state.begin for state in self.states]
        # A state may be seen until the next one is acknowledged; threads may tell of that late, and out of order.
        self.until = list(itertools.accumulate([*(state.ack for state in self.states[1:]), 1 << 63], max))

    def fits(self, at: int, kind: str, name: str, found: Any) -> bool:
        name = name if kind in ("text", "trace") else ""
        key = (at, kind, name)
        if key not in self.cache:
            self.cache[key] = expected(kind, name, self.states[at])
        if kind == "next":
            # what the memory promises: no misses, no support too low; a context of many continuations may list more
            told = dict(found)
            return all(told.get(value, 0) >= support for value, support in self.cache[key])
        return bool(self.cache[key] == found)

    def inconsistent(self, reads: list[list[Any]]) -> list[str]:
        """Reads of one reader, in order, that fit no state which could have been current, or only an earlier one."""
        bad: list[str] = []
        floors = Counter[bool]()
        for begin, end, kind, name, found in reads:
            room = self.apart and kind in MEMORY
            floor = floors[room]
            latest = bisect.bisect_right(self.begins, end) - 1
            earliest = bisect.bisect_left(self.until, begin)
            at = next((at for at in range(max(floor, earliest), latest + 1) if self.fits(at, kind, name, found)), None)
            if at is not None:
                floors[room] = at
                continue
            elsewhere = [at for at in range(len(self.states)) if self.fits(at, kind, name, found)]
            bad.append(
                f"{kind} of {name!r} said {str(found)[:200]}: fits {elsewhere[:3] or 'no state'}, "
                f"could be {earliest}..{latest}, had seen {floor}"
            )
        return bad


def main() -> None:
    """Say that all is loaded, hear until when to work, work, and print what came of it."""
    role, path, log, seed = sys.argv[1:5]
    memodb.Tokenizer.shipped()
    with memodb.connect(
        ":memory:", tokenizer=Path(path).with_name("words.json"), segment_tokens=4096, layers=1
    ) as warm:
        commit(warm, [], {"0.a": 0})
        warm.delete("0.a")
    if role == "write":
        print(json.dumps(write(path, log, _deadline(), int(seed))))  # noqa: T201
        return
    reads: list[list[Any]] = []
    with memodb.connect(path, read_only=True) as db:
        deadline = _deadline()
        locked = read(db, random.Random(int(seed)), lambda: time.monotonic() > deadline, reads.append)
    print(json.dumps({"locked": locked, "reads": reads}))  # noqa: T201


def _deadline() -> float:
    print("ready", flush=True)  # noqa: T201
    return float(sys.stdin.readline())


if __name__ == "__main__":
    main()
