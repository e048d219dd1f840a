"""Whatever moment the power goes at, a store keeps what it acknowledged and forgets what it was told to forget.

A real workload runs once under the tracer; powerloss.py says what the disk may hold after each of its calls;
powerloss_verify.py opens those disks with memodb and compares them with a dict.
"""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import memodb

HERE = Path(__file__).parent
PROCESSES = 2
"""Which judge the long runs; a sample is judged by one, since each has memodb to import and the trace to replay."""
JOURNALS = ("truncate", "wal")
"""Which one memodb chooses depends on the version of SQLite; both must hold."""


class Bench:
    """Traces a workload and has its states judged, in processes of their own."""

    def __init__(self, base: Path, shim: Path, workload: ModuleType) -> None:
        self.base = base
        self.root = base / "traced"
        self.trace = base / "trace"
        self.shim = shim
        workload.save_tokenizer(base / "tokenizer.json")

    def start(self, script: str, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / script), *map(str, arguments)],
            env={
                **os.environ,
                "LD_PRELOAD": str(self.shim),
                "PYTHONPATH": str(Path(memodb.__file__).parents[1]),
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_workload(self, seed: int, steps: int, journal: str) -> None:
        self.root.mkdir()
        process = self.start("powerloss_workload.py", self.root, self.trace, seed, steps, journal)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said

    def judge(self, shares: int, **job: Any) -> dict[str, Any]:
        """The results of so many processes together."""
        processes = []
        for share in range(shares):
            work = self.base / f"work {share}"
            work.mkdir()
            given = {"trace": str(self.trace), "root": str(self.root), "work": str(work), **job}
            argument = json.dumps({**given, "share": share, "shares": shares})
            processes.append(self.start("powerloss_verify.py", argument))
        said = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0] * shares, [err for _, err in said]
        results = [json.loads(out) for out, _ in said]
        return {
            "states": {state for result in results for state in result["states"]},
            "ways": sum((Counter(result["ways"]) for result in results), Counter()),
            "moments": sum(result["moments"] for result in results),
            "recoveries": sum(result["recoveries"] for result in results),
            "violations": [found for result in results for found in result["violations"]],
        }


@pytest.fixture
def benches(disk: Path, shim: Path, beside: Callable[[str], ModuleType]) -> Callable[[], Bench]:
    """Makes benches, each in a directory of its own."""
    made: list[Path] = []

    def make() -> Bench:
        base = disk.resolve() / f"bench {len(made)}"
        base.mkdir()
        made.append(base)
        return Bench(base, shim, beside("powerloss_workload"))

    return make


def held_by(directory: Path) -> dict[str, bytes | None]:
    """The files and directories below a directory, as an image."""
    return {
        str(path.relative_to(directory)): None if path.is_dir() else path.read_bytes() for path in directory.rglob("*")
    }


def require_true(model: Any, disk: Any, root: Path) -> None:
    """The replayed trace ends in the real files; else a call was missed or misread, and no verdict meant anything."""
    pending = disk.pending()
    everything = dict.fromkeys((c for group in (*pending.data, *pending.names) for c in group), model.WHOLE)
    assert disk.image(everything) == held_by(root)


def require_journal_first(model: Any, records: list[Any], root: Path, store: Path, journal: str) -> Any:
    """The disk after the trace; while SQLite writes what a lost journal could not undo, the journal's name is durable.

    By a sync of memodb's own: SQLite ignores an error of its sync, and a catalog half changed by a commit, with the
    journal lost, could not be mended. Looked at here because few of the disks that a crash may leave would show it.
    """
    disk = model.Disk(str(root))
    written, named = ("catalog.db", "catalog.db-journal") if journal == "truncate" else ("catalog.db-wal",) * 2
    for record in model.without_swallowed_syncs(records):
        disk.apply(record)
        if record.op == model.WRITE and record.path == str(store / written):
            assert named not in {change.new for names in disk.pending().names for change in names}, record.path
    return disk


@pytest.mark.parametrize(("journal", "steps", "moments"), [("truncate", 31, 0.003), ("wal", 15, 0.008)], ids=JOURNALS)
def test_what_a_power_loss_leaves_is_sound(
    benches: Callable[[], Bench],
    beside: Callable[[str], ModuleType],
    figures: Callable[..., None],
    journal: str,
    steps: int,
    moments: float,
) -> None:
    """A seeded sample; every acknowledgement is followed by a power loss that spares nothing unsynced.

    With the journal that is the common one, of as many steps as every kind of write takes.
    """
    bench, model = benches(), beside("powerloss")
    bench.run_workload(seed=1, steps=steps, journal=journal)
    records = model.read_trace(bench.trace.read_bytes())
    store = bench.root / beside("powerloss_workload").STORE
    require_true(model, require_journal_first(model, records, bench.root, store, journal), bench.root)
    job = {"seed": 1, "steps": steps, "journal": journal, "moments": moments, "swallowed": True}
    found = bench.judge(1, **job, crashes=4, recoveries=0.03)
    assert found["violations"] == []
    assert len(found["states"]) > 30
    report(figures, found)


@pytest.mark.stress
@pytest.mark.parametrize("journal", JOURNALS)
def test_what_a_power_loss_leaves_is_sound_at_length(
    benches: Callable[[], Bench], beside: Callable[[str], ModuleType], figures: Callable[..., None], journal: str
) -> None:
    """Workload after workload, each of its own seed; MEMODB_STRESS=10 judges more than 20,000 distinct states."""
    wanted = beside("sizes").size(0, 1_100, long=True)
    found: dict[str, Any] = {}
    for seed in itertools.count(101):
        bench = benches()
        bench.run_workload(seed=seed, steps=60, journal=journal)
        share = min(0.1, wanted / 20_000)
        job = {"seed": seed, "steps": 60, "journal": journal, "moments": share, "swallowed": seed % 2 == 0}
        found = added(found, bench.judge(PROCESSES, **job, crashes=8, recoveries=0.03))
        assert found["violations"] == []
        if len(found["states"]) >= wanted:
            break
    report(figures, found)


def added(found: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Two results as one."""
    if not found:
        return more
    return {name: found[name] | value if name == "states" else found[name] + value for name, value in more.items()}


def report(figures: Callable[..., None], found: dict[str, Any]) -> None:
    """The figures, for who quotes them."""
    figures(distinct_states=len(found["states"]), moments=found["moments"], recoveries_cut_off=found["recoveries"])
    figures(**{way.replace(" ", "_"): count for way, count in sorted(found["ways"].items())})
