"""The benchmarks: every peer answers exactly, whoever does not is not compared, and every goal has its row."""

from __future__ import annotations

import cProfile
import itertools
import pstats
import sys
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb.memory import Backend, backend_for

ROOT = Path(__file__).resolve().parents[2]

with pytest.MonkeyPatch.context() as patched:
    patched.syspath_prepend(str(ROOT / "tools"))
    from bench import (
        check,
        command,
        compare,
        footprint,
        goals,
        growth,
        inside,
        page,
        profile,
        questions,
        stream,
        timing,
    )
    from bench.indexes import InfiniGram, Tokengrams
    from bench.machine import MemoryRates
    from bench.peers import Dict, Memodb, NumPy, Peer, SQLite

TINY = goals.Sizes(repeats=1, builds=1, calls=3, singles=2, deleted=1, many=2)
FEW = settings(max_examples=15)

ids = st.lists(st.integers(0, 2), min_size=1, max_size=24).map(lambda held: np.array(held, dtype=np.int32))
corpora = st.lists(ids.map(lambda held: stream.Document("", held)), min_size=1, max_size=5)
"""Three tokens: contexts of 4 recur in and between documents."""


@pytest.fixture(scope="module")
def given_stream() -> stream.Stream:
    return stream.read(4000, 22)


@pytest.fixture(scope="module")
def asked(given_stream: stream.Stream) -> list[questions.Kind]:
    return questions.kinds(given_stream.stored, compare.BATCH)


def naive(documents: Sequence[stream.Document], context: Sequence[int]) -> tuple[Counter[int], Counter[int]]:
    """Occurrences and documents of what follows a context, from their definition."""
    occurrences: Counter[int] = Counter()
    holding: Counter[int] = Counter()
    for document in documents:
        framed = [*document.ids.tolist(), stream.END]
        n = len(context)
        here = [framed[at + n] for at in range(len(framed) - n) if framed[at : at + n] == list(context)]
        occurrences.update(here)
        holding.update(set(here))
    return occurrences, holding


# -- what is asked, and the truth --------------------------------------------------------------------------------------


@given(corpora, st.integers(1, 5))
@FEW
def test_the_oracle_and_the_pairs_are_the_definition(documents: list[stream.Document], length: int) -> None:
    every = np.array(list(itertools.product(range(3), repeat=min(length, 3))))
    for context, found in zip(every.tolist(), questions.followers(documents, every), strict=True):
        assert (found.occurrences, found.documents) == naive(documents, context)
    contexts, following = stream.pairs(documents, length)
    counted = Counter((tuple(row), token) for row, token in zip(contexts.tolist(), following.tolist(), strict=True))
    expected: Counter[Any] = Counter()
    for context in {tuple(row) for row in contexts.tolist()}:
        expected.update({(context, token): n for token, n in naive(documents, context)[0].items()})
    assert counted == expected
    assert len(contexts) == sum(max(0, document.ids.size + 1 - length) for document in documents)


def test_known_contexts_are_stored_and_unknown_ones_are_not(
    given_stream: stream.Stream, asked: list[questions.Kind]
) -> None:
    assert {(kind.length, kind.known) for kind in asked} == {(4, True), (4, False), (16, True), (16, False)}
    for kind in asked:
        for found in questions.followers(given_stream.stored, kind.contexts):
            assert bool(found.occurrences) == kind.known
    starts = {tuple(document.ids[:4].tolist()) for document in given_stream.stored}
    assert starts.isdisjoint(map(tuple, asked[0].contexts.tolist()))  # memodb answers those otherwise


def test_unknown_contexts_are_not_stored_where_most_are() -> None:
    """Three tokens: most contexts of 4 are stored, so most of what is drawn has to be left out."""
    generator = np.random.default_rng(0)
    documents = [stream.Document("", generator.integers(0, 3, 40).astype(np.int32)) for _ in range(2)]
    drawn = questions.kinds(documents, 2000)
    unknown = [kind for kind in drawn if not kind.known]
    assert {kind.length for kind in unknown} == {4, 16}
    for kind in unknown:
        assert not any(found.occurrences for found in questions.followers(documents, kind.contexts))


def test_a_stream_is_the_same_every_time(given_stream: stream.Stream) -> None:
    again = stream.read(4000, 22)
    assert again.describe() == given_stream.describe()
    assert [document.text for document in again.spare] == [document.text for document in given_stream.spare]
    tokenizer = memodb.Tokenizer.shipped()
    assert all(np.array_equal(tokenizer.encode(document.text), document.ids) for document in again.stored)


# -- peers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Dict, NumPy, SQLite])
@given(first=corpora, second=corpora)
@FEW
def test_what_was_appended_is_counted_and_what_was_deleted_is_not(
    kind: type[Peer],
    first: list[stream.Document],
    second: list[stream.Document],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    every = np.array(list(itertools.product(range(3), repeat=4)))
    peer = kind(tmp_path_factory.mktemp("peer"))
    peer.ingest(first)
    peer.append(second)
    _exact(peer, [*first, *second], every)
    peer.delete(first)
    _exact(peer, second, every)
    peer.close()


def _exact(peer: Peer, documents: list[stream.Document], contexts: np.ndarray) -> None:
    exact = [questions.top(naive(documents, context)[0]) for context in contexts.tolist()]
    assert [list(map(tuple, row)) for row in questions.rows(peer.batch(contexts))] == exact
    assert [list(map(tuple, questions.rows(peer.one(context))[0])) for context in contexts.tolist()] == exact


@pytest.mark.filterwarnings("ignore")  # of the packages that they bring along
@pytest.mark.parametrize("kind", compare.PEERS)
def test_every_installed_peer_agrees_with_the_exact_counts(
    kind: type[Peer], given_stream: stream.Stream, asked: list[questions.Kind], tmp_path: Path
) -> None:
    if reason := kind.missing():
        assert issubclass(kind, Tokengrams | InfiniGram)
        pytest.skip(reason)
    peer = kind(tmp_path)
    peer.ingest(given_stream.stored)
    assert not check.faults(peer, given_stream.stored, asked, 60)
    if peer.changes:
        peer.append(given_stream.spare[:2])
        assert check.faults(peer, given_stream.stored, asked[:1], 60) or isinstance(peer, Memodb)
        peer.delete(given_stream.spare[:2])
        assert not check.faults(peer, given_stream.stored, asked[:1], 60)
    assert bool(peer.disk_bytes()) == peer.durable
    peer.close()


# -- who answers wrong -------------------------------------------------------------------------------------------------


class Liar(Dict):
    """A dict that counts the likeliest token once too often."""

    name = "liar"

    def batch(self, contexts: np.ndarray) -> list[questions.Row]:
        return [[(row[0][0], row[0][1] + 1), *row[1:]] if row else row for row in super().batch(contexts)]


class Keeper(Dict):
    """A dict that deletes nothing."""

    name = "keeper"

    def delete(self, documents: Sequence[stream.Document]) -> None:
        return


class Absent(Dict):
    name = "absent"

    @classmethod
    def missing(cls) -> str:
        return "not on this machine"


def test_who_answers_wrong_or_is_missing_is_not_compared(
    given_stream: stream.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "PEERS", (Memodb, Liar, Absent, SQLite))
    monkeypatch.setattr(compare, "_SAMPLE", 40)
    monkeypatch.setattr(compare, "weigh", lambda kind, place, tokens: footprint.Footprint(10.0, 4.0))
    with timing.steady():
        result = compare.compare(given_stream, 1, device="cpu", calls=4, say=lambda line: None)
    assert result.absent.keys() == {"liar", "absent"}
    assert "known, 4 tokens: 40 of 40 answers are wrong" in result.absent["liar"]
    assert all(line.values.keys() == {"memodb", "SQLite"} for line in result.lines)
    assert all(value > 0 for line in result.lines for value in line.values.values() if isinstance(value, float))
    text = page.comparison_table(result)
    assert "| question | unit | memodb | SQLite |" in text
    assert "Not compared: absent, not on this machine." in text


def test_who_does_not_delete_ends_the_run(given_stream: stream.Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "PEERS", (Keeper,))
    monkeypatch.setattr(compare, "weigh", lambda kind, place, tokens: footprint.Footprint(10.0, 4.0))
    monkeypatch.setattr(compare, "_SAMPLE", 40)
    again = stream.Stream(given_stream.stored, given_stream.stored)  # appended anew: every count doubles
    with timing.steady(), pytest.raises(SystemExit, match="keeper answers wrong after a deletion"):
        compare.compare(again, 1, device="cpu", calls=4, say=lambda line: None)


def test_a_ratio_says_how_many_times_better_memodb_is() -> None:
    rate = compare.Line("rate", "contexts/s", True, {"memodb": 30.0, "dict": 10.0, "NumPy": "cannot"})
    time = compare.Line("time", "ms", False, {"memodb": 30.0, "dict": 10.0})
    assert (rate.advantage("dict"), rate.advantage("NumPy"), rate.advantage("SQLite")) == (3.0, None, None)
    assert time.advantage("dict") == pytest.approx(1 / 3)


def test_misses_low_supports_and_false_recall_are_faults(
    given_stream: stream.Stream, asked: list[questions.Kind], tmp_path: Path
) -> None:
    known, unknown = asked[0], next(kind for kind in asked if not kind.known)
    with memodb.connect(":memory:") as db:
        db.append_many(document.text for document in given_stream.stored)
        exact = questions.followers(given_stream.stored, known.contexts[:20])
        assert not check.without_misses(db, known, exact).fault
        held = exact[7].documents
        more = [*exact[:7], questions.Followers({}, {**held, stream.END - 1: 1}), *exact[8:]]
        assert check.without_misses(db, known, more).missed == 1
        token = next(iter(held))
        more[7] = questions.Followers({}, {**held, token: held[token] + 500})
        assert check.without_misses(db, known, more).low == 1
        claimed = questions.Kind(unknown.name, known.contexts, known=False)  # they are stored: all are answered
        assert check.without_misses(db, claimed, exact).fault
        assert not check.without_misses(
            db, unknown, questions.followers(given_stream.stored, unknown.contexts[:50])
        ).fault


# -- timing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("things", "repeats"), [(1, 3), (4, 6)])
def test_what_is_compared_takes_turns(things: int, repeats: int) -> None:
    seen: list[int] = []
    taken = timing.alternate({f"{n}": lambda n=n: seen.append(n) for n in range(things)}, repeats)  # type: ignore[misc]
    assert all(len(seconds) == repeats for seconds in taken.values())
    rounds = [seen[at : at + things] for at in range(0, len(seen), things)]
    assert all(sorted(turn) == list(range(things)) for turn in rounds)
    assert [turn[0] for turn in rounds] == [number % things for number in range(repeats)]


def test_time_of_libraries_is_charged_to_who_called_them() -> None:
    home = profile._HOME
    ours, theirs = (f"{home}/a.py", 1, "f"), (f"{home}/b.py", 2, "g")
    library, builtin, outside = ("np.py", 1, "dot"), ("~", 0, "<built-in>"), ("bench.py", 1, "act")
    stats: dict[Any, Any] = {
        outside: (1, 1, 0.5, 10.5, {}),
        ours: (1, 1, 1.0, 6.0, {outside: (1, 1, 1.0, 6.0)}),
        theirs: (1, 1, 2.0, 4.0, {outside: (1, 1, 2.0, 4.0)}),
        library: (2, 2, 3.0, 7.0, {ours: (1, 1, 2.0, 5.0), theirs: (1, 1, 1.0, 2.0)}),
        builtin: (2, 2, 4.0, 4.0, {library: (2, 2, 4.0, 4.0)}),
    }
    own = profile.charged(stats)
    assert own[ours] == pytest.approx(1 + 2 + 4 * 5 / 7)
    assert own[theirs] == pytest.approx(2 + 1 + 4 * 2 / 7)
    assert sum(own.values()) == pytest.approx(10.0)


def test_a_profile_accounts_for_nearly_all_of_the_time(given_stream: stream.Stream) -> None:
    with memodb.connect(":memory:") as db:
        profiler = cProfile.Profile()
        profiler.runcall(db.append_many, [document.text for document in given_stream.stored])
    stats: Any = pstats.Stats(profiler)
    assert sum(profile.charged(stats.stats).values()) == pytest.approx(stats.total_tt, rel=0.05)


def test_lines_of_a_lookup_are_counted_from_the_codes() -> None:
    with memodb.connect(":memory:") as db:
        db.append("The harbour lies north of the old town.")
        configuration = db._collection.configuration
        with db._collection.reading() as memory:
            *layers, _ = memory.codebook.key_ones  # the last are of provenance
        lines = inside.touched(db)
    assert lines == inside.Lines(sum(layers) * configuration.columns // 512, layers[-1] * configuration.ones)
    rate = page.rates_table([MemoryRates(8, 1e6, 1e9)], lines).splitlines()[-1]
    assert rate.endswith(f"| {page.number(1e6 / (lines.presence + lines.support))} |")


# -- goals and page ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(given_stream: stream.Stream, tmp_path_factory: pytest.TempPathFactory) -> list[goals.Figure]:
    place = tmp_path_factory.mktemp("goals")
    with timing.steady():  # once: each collection takes long in a process with so much loaded
        return goals.measure(place, given_stream, TINY, device="cpu", say=lambda line: None)


@pytest.fixture
def points() -> Iterator[list[growth.Point]]:
    return [
        growth.Point(n, 1.0, {("known", "memodb"): rate, ("known", "NumPy"): 1.0}, {"memodb, files": each}, n * 100)
        for n, rate, each in ((10, 9.0, 90.0), (100, 8.0, 10.0), (1000, 2.0, 14.0))
    ]


def test_every_goal_is_measured(figures: list[goals.Figure], points: list[growth.Point]) -> None:
    found = [*figures, *growth.figures(points)]
    assert {figure.goal for figure in found} == goals.GOALS.keys()
    assert all(figure.value > 0 for figure in found)
    text = page.goals_table(found)
    assert "not measured" not in text
    assert text.count("\n|") == len(found) + 2


def test_the_table_has_a_row_for_each_goal_also_where_it_was_not_measured() -> None:
    rows = page.goals_table([]).splitlines()[4:]
    assert [row.split(" | ")[0].removeprefix("| ").rstrip(" |") for row in rows] == [
        goal.label for goal in goals.GOALS.values()
    ]
    assert all(row.endswith("| not measured |") for row in rows)


def test_kernels_are_hidden_before_they_are_loaded_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", types.ModuleType("numba"))
    assert inside.compiled()
    with pytest.raises(SystemExit, match="loaded already"):
        inside.hide_kernels()
    monkeypatch.delitem(sys.modules, "numba")
    assert not inside.compiled()
    inside.hide_kernels()
    assert not inside.compiled()
    assert type(backend_for("cpu")) is Backend


@pytest.mark.parametrize("fast", [False, True])
def test_a_goal_is_reached_from_its_limit_on(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "compiled", lambda: fast)
    for goal, aim in goals.GOALS.items():
        limit = aim.fast if fast else aim.plain
        if limit is None:
            assert goals.Figure(goal, "", 1.0).reached is None
            continue
        assert goals.Figure(goal, "", limit).reached
        assert goals.Figure(goal, "", limit * 1.01).reached == aim.more_is_better
        assert goals.Figure(goal, "", limit * 0.99).reached != aim.more_is_better


def test_growth_is_judged_against_the_second_size(points: list[growth.Point]) -> None:
    ratios = {figure.goal: figure.value for figure in growth.figures(points)}
    assert ratios == {"growth": 4.0, "flat": pytest.approx(1.4), "small": pytest.approx(0.001)}
    assert growth.sizes(1_000_000) == [10_000, 100_000, 1_000_000, 10_000_000]


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "benchmarks.md"
    target.write_text((ROOT / "docs/benchmarks.md").read_text("utf-8"), "utf-8")
    before = target.read_text("utf-8")
    for section in command.QUESTIONS:
        page.write(target, section, "old")
        page.write(target, section, f"measured {section}")
    after = target.read_text("utf-8")
    assert [after.count(f"measured {section}\n") for section in command.QUESTIONS] == [1] * 4
    assert [line for line in before.splitlines() if line.startswith("#")] == [
        line for line in after.splitlines() if line.startswith("#")
    ]
    with pytest.raises(SystemExit, match="no markers of the section other"):
        page.write(target, "other", "")


def test_every_curve_has_a_name_in_the_plots(points: list[growth.Point], tmp_path: Path) -> None:
    page.draw(points, tmp_path)
    for name, curves in (("bytes", ["memodb, files"]), ("lookups", ["memodb: known", "NumPy: known"])):
        drawn = (tmp_path / f"bench-{name}.svg").read_text("utf-8")
        assert [curve for curve in curves if f"<!-- {curve} -->" in drawn] == curves
