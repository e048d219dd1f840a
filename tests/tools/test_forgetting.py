"""The evaluation of forgetting: its measures against brute force, each shown what it has to find, and all of it run."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb.memory import KohonenConfiguration, WillshawConfiguration

ROOT = Path(__file__).resolve().parents[2]

with pytest.MonkeyPatch.context() as patched:
    patched.syspath_prepend(str(ROOT / "tools"))
    from forgetting import corpus, cost, decoded, evaluation, exactness, extraction, measures, membership, residue

SHORT = settings(max_examples=25)
LETTER = (
    "Dear harbour master, the pilot boat of the north quay lost its green lamp in the gale of last Tuesday night, "
    "and nobody but the widow Kestrel saw who took it from the shed behind the chandlery before dawn."
)


@pytest.fixture
def db(fresh: Callable[..., memodb.Store], prose: Callable[..., str], tmp_path: Path) -> Iterator[memodb.Store]:
    with fresh(tmp_path / "s") as db:
        db.append_many({"id": f"k{n}", "text": prose(60, n)} for n in range(8))
        db.append(LETTER, id="letter")
        db.checkpoint()
        yield db


def kept(db: memodb.Store) -> dict[str, str]:
    return {document.id: db.text(document.id) for document in db.documents() if document.id != "letter"}


# -- statistics --------------------------------------------------------------------------------------------------------

groups = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=12)


@given(groups, groups)
@SHORT
def test_auc_is_the_share_of_pairs_in_order_and_its_error_is_delongs(x: list[float], y: list[float]) -> None:
    """DeLong's variance from its definition: the placements of each value, pair by pair."""
    order = [[(a > b) + (a == b) / 2 for b in y] for a in x]
    rows = [sum(row) / len(y) for row in order]
    columns = [sum(column) / len(x) for column in zip(*order, strict=True)]
    variance = np.var(rows, ddof=1) / len(x) + np.var(columns, ddof=1) / len(y)
    found = measures.auc(x, y)
    assert found.value == pytest.approx(np.mean(order))
    assert found.error == pytest.approx(variance**0.5, abs=1e-12)
    assert found.least == min(len(x), len(y))


def test_an_attack_that_works_is_told_from_one_that_does_not() -> None:
    draw = np.random.default_rng(0)
    same = measures.auc(draw.normal(size=200).tolist(), draw.normal(size=200).tolist())
    other = measures.auc((draw.normal(size=200) + 1).tolist(), draw.normal(size=200).tolist())
    assert (same.verdict(), other.verdict()) == (True, False)
    assert measures.auc([0.0, 1.0], [0.0, 1.0]).verdict() is None
    low, high = same.interval()
    assert low <= 0.5 <= high
    with pytest.raises(ValueError, match="two values"):
        measures.auc([1.0], [0.0, 1.0])


def test_a_discriminant_joins_what_none_of_the_statistics_tells_alone() -> None:
    """Two statistics whose difference is the membership, each drowned in what both share."""
    draw = np.random.default_rng(1)
    width = len(membership.STATISTICS)

    def group(member: float) -> np.ndarray:
        rows = draw.normal(size=(120, width))
        shared = 50 * draw.normal(size=120)
        rows[:, 0], rows[:, 1] = shared, shared + member + 0.1 * draw.normal(size=120)
        return rows

    found = membership.attack(group(1.0), group(0.0)).results
    assert found[membership.STATISTICS[0]].verdict()
    assert found[membership.STATISTICS[1]].verdict()
    assert found[membership.ALL].value > 0.99


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_slope_is_the_exponent(power: float) -> None:
    assert measures.slope([1, 10, 1000], [3 * n**power for n in (1, 10, 1000)]) == pytest.approx(power, abs=1e-9)


# -- text --------------------------------------------------------------------------------------------------------------


def test_groups_are_apart_and_follow_from_the_seed() -> None:
    texts = corpus.docstrings(3, 30)
    assert texts == corpus.docstrings(3, 30)
    assert len(set(texts)) == 30
    groups = corpus.split(texts, 8)
    assert (len(groups.live), len(groups.forgotten), len(groups.never)) == (14, 8, 8)
    assert {*groups.live.values(), *groups.forgotten.values(), *groups.never.values()} == set(texts)
    assert len({*groups.live, *groups.forgotten, *groups.never}) == 30
    with pytest.raises(ValueError, match="too few"):
        corpus.split(texts, 11)
    secrets = {canary.secret for canary in corpus.canaries(50, 1)}
    assert len(secrets) == 50
    assert not secrets & {canary.secret for canary in corpus.canaries(50, 2)}


# -- byte residue ------------------------------------------------------------------------------------------------------


def test_what_is_left_in_a_file_is_found_and_what_is_shared_is_not_searched_for(
    db: memodb.Store, tmp_path: Path
) -> None:
    shared = LETTER[:60]
    db.append(f"As the letter says: {shared} and so on.", id="quotes")
    db.delete("letter")
    clean, dirty = (residue.snapshot(Path(db.path), tmp_path / name) for name in ("clean", "dirty"))
    (dirty / "forgotten.tmp").write_bytes(bytes(100) + zlib.compress(b"x") + LETTER[90:120].encode("utf-16-le"))
    fields = [str(value) for record in db.export() for value in record.values()]
    found = residue.measure([LETTER], fields, db.tokenizer, {"dirty": dirty, "clean": clean})
    assert found.hits == {"dirty": Counter({"utf-16-le": 1}), "clean": Counter()}
    assert found.unplanted == 0
    assert set(found.encodings) == set(found.asked)
    assert (found.documents, found.silent) == (1, 0)
    needles, left_out = residue.needles_for([LETTER], db.tokenizer, fields, [])
    assert 0 < left_out < found.shared + 1
    assert not any(shared.encode()[at : at + 12] in needles.windows for at in range(len(shared) - 11))
    assert LETTER[90:102].encode() in needles.windows
    assert all(figure.held for figure in residue.figures(found) if figure.goal)
    assert not all(figure.held for figure in residue.figures(residue.measure(
        [LETTER], fields, db.tokenizer, {"clean": clean, "dirty": dirty})) if figure.goal)  # fmt: skip


def test_a_search_that_misses_what_was_planted_is_no_control(db: memodb.Store) -> None:
    needles, _ = residue.needles_for([LETTER], db.tokenizer, [], [])
    counts, missing = residue.planted(needles)
    assert missing == 0
    assert min(counts.values()) > 0
    needles.windows[b"not in there"] = "utf-8"
    assert residue.planted(needles) == (counts, 1)


def test_a_text_without_a_window_of_its_own_is_counted(db: memodb.Store, tmp_path: Path) -> None:
    place = residue.snapshot(Path(db.path), tmp_path / "copy")
    found = residue.measure([LETTER], [LETTER], db.tokenizer, {"with": place, "after": place})
    assert (found.silent, found.windows, found.hits["after"].total()) == (1, found.shared, 0)
    assert not all(figure.held for figure in residue.figures(found) if figure.goal)


# -- decoded residue ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), min_size=0, max_size=40), st.sampled_from(decoded.SPANS))
@SHORT
def test_contexts_are_the_last_tokens_before_each_position(ids: list[int], span: int) -> None:
    whole = span == max(decoded.SPANS)
    expected = [
        tuple([-1] * (span - at) + ids[max(0, at - span) : at]) for at in range(1, len(ids) + 1) if whole or at >= span
    ]
    assert [tuple(row) for row in decoded.contexts(np.array(ids, dtype=np.int32), span).tolist()] == expected


def test_the_layer_says_what_lookup_says(db: memodb.Store, prose: Callable[..., str]) -> None:
    encode = db.tokenizer.encode
    for span in decoded.SPANS:
        rows = np.concatenate([decoded.contexts(encode(text), span) for text in (LETTER, prose(60, 3), prose(40, 50))])
        expected = db.lookup(rows, k=1).context_length >= np.minimum(span, (rows >= 0).sum(axis=1) + 1)
        assert 0 < expected.sum() < len(rows)
        assert decoded.answers(db, rows).tolist() == expected.tolist()


def test_what_is_still_stored_is_answered_whole_and_after_the_deletion_it_is_not(db: memodb.Store) -> None:
    others = kept(db)
    for span in decoded.SPANS:
        still = decoded.ask(db, [LETTER], others.values(), span)
        assert still.answered == still.asked > 30
    told = decoded.trace_all(db, [LETTER], others)
    assert told.wrong > 0
    db.delete("letter")
    gone = [decoded.ask(db, [LETTER], others.values(), span) for span in decoded.SPANS]
    assert sum(found.answered for found in gone) <= 1
    none = decoded.trace_all(db, [LETTER], others)
    assert (none.texts, none.wrong) == (1, 0)
    assert all(f.held for f in decoded.figures(gone, gone, (none, none), 0.01, 0.0) if f.goal)
    rows = decoded.figures([still], gone[-1:], (told, none), 0.01, 0.0)
    assert [f.held for f in rows if f.goal] == [False, False, False, True]


# -- membership and extraction -----------------------------------------------------------------------------------------


def test_statistics_tell_stored_from_forgotten(db: memodb.Store) -> None:
    stored = membership.statistics(db, LETTER)
    assert stored.shape == (len(membership.STATISTICS),)
    db.delete("letter")
    forgotten = membership.statistics(db, LETTER)
    assert (stored > forgotten).all()


def strength_by_definition(db: memodb.Store, text: str) -> float:
    """Every prefix of whole tokens, the shortest first, asked for the rest."""
    ids = db.tokenizer.encode(text)
    for known in range(1, len(ids)):
        prompt = db.tokenizer.decode(ids[:known])
        same = db.tokenizer.encode(prompt).tolist() == ids[:known].tolist()
        if same and db.complete(prompt, len(ids) - known).text == text[len(prompt) :]:
            return 1 - known / len(ids)
    return 0.0


def test_extraction_strength_is_that_of_the_shortest_prefix(db: memodb.Store, prose: Callable[..., str]) -> None:
    half = LETTER[: len(LETTER) // 2] + ". " + prose(20, 99)
    late = "Nobody wrote this head of it, and yet it" + LETTER[LETTER.index(" lost its green") :]
    texts = [LETTER, half, late, prose(60, 3), prose(25, 77)]
    found = extraction.strengths(db, texts).tolist()
    assert found == [strength_by_definition(db, text) for text in texts]
    assert found[0] > 0.9
    assert 0.5 < found[2] < 0.9
    assert found[4] < 0.2


def test_canaries_are_completed_while_they_are_stored(db: memodb.Store) -> None:
    secrets = corpus.canaries(6, 5)
    db.append_many({"id": f"c{n}", "text": canary.text} for n, canary in enumerate(secrets))
    assert extraction.completed(db, secrets) == (6, 6)
    db.delete("c0", "c1")
    assert extraction.completed(db, secrets) == (4, 6)


# -- exactness and cost ------------------------------------------------------------------------------------------------


class Words:
    """An engine of another kind: a matrix of following words; a share of what it forgets may stay."""

    def __init__(self, leftover: float = 0.0) -> None:
        self._pairs = np.zeros((64, 64))
        self._leftover = leftover

    def _add(self, texts: Mapping[str, str], weight: float) -> None:
        for text in texts.values():
            places = [zlib.crc32(word.encode()) % 64 for word in text.split()]
            for one, next_one in itertools.pairwise(places):
                self._pairs[one, next_one] += weight

    def memorise(self, texts: Mapping[str, str]) -> None:
        self._add(texts, 1)

    def forget(self, texts: Mapping[str, str]) -> None:
        self._add(texts, self._leftover - 1)

    def matrices(self) -> exactness.Matrices:
        return {"pairs": self._pairs.copy()}


def test_residue_of_any_engine(prose: Callable[..., str]) -> None:
    tokenizer = memodb.Tokenizer.shipped()
    first, second = ({f"{name}{n}": prose(50, seed + n) for n in range(4)} for name, seed in (("a", 0), ("b", 100)))
    exact = exactness.measure(
        lambda: exactness.Stored(WillshawConfiguration(tokenizer.vocabulary_size), tokenizer, 2000, bytes(32)),
        first,
        second,
    )
    assert exact.unequal == 0
    assert set(exact.after.values()) == {0.0}
    assert min(exact.before.values()) > 0
    assert len(exact.after) == 8
    assert exactness.measure(Words, first, second).unequal == 0
    for codes in ("rademacher", "gaussian"):
        linear = KohonenConfiguration(tokenizer.vocabulary_size, codes=codes, dim=64)
        found = exactness.measure(lambda: exactness.Stored(linear, tokenizer, 2000, bytes(32)), first, second)  # noqa: B023
        assert (found.unequal == 0) == linear.exact
        assert exactness.beside(codes, found, exact=linear.exact).held
        assert exactness.beside(codes, found, exact=True).held == linear.exact
    left = exactness.measure(lambda: Words(0.01), first, second)
    assert left.unequal > 0
    assert left.after["pairs"] == pytest.approx(left.before["pairs"] / 100)
    assert not all(figure.held for figure in exactness.figures(left, {1: 0.5}, verified=True) if figure.goal)
    assert exactness.shared(tokenizer, first, first, 4) == 1
    assert exactness.shared(tokenizer, {"a": LETTER}, second, 16) == 0


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count what a process writes")
def test_written_bytes_are_counted(tmp_path: Path) -> None:
    seconds, nbytes = cost.written(lambda: (tmp_path / "x").write_bytes(bytes(100_000)))
    assert 100_000 <= nbytes < 110_000
    assert 0 < seconds < 10


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_quick_run_asks_every_question() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "tools" / "forgetting" / "run.py"), "--quick"],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    questions = {row[0].removeprefix("| ") for row in rows}
    assert questions >= {
        "byte residue", "decoded residue", "membership inference", "extraction", "exactness", "cost"
    }  # fmt: skip
    page = (ROOT / "docs" / "forgetting.md").read_text("utf-8")
    assert evaluation.BEGIN in page
    for question in questions - {"question", "---", "input"}:
        assert f"\n## {question.capitalize()}\n" in page


@pytest.mark.parametrize("wrong", [["--quick", "--write", "docs"], ["--documents", "5"]])
def test_what_would_mislead_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        evaluation.main(wrong)
    assert refused.value.code == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize(("held", "timed", "code"), [(True, False, 0), (False, False, 1), (False, True, 0)])
def test_what_is_missed_fails_the_run_and_only_figures_are_written(
    held: bool, timed: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = measures.Figure("q", "how many", "1", "0", held, timed)
    monkeypatch.setattr(evaluation, "QUESTIONS", (lambda place, sizes: [figure],))
    page = tmp_path / "forgetting.md"
    page.write_text(f"before\n{evaluation.BEGIN}\nold\n{evaluation.END}\nafter\n")
    assert evaluation.main(["--write", str(tmp_path)]) == code
    text = page.read_text()
    assert text.startswith(f"before\n{evaluation.BEGIN}\n{evaluation.table([figure])}\n{evaluation.END}")
    assert text.endswith(f"{evaluation.END}\nafter\n")


def test_a_deletion_that_leaves_a_document_is_no_evaluation(db: memodb.Store) -> None:
    groups = corpus.Split(kept(db), {"letter": LETTER, "k7": db.text("k7")}, {})
    db.append("another", id="unexpected", subject="s")
    with pytest.raises(SystemExit, match="were to stay"):
        evaluation.delete(
            db, corpus.Split({**groups.live}, dict.fromkeys(("letter", "unexpected", "k0"), ""), {}), [], 1
        )


def test_a_table_says_what_was_missed() -> None:
    figures = [
        measures.Figure("q", "a", "1", "0", held=False),
        measures.Figure("q", "b", "0", "0", held=True),
        measures.Figure("q", "c", "7"),
    ]
    rows = evaluation.table(figures).splitlines()[-3:]
    assert rows == ["| q | a | 0 | 1 | missed |", "| q | b | 0 | 0 | met |", "| q | c |  | 7 |  |"]
