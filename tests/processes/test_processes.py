"""Writer processes that take turns, reader processes that follow: every read is one of one committed state.

See workers.py for what is judged. Four of each under ``stress``, fewer in the sample, where starting them is most of
the work. At ``MEMODB_STRESS=1`` the stress test runs the 60 seconds of docs/reliability.md.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import memodb

MANY, FEW = (4, 4), (3, 2)
"""Writers and readers."""
GRACE = 1.5
"""Seconds that readers go on when writers stop, so that the last state is read by all."""


def started(beside: Callable[[str], ModuleType], role: str, *arguments: object) -> subprocess.Popen[str]:
    script = beside("workers").__file__
    assert script is not None
    return subprocess.Popen(
        [sys.executable, "-W", "error", script, role, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(memodb.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], patience: float) -> Any:
    out, err = process.communicate(timeout=patience)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["sample", "full"])
def test_readers_see_committed_states_only(
    beside: Callable[[str], ModuleType],
    tmp_path: Path,
    seconds: Callable[..., float],
    covered: Callable[..., None],
    long: bool,
) -> None:
    workers = beside("workers")
    store, log = tmp_path / "s", tmp_path / "log"
    words = workers.vocabulary(tmp_path / "words.json")
    with memodb.connect(store, tokenizer=words, segment_tokens=4096, layers=1, false_recall=1e-9) as db:
        live = {f"{number}.{half}": 0 for number in range(3) for half in "ab"}
        workers.commit(db, [], live)
        now = time.monotonic_ns()
        workers.record(log, now, now, live, db.digest(), 3)
    writers, readers = MANY if long else FEW
    writing = [started(beside, "write", store, log, seed) for seed in range(writers)]
    reading = [started(beside, "read", store, log, 100 + seed) for seed in range(readers)]
    patience = seconds(long=long) + 40
    try:
        for process in (*writing, *reading):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        deadline = time.monotonic() + seconds(long=long)
        for process in (*writing, *reading):
            assert process.stdin is not None
            process.stdin.write(f"{deadline if process in writing else deadline + GRACE}\n")
            process.stdin.flush()
        wrote = [finished(process, patience) for process in writing]
        read = [finished(process, patience) for process in reading]
    finally:
        for process in (*writing, *reading):
            if process.poll() is None:
                process.kill()
                process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    states = [workers.State(line["begin"], line["ack"], line["live"], line["digest"]) for line in lines]
    judge = workers.Judge(states)
    bad = [found for result in read for found in judge.inconsistent(result["reads"])]
    problems = [found for result in wrote for found in result.pop("problems")]
    kinds = Counter(kind for result in read for _, _, kind, _, _ in result["reads"])
    total = Counter[str]()
    for result in wrote:
        total.update(result)
    with memodb.connect(store) as db:
        assert db.check().ok
        assert {found["id"]: found["text"] for found in db.export()} == {
            name: workers.text_of(name, version) for name, version in states[-1].live.items()
        }
    covered(
        seconds=seconds(long=long),
        states=len(states),
        **total,
        reads=sum(kinds.values()),
        reads_of_each_kind=dict(kinds),
        reads_refused=sum(result["locked"] for result in read),
        inconsistent=len(bad),
    )
    assert problems == []
    assert bad == []
    assert total["turns"] >= (writers if long else 2)
    assert total["refused, naming a process"]
    assert all(len(result["reads"]) > 5 for result in read)


def test_the_judge_sees_what_it_should(beside: Callable[[str], ModuleType]) -> None:
    """Torn, stale, resurrected, from the future, back in time, and mixed: each is told from what is allowed."""
    workers = beside("workers")
    zero, one = {"0.a": 0, "0.b": 0}, {"0.a": 0, "0.b": 0, "1.a": 0, "1.b": 0}
    judge = workers.Judge(
        [workers.State(0, 10, zero, "d0"), workers.State(100, 110, one, "d1"), workers.State(200, 210, zero, "d2")]
    )

    def wrong(*reads: list[Any]) -> int:
        return len(judge.inconsistent(list(reads)))

    def listed(begin: int, end: int, live: dict[str, int]) -> list[Any]:
        return [begin, end, "documents", "", sorted(live)]

    assert wrong(listed(20, 30, zero), listed(120, 130, one), listed(220, 230, zero)) == 0
    assert wrong(listed(95, 105, zero)) == wrong(listed(95, 105, one)) == 0, "while it commits, either"
    assert wrong(listed(120, 130, {"0.a": 0, "0.b": 0, "1.a": 0})) == 1, "half of a pair"
    assert wrong(listed(120, 130, zero)) == 1, "stale"
    assert wrong(listed(20, 30, one)) == 1, "from the future"
    assert wrong(listed(220, 230, one)) == 1, "deleted, and back"
    assert wrong(listed(95, 105, one), listed(96, 106, zero)) == 1, "back in time, though either alone might be"
    assert wrong([120, 130, "text", "1.a", None]) == 1
    assert wrong([120, 130, "text", "1.a", workers.text_of("1.a", 0)]) == 0
    assert wrong([120, 130, "next", "", workers.expected("next", "", judge.states[1])]) == 0
    assert wrong([120, 130, "next", "", workers.expected("next", "", judge.states[0])]) == 1, "a miss"
    assert wrong([120, 130, "digest", "", "d0"]) == 1
