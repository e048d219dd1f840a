"""Judging what a power loss left: each state of the disk is opened with memodb and compared with what a dict says.

Run as a script by test_power_loss.py, once a core::

    LD_PRELOAD=shim.so python powerloss_verify.py '{"trace": ..., ...}'

(see :class:`Job`); the result is one line of JSON, see :class:`Result`.
"""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import json
import os
import random
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import powerloss as model
import powerloss_workload as workload

import memodb

_RECOVERY_MOMENTS = 10
"""Moments of one recovery at which the power goes again, about."""

_ENOUGH = 5
"""Violations after which a job stops: what broke is known, and every state of a broken store would say it again."""


@dataclass(frozen=True)
class Job:
    """What one process looks at.

    Parameters
    ----------
    trace, root : str
        The trace, and the directory that was traced.
    work : str
        A directory for the states, this process's own.
    seed, steps : int
        Of the plan that was traced.
    journal : str
        SQLite's, while tracing and now.
    swallowed : bool
        Leave out the syncs of directories that SQLite does: it ignores their errors, so a store must not need them.
    share, shares : int
        Which moments of the trace are this process's: those that leave ``share`` when divided by ``shares``.
    moments : float
        Share of the moments looked at; the telling ones always are.
    crashes : int
        Crashes at each moment.
    recoveries : float
        Share of the states with a step in flight whose recovery is traced too, and cut off by a second power loss.
    only : (int, int) or None
        To look into a finding: this moment and crash alone, its state left in ``work``.
    """

    trace: str
    root: str
    work: str
    seed: int
    steps: int
    journal: str
    swallowed: bool = False
    share: int = 0
    shares: int = 1
    moments: float = 1.0
    crashes: int = 8
    recoveries: float = 0.0
    only: tuple[int, int] | None = None


@dataclass
class Result:
    """What was looked at, and what was wrong.

    Parameters
    ----------
    moments : int
        Moments of the trace at which the power went.
    states : list of str
        Digests of the distinct disks that were opened and judged, those after a second power loss included.
    ways : dict of str to int
        Distinct states by the way in which the crash was chosen.
    recoveries : int
        Recoveries that were traced and cut off.
    violations : list of str
    """

    moments: int = 0
    states: list[str] = field(default_factory=list)
    ways: dict[str, int] = field(default_factory=dict)
    recoveries: int = 0
    violations: list[str] = field(default_factory=list)


class ViolationError(Exception):
    """The store broke its promise."""


@dataclass(frozen=True)
class Moment:
    """What is promised at one moment of the trace.

    Parameters
    ----------
    step : int
        The last step that had begun; -1 before the first.
    allowed : list of World
        What may be stored: one world, or where a step was in flight those it goes through.
    """

    step: int
    allowed: list[workload.World]

    @property
    def is_settled(self) -> bool:
        """Whether nothing was in flight."""
        return len(self.allowed) == 1


class Progress:
    """Follows the marks of a trace."""

    def __init__(self, steps: list[workload.Step]) -> None:
        self.stages = workload.worlds(steps)
        self.moment = Moment(-1, [{}])

    def follow(self, mark: str) -> None:
        verb, *numbers = mark.split()
        step = int(numbers[0])
        stages = self.stages[step]
        if verb == "begin":
            self.moment = Moment(step, stages)
        elif verb == "part":
            self.moment = Moment(step, stages[-(-int(numbers[1]) // workload.BATCH) :])
        else:
            self.moment = Moment(step, stages[-1:])


# -- one state -----------------------------------------------------------------------------------------------------


class Judge:
    """Opens what is left of the stores in a directory, and compares."""

    def __init__(self, steps: list[workload.Step], tokenizer: Path) -> None:
        self.steps = steps
        self.texts = list(workload.texts(steps))
        self.tokenizer = tokenizer

    def judge(self, root: Path, moment: Moment, chance: random.Random, *, twice: bool) -> workload.World:
        """The world that the directory holds; ViolationError where it is none of those allowed, or not sound."""
        try:
            with self._open(root / workload.STORE, moment.allowed, chance) as db:
                found = self._contents(db)
                world = self._among(found, moment.allowed)
                self._require_sound(db, found, moment.step, chance)
                documents = sum(map(len, found.values()))
                digest = db.digest() if twice else None
            self._require_tidy(root / workload.STORE, documents)
            self._require_copies(root, moment, chance)
            if twice:
                with memodb.connect(root / workload.STORE, create=False) as db:
                    if self._contents(db) != found or db.digest() != digest:
                        raise ViolationError("a second open finds something else than the first")
        except ViolationError:
            raise
        except Exception as exc:
            raise ViolationError(f"{type(exc).__name__}: {exc}\n{traceback.format_exc(limit=-4)}") from exc
        return world

    def _open(self, path: Path, allowed: list[workload.World], chance: random.Random) -> memodb.Store:
        if all(workload.STORE in world for world in allowed):
            return memodb.connect(path, create=False)
        # Its creation was never acknowledged: there may be nothing, and then creating it works, be it looked at or not.
        if chance.random() < 0.5:
            try:
                return memodb.connect(path, create=False)
            except memodb.MemodbError:
                pass
        return workload.create(path, self.tokenizer)

    def _contents(self, db: memodb.Store) -> workload.Contents:
        found: workload.Contents = {}
        for info in db.collections():
            handle = db.collection(info.name, create=False)
            found[info.name] = {
                given["id"]: (given["text"], given["source"], given["metadata"]["value"]) for given in handle.export()
            }
            if len(handle) != len(found[info.name]):
                raise ViolationError(f"{len(handle)} documents are counted, {len(found[info.name])} exported")
        return found

    def _among(self, found: workload.Contents, allowed: list[workload.World]) -> workload.World:
        for world in allowed:
            if world.get(workload.STORE, {workload.DEFAULT: {}}) == found:
                return world
        before = allowed[0].get(workload.STORE, {})
        lost = [name for at, held in before.items() for name in held if name not in found.get(at, {})]
        extra = [name for at, held in found.items() for name in held if name not in before.get(at, {})]
        raise ViolationError(f"the store holds none of {len(allowed)} worlds: missing {lost}, unexpected {extra}")

    def _require_sound(self, db: memodb.Store, found: workload.Contents, step: int, chance: random.Random) -> None:
        # Checks are most of the time a state takes: the collection in hand always, the others in a sample.
        at_hand = self.steps[max(0, step)].collection
        for name in found:
            if name == at_hand or chance.random() < 0.3:
                handle = db.collection(name, create=False)
                report = handle.check()
                if not report.ok:
                    raise ViolationError(f"collection {name!r} does not check clean: {report.findings}")
                self._require_traced(handle, name, found[name], step, chance)

    def _require_traced(
        self, handle: memodb.Store, name: str, held: dict[str, workload.Entry], step: int, chance: random.Random
    ) -> None:
        """A stored text is traced to its document; what was deleted or replaced, or never arrived, to none."""
        given = [item for item in self.texts if item[1] == name and item[0] <= step]
        live = [item for item in given if held.get(item[2]) == item[3]]
        dead = [item for item in given if held.get(item[2]) != item[3]]
        asked = [*dead[-1:], *chance.sample(dead, min(1, len(dead))), *chance.sample(live, min(1, len(live)))]
        text = f" {workload.STRANGE} ".join(entry[0] for _, _, _, entry in asked)
        told = {source.id for span in handle.trace(text) for source in span.documents} if asked else set()
        expected = {item[2] for item in asked if item in live}
        if told != expected:
            raise ViolationError(f"in {name!r}, {[item[2] for item in asked]} are traced to {told}, not {expected}")

    def _require_tidy(self, store: Path, documents: int) -> None:
        """No temporary file, no tile that the catalog does not name, no row of a hidden document: all may hold what was
        deleted."""
        left = [str(path.relative_to(store)) for path in store.rglob("*.tmp")]
        connection = sqlite3.connect(f"file:{store / 'catalog.db'}?mode=ro", uri=True)
        try:
            named = {name for (name,) in connection.execute("SELECT tile FROM segment WHERE tile IS NOT NULL")}
            (rows,) = connection.execute("SELECT count(*) FROM document").fetchone()
        finally:
            connection.close()
        tiles = {path.name for path in (store / "segments").iterdir()} if (store / "segments").exists() else set()
        if rows != documents:
            raise ViolationError(f"the catalog keeps {rows} rows for {documents} documents")
        if left or tiles != named:
            raise ViolationError(f"left behind: {left}, unnamed tiles {tiles - named}; missing: {named - tiles}")

    def _require_copies(self, root: Path, moment: Moment, chance: random.Random) -> None:
        """A backup, or what was restored from one, is whole or not there: never something in between."""
        at_hand = self.steps[max(0, moment.step)].path
        for path in {path for world in moment.allowed for path in world} - {workload.STORE}:
            if path == at_hand or chance.random() < 0.05:
                try:
                    found = self._copy(root / path, root.with_name("restored"), is_backup=path.startswith("backup"))
                except memodb.MemodbError:
                    found = None
                if found not in [world.get(path) for world in moment.allowed]:
                    raise ViolationError(f"{path!r} is none of what it may be: {found}")

    def _copy(self, path: Path, restored: Path, *, is_backup: bool) -> workload.Contents:
        if is_backup:
            shutil.rmtree(restored, ignore_errors=True)
            memodb.restore(path, restored, without_ledger=True)
        with memodb.connect(restored if is_backup else path, create=False) as db:
            if not db.check().ok:
                raise ViolationError(f"{path} does not check clean")
            return self._contents(db)


# -- all states ----------------------------------------------------------------------------------------------------


class Replay:
    """One job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.work = Path(job.work)
        self.steps = workload.plan(job.seed, job.steps)
        self.judge = Judge(self.steps, Path(job.root).with_name("tokenizer.json"))
        records = model.read_trace(Path(job.trace).read_bytes())
        self.records = model.without_swallowed_syncs(records) if job.swallowed else records
        self.result = Result()
        self.created = False
        self._seen: set[tuple[str, str]] = set()
        self._states: set[str] = set()

    def run(self) -> Result:
        """Go through the trace, and judge."""
        disk = model.Disk(self.job.root)
        progress = Progress(self.steps)
        for number, record in enumerate(self.records):
            disk.apply(record)
            if record.op == model.MARK:
                progress.follow(record.path)
                self.created = progress.moment.step > 0
            for which, (way, kept) in self._crashes(number, record, disk):
                self._consider(disk.image(kept), progress.moment, f"moment {number}, crash {which}, {way}", way)
                if len(self.result.violations) >= _ENOUGH:
                    break
        self.result.states = sorted(self._states)
        return self.result

    def _crashes(self, number: int, record: model.Record, disk: model.Disk) -> Iterator[tuple[int, model.Crash]]:
        job = self.job
        chance = random.Random(f"{job.seed} {number}")
        if number % job.shares != job.share:
            return
        count = job.crashes if chance.random() < job.moments else self._always(record)
        if not count or len(self.result.violations) >= _ENOUGH:
            return
        self.result.moments += 1
        ways = enumerate(model.crashes(disk.pending(), chance))
        if job.only is not None:
            yield from (pair for pair in itertools.islice(ways, job.only[1] + 1) if (number, pair[0]) == job.only)
        else:
            yield from itertools.islice(ways, count)

    def _always(self, record: model.Record) -> int:
        """Crashes right after this record, however few moments are drawn: those where a wrong order would show."""
        if record.op == model.MARK:
            return 0 if record.path.startswith("begin") else 1  # what was just acknowledged, less all that is unsynced
        if record.op in (model.SYNC, model.SYNC_DIRECTORY):
            return 0 if self.created else 1  # the few steps by which a store comes into being
        if PurePosixPath(record.path).parent.name != "segments":
            return 0
        # A tile made: nothing may rely on its name yet, or it is there and nothing names it. One destroyed: nothing may
        # rely on it any more, or it is there still.
        return 2 if record.op in (model.RENAME, model.UNLINK) else 0

    def _consider(self, image: model.Image, moment: Moment, where: str, way: str, *, again: bool = True) -> None:
        digest = model.image_digest(image)
        key = digest, json.dumps(moment.allowed, sort_keys=True)
        if key in self._seen:
            return
        self._seen.add(key)
        if digest not in self._states:
            self._states.add(digest)
            self.result.ways[way] = self.result.ways.get(way, 0) + 1
        root = self.work / "state"
        chance = random.Random(f"{self.job.seed} {where}")
        model.materialise(image, root)
        if self.job.only is not None:
            model.materialise(image, self.work / "kept")
        try:
            world = self.judge.judge(root, moment, chance, twice=chance.random() < 0.1)
            if moment.is_settled:
                _require_destroyed(image, root)
        except ViolationError as exc:
            step = self.steps[max(0, moment.step)]
            doing = f"after step {moment.step}" if moment.is_settled else f"in step {moment.step}"
            self.result.violations.append(f"seed {self.job.seed}, {where}, {doing} ({step.verb}): {exc}")
            return
        if again and not moment.is_settled and chance.random() < self.job.recoveries:
            self._cut_off(image, moment, world, where, chance)

    # -- the second power loss ---------------------------------------------------------------------------------

    def _cut_off(
        self, image: model.Image, moment: Moment, world: workload.World, where: str, chance: random.Random
    ) -> None:
        """Trace the recovery of a state, and judge what a power loss during it leaves."""
        self.result.recoveries += 1
        root = self.work / "recovery"
        model.materialise(image, root)
        disk = model.Disk(str(root), image)
        trace = self._traced_recovery(root)
        if trace is None:
            self.result.violations.append(f"seed {self.job.seed}, {where}: the recovery fails in a process of its own")
            return
        records = model.read_trace(trace)
        for number, record in enumerate(records):
            disk.apply(record)
            if record.op == model.MARK:
                # Who has seen the store open has been told which world it is.
                moment = dataclasses.replace(moment, allowed=[world])
            if record.op != model.MARK and chance.random() * len(records) > _RECOVERY_MOMENTS:
                continue
            for way, kept in itertools.islice(model.crashes(disk.pending(), chance), 3):
                self._consider(disk.image(kept), moment, f"{where}; recovery {number}", f"again, {way}", again=False)

    def _traced_recovery(self, root: Path) -> bytes | None:
        trace = self.work / "recovery.trace"
        trace.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                shim = ctypes.CDLL(None)
                descriptor = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                shim.shim_trace(os.fsencode(root), descriptor)
                with workload.create(root / workload.STORE, self.judge.tokenizer) as db:
                    self.judge._contents(db)
                    shim.shim_mark(b"opened")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        return trace.read_bytes() if status == 0 else None


def _require_destroyed(image: model.Image, root: Path) -> None:
    """What held deleted documents was off the disk when the deletion was acknowledged, not only after a reopen."""
    tiles = {name for name in image if name.startswith(f"{workload.STORE}/segments/")}
    swept = [name for name in tiles if not (root / name).exists()]
    if swept:
        raise ViolationError(f"tiles that nothing named were still on the disk: {swept}")


def main(argument: str) -> None:
    """Do a job and print its result."""
    given: dict[str, Any] = json.loads(argument)
    if given.get("only") is not None:
        given["only"] = tuple(given["only"])
    job = Job(**given)
    workload.use_journal(job.journal)
    result = Replay(job).run()
    sys.stdout.write(json.dumps(dataclasses.asdict(result)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
