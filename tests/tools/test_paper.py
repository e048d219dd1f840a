"""The paper's tables at toy size: each protocol against an independent account of it, and the page that they make."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memodb.memory import Backend, Batch, Geometry, KohonenConfiguration
from memodb.memory.kohonen_memory import KohonenMemory

ROOT = Path(__file__).resolve().parents[2]

with pytest.MonkeyPatch.context() as patched:
    patched.syspath_prepend(str(ROOT / "tools"))
    from paper import command, counting, decoding, forgetting, measuring, page, plots, prose, records, several, single

SHORT = settings(max_examples=40, deadline=None)


# -- decoding ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 9), st.booleans(), st.integers(1, 4))
@SHORT
def test_dropping_beaten_rows_gives_the_whole_arg_max(seed: int, n: int, tokens: int, first: bool, chunk: int) -> None:
    """Small whole numbers make ties, of which the lowest id wins; chunks and suspects change nothing."""
    draw = np.random.default_rng(seed)
    read = draw.integers(-2, 3, (n, 3)).astype(np.float32)
    vectors = draw.integers(-1, 2, (tokens, 3)).astype(np.float32)
    truth = draw.integers(0, tokens, n)
    suspects = draw.permutation(tokens)[: draw.integers(1, tokens + 1)] if first else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_TOKENS", chunk)
        patch.setattr(decoding, "_ROWS", 5)
        found = decoding.correct(read, truth, vectors, suspects)
    assert (found == ((read @ vectors.T).argmax(axis=1) == truth)).all()


def test_a_row_does_not_beat_itself_by_rounding() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(5000, 300)).astype(np.float32)
    truth = draw.integers(0, 5000, 400)
    read = vectors[truth] + draw.normal(size=(400, 300)).astype(np.float32) * 4
    found = decoding.correct(read, truth, vectors, np.arange(100))
    whole = (read.astype(np.float64) @ vectors.T.astype(np.float64)).argmax(axis=1) == truth
    assert 0.1 < found.mean() < 0.9
    assert (found == whole).all()


# -- table 1 -----------------------------------------------------------------------------------------------------------


def test_matrices_are_filled_until_the_mean_is_no_longer_above_nine_tenths() -> None:
    """In the first step the current batch alone counts, later its mean with the first; the last batch counts too."""
    setting = single.Setting(2, 8, 8, vocabulary=50, batch=10)
    stored: list[np.ndarray] = []

    def run(
        answers: list[float], predicted: Callable[[int], float] = lambda pairs: 0.0
    ) -> tuple[single.Filled, list[tuple[int, int]]]:
        left, asked = iter(answers), []
        stored.clear()

        def accuracy(contexts: np.ndarray, following: np.ndarray) -> float:
            batch = next(number for number, known in enumerate(stored, 1) if known is contexts)
            asked.append((len(stored), batch))
            return next(left)

        found = single.fill_up(setting, 0, lambda contexts, _: stored.append(contexts), accuracy, predicted)
        return found, asked

    found, asked = run([0.9])
    assert (found.pairs, asked) == (10, [(1, 1)])
    found, asked = run([1.0, 1.0, 0.82, 0.9, 0.89])
    assert (found.pairs, found.closing) == (30, pytest.approx(0.895))
    assert asked == [(1, 1), (2, 2), (2, 1), (3, 3), (3, 1)]
    found, asked = run([0.9, 0.92, 0.7, 0.7], lambda pairs: 1 - pairs / 1000)
    assert (found.pairs, found.opened_at, found.opening) == (70, 60, pytest.approx(0.91))
    assert asked == [(6, 6), (6, 1), (7, 7), (7, 1)]


def test_the_predicted_accuracy_is_that_of_unrelated_scores() -> None:
    setting = single.Setting(4, 64, 64, vocabulary=200)
    draw = np.random.default_rng(1)
    sigma = math.sqrt(400 / setting.cells)
    truth = 1 + draw.normal(size=4000) * math.sqrt(sigma**2 + 4 / 64)
    best = (draw.normal(size=(4000, 199)) * sigma).max(axis=1)
    assert single.predicted_accuracy(setting, 400) == pytest.approx(float((truth > best).mean()), abs=0.025)


@pytest.mark.parametrize("codes", ["gaussian", "rademacher"])
def test_one_matrix_holds_what_the_formula_says(codes: str) -> None:
    setting = single.Setting(2, 128, 128, vocabulary=8000, batch=50)
    found = single.linear(setting, codes, 1)
    assert found.closing <= 0.9 < found.opening or found.opened_at == found.pairs
    assert single.predicted_accuracy(setting, found.pairs) == pytest.approx(found.closing, abs=0.1)


def test_a_counting_matrix_is_filled_as_far_as_its_formula_says() -> None:
    setting = single.Setting(2, 96, 512, vocabulary=2000, batch=100)
    shape = single.best_shape(setting.cells, setting.vocabulary)
    assert shape.rows * shape.columns <= setting.cells
    memory = single.Counting(setting, shape, 1)
    pairs: dict[bytes, set[int]] = {}

    def store(contexts: np.ndarray, following: np.ndarray) -> None:
        memory.store(contexts, following)
        for context, token in zip(contexts, following.tolist(), strict=True):
            pairs.setdefault(context.tobytes(), set()).add(token)

    found = single.fill_up(setting, 1, store, memory.accuracy, lambda _: 0.0)
    assert 0.7 * shape.pairs < found.pairs < 1.6 * shape.pairs
    contexts = np.array([np.frombuffer(context, dtype=np.int64) for context in pairs])
    best = memory.best(contexts)
    assert (best >= 0).all()  # no misses, however full
    bound, measured = memory.false_recall(1, 4000)
    assert measured <= bound + 3 * math.sqrt(bound / 4000)


def test_tokens_that_share_columns_with_the_true_one_are_expected() -> None:
    """Of a nearly empty matrix: only tokens with all columns in common are read besides the true one."""
    shape = single.Shape(64, 256, 2, 2, 0)
    assert shape.false_candidates(1e-6, 16_385) == pytest.approx(1, rel=0.01)


# -- table 2 -----------------------------------------------------------------------------------------------------------

TOY = several.Setting(64, 2, 3, heads=2, vocabulary=90, samples=3, length=40, iterations=2)


def test_decoys_are_copies_of_one_window_at_the_same_places_of_all_texts() -> None:
    for texts in several.batches(TOY, 5):
        assert texts.shape == (3, 41)
        window = texts[:, 5:7]
        copies = [place for place in range(7, 38) if (texts[:, place : place + 2] == window).all()]
        assert 2 <= len(copies) <= 3
    plain = next(several.batches(replace(TOY, decoys=0), 5))
    decoyed = next(several.batches(TOY, 5))
    changed = np.flatnonzero((plain != decoyed).any(axis=0))
    assert changed.size <= 6
    assert changed.min() >= 7
    assert changed.max() < 40
    assert (next(several.batches(TOY, 5)) == decoyed).all()


def plain_memo(
    setting: several.Setting, memory: several.Linear, batches: list[np.ndarray]
) -> list[tuple[float, float]]:
    """Table 2 by definition: context by context, layer by layer, pair by pair."""
    codes, c = memory.codes, memory.configuration
    h, n = setting.heads, setting.length

    def block(tokens: list[int], level: int) -> np.ndarray:
        """What stands for h^level tokens."""
        if level == 0:
            return codes.vectors[tokens[0]]
        size = len(tokens) // h
        parts = np.stack([block(tokens[i * size : (i + 1) * size], level - 1) for i in range(h)])
        return codes.encodings(level, parts[None])[0]

    def key(tokens: list[int], level: int) -> np.ndarray:
        size = len(tokens) // h
        parts = np.stack([block(tokens[i * size : (i + 1) * size], level - 1) for i in range(h)])
        return codes.keys(level, parts[None])[0]

    output = np.zeros((setting.dim, setting.dim))
    found = []
    for texts in batches:
        for text in texts.tolist():
            for level in range(1, setting.layers + 1):
                for place in range(h**level, n + 1):
                    output += np.outer(key(text[place - h**level : place], level), codes.vectors[text[place]])

        def accuracy(asked: np.ndarray, output: np.ndarray = output) -> float:
            right = total = 0
            for text in asked.tolist():
                padded = [c.padding] * h**setting.layers + text
                for place in range(h, n - 1):
                    end = place + h**setting.layers
                    votes = sum(key(padded[end - h**level : end], level) for level in range(1, setting.layers + 1))
                    right += int((codes.vectors[: setting.vocabulary] @ (votes @ output)).argmax()) == text[place]
                    total += 1
            return right / total

        found.append((accuracy(batches[0]), accuracy(texts)))
    return found


@given(st.integers(0, 9), st.integers(1, 9), st.integers(-9, 12), st.integers(0, 9))
@SHORT
def test_keys_are_added_at_their_places(rows: int, count: int, place: int, first: int) -> None:
    target, keys = np.zeros((rows, 1), dtype=np.float32), np.arange(1, count + 1, dtype=np.float32)[:, None]
    several.add_from(first, target, keys, place)
    wanted = [p - place + 1 if 0 <= p - place < count and p >= first else 0 for p in range(rows)]
    assert target[:, 0].tolist() == wanted


@pytest.mark.parametrize("codes", ["gaussian", "rademacher"])
def test_several_layers_as_the_definition_has_them(codes: str) -> None:
    wanted = plain_memo(TOY, several.Linear(TOY, codes, 3, recalled=False), list(several.batches(TOY, 3)))
    found = [(outcome.first, outcome.current) for outcome in several.linear(TOY, codes, 3)]
    assert np.abs(np.array(found) - wanted).max() <= (0 if codes == "rademacher" else 0.01)
    assert found[0][0] > found[1][0] > 0.2
    last = list(several.linear(TOY, codes, 3, evaluated=[1]))
    assert [(outcome.iteration, outcome.first, outcome.current) for outcome in last] == [(1, *found[1])]


def test_nothing_is_stored_after_the_last_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = next(several.batches(TOY, 3))

    def only_one(setting: several.Setting, seed: int) -> Iterator[np.ndarray]:
        yield texts
        raise AssertionError("a second batch was asked for")

    monkeypatch.setattr(several, "batches", only_one)
    assert [outcome.iteration for outcome in several.linear(TOY, "rademacher", 3, evaluated=[0])] == [0]


def test_recalled_encodings_are_those_of_a_nearly_empty_memory() -> None:
    """With little stored the intermediate matrices give back what they were given, so both ways answer alike."""
    setting = several.Setting(256, 2, 0, heads=2, vocabulary=500, samples=1, length=20, iterations=1)
    memory = several.Linear(setting, "rademacher", 1, recalled=True)
    texts = next(several.batches(setting, 1))
    keys = memory.memorise(texts)
    recalled = memory.recalled_keys(texts)
    assert recalled.shape == keys.shape
    alike = (keys[2:] * recalled[2:]).sum(axis=1) / (keys[2:] ** 2).sum(axis=1)  # the first contexts are not whole
    assert alike.min() > 0.6
    assert memory.accuracy(recalled, texts) > 0.8
    assert not (keys == recalled).all()


# -- the counting memory -----------------------------------------------------------------------------------------------


@given(
    st.integers(100, 60_000),
    st.sampled_from([(2, 1), (4, 1), (4, 2), (4, 3), (4, 4)]),
    st.integers(15, 24),
    st.integers(10, 400_000),
)
@SHORT
def test_keys_are_thinned_no_further_than_the_cells_ask(
    vocabulary: int, stack: tuple[int, int], cells: int, pairs: int
) -> None:
    heads, layers = stack
    found, band = counting.thinned(vocabulary, heads, layers, 1 << cells, pairs)
    sizes = found.key_sizes
    own = counting.WillshawConfiguration(vocabulary=vocabulary, heads=heads, layers=layers).layer_ones
    assert found.layer_ones == sizes
    assert len(sizes) == layers + 1
    assert min(sizes) >= 1
    assert sum(sizes) <= max(sum(own), layers + 1)
    assert sum(sizes) >= 5
    assert sum(sizes) * band * found.columns <= 1 << cells
    assert max(sizes) - min(sizes) <= max(own) - min(own) + 1


def test_a_counting_memory_with_room_misses_nothing_and_a_crowded_one_is_sampled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = np.random.default_rng(2).integers(0, 300, (4, 60))
    roomy = counting.Counting(300, 2, 2, 1 << 18, 250, 1)
    roomy.memorise(texts[:2])
    roomy.memorise(texts[2:])
    asked = roomy.ask(texts, 4, 60)
    assert (asked.accuracy, asked.positions) == (1.0, 4 * 56)
    assert 0 < roomy.fill < 0.5
    crowded = counting.Counting(300, 2, 2, 1 << 12, 250, 1)
    crowded.memorise(texts)
    every = crowded.ask(texts, 4, 60)
    assert (every.positions, every.candidates > 1.5, every.accuracy < 0.9) == (4 * 56, True, True)
    monkeypatch.setattr(counting, "_CROWDED", 1)
    monkeypatch.setattr(counting, "_FEW", (10, 50))
    assert 50 <= crowded.ask(texts, 4, 60).positions < 4 * 56
    monkeypatch.setattr(counting, "_CANDIDATES_AT_ONCE", 1)
    assert crowded.ask(texts, 4, 60).positions == 16


# -- table 3 -----------------------------------------------------------------------------------------------------------


def test_the_optima_are_those_of_counting_by_hand() -> None:
    # after 1: 2, 3, 3; after 2: 1; after 3: 1, 1; at the start: 1
    tokens = np.array([1, 2, 1, 3, 1, 3, 1])
    assert prose.optima(tokens, 1) == (pytest.approx(6 / 7), pytest.approx(5 / 7))
    assert prose.optima(tokens, 7) == (1.0, 1.0)


def test_prose_is_words_and_signs_of_the_reference() -> None:
    text = prose.prose(300)
    assert text.tokens.size == 300
    assert text.reference == 300
    assert text.vocabulary == np.unique(text.tokens).size == text.tokens.max() + 1
    assert (np.unique(text.tokens, return_index=True)[1][1:] > 0).all()


def test_prose_of_the_engine_is_answered_as_the_engine_answers() -> None:
    text = prose.prose(150)
    for codes in ("gaussian", "rademacher"):
        found = prose.engine(text, 150, 2, codes, 64, 1)
        c = KohonenConfiguration(vocabulary=text.vocabulary, layers=2, codes=codes, dim=64)
        memory = KohonenMemory(Backend(), c, b"prose" + (1).to_bytes(27, "little"))
        segment = memory.new_segment(Geometry((), c.provenance_ones * 8, 0))
        segment.add(segment.contribution(Batch.of([(1, text.tokens)])))
        memory.segments["s"] = segment
        lengths = np.arange(150)
        every = np.concatenate([text.tokens[:n] for n in lengths])
        wanted = (memory.nearest(memory.framed(every, lengths)) == text.tokens).mean()
        assert found == pytest.approx(float(wanted), abs=0.01)
        assert 0.1 < found < 1
    assert 0.1 < prose.every_occurrence(text, 150, 2, "gaussian", 64, 1) < 1


# -- table 4 -----------------------------------------------------------------------------------------------------------


def test_what_is_held_gets_no_weight_and_is_not_forgotten() -> None:
    """With one key in the matrix and nothing else: 1 where it is new, 0 where it is held, 1/n for n of a kind."""
    keys = np.eye(8, dtype=np.float32)[:2]
    empty = np.zeros((8, 8), dtype=np.float32)
    assert forgetting.authors_weight(keys, keys, empty).tolist() == [1, 1]
    assert forgetting.authors_weight(keys, keys, np.outer(keys[0], keys[0])).tolist() == [0, 1]
    assert forgetting.authors_weight(keys, keys, 2 * np.outer(keys[0], keys[0])).tolist() == [0, 1]
    assert forgetting.authors_weight(keys[[0, 0]], keys[[0, 0]], empty).tolist() == [0.5, 0.5]


def test_residues() -> None:
    first, second = forgetting.texts(1, 96)
    assert (first[:24] == second[:24]).all()
    found = {kind: forgetting.residue(kind, 1, 96, 128) for kind in forgetting.KINDS}
    assert found["authors' weight"].intermediate > 0.5
    assert found["authors' weight"].output < 1e-5
    assert 0 < found["gaussian"].intermediate < 1e-5
    assert found["gaussian"].unequal > 0
    for exact in ("rademacher", "willshaw"):
        assert (found[exact].intermediate, found[exact].output, found[exact].unequal) == (0, 0, 0)
        assert found[exact].cells > 1000


# -- records and the page ----------------------------------------------------------------------------------------------


def test_the_authors_files_are_read() -> None:
    one, stack = records.authors("single_layer"), records.authors("several_layers")
    assert (len(one), len(stack)) == (125, 330)
    assert all(int(row["stored_pairs"]) % 1000 == 0 for row in one)
    assert {row["iteration"] for row in stack} == {str(number) for number in range(10)}
    assert len(page.several_authors()[4096, 1, 40][0]) == 2
    assert len(list(measuring.single_lines((512,)))) == 5
    assert several.Setting(4096, 3, 20) in measuring.several_lines((4096,), (20,), (3,))


def test_what_is_known_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = replace(measuring.SEVERAL, path=tmp_path / "several.csv")
    measuring.several_line("gaussian", TOY, 1, None, known)
    measuring.several_line("rademacher recalled", TOY, 1, (1,), known)
    measuring.several_line("willshaw cells", replace(TOY, dim=256), 1, None, known)
    before = known.path.read_text()
    rows = known.latest()
    assert [(row["engine"], row["iteration"]) for row in rows] == [
        ("gaussian", "0"),
        ("gaussian", "1"),
        ("rademacher recalled", "1"),
        ("willshaw cells", "0"),
        ("willshaw cells", "1"),
    ]
    assert all(row["machine"] and row["date"] and row["commit"] for row in rows)
    monkeypatch.setattr(several, "linear", None)
    measuring.several_line("gaussian", TOY, 1, (0,), known)
    assert known.path.read_text() == before
    known.add({**rows[0], "accuracy_first_texts": 0.5})
    assert len(known.latest()) == 5
    assert known.latest()[0]["accuracy_first_texts"] == "0.5"


def test_figures_agree_within_three_deviations_of_both_runs() -> None:
    assert page.agreement([0.5, 0.52, 0.54], 0.57, 0.001).expected == pytest.approx(0.02 * math.sqrt(4 / 3))
    assert page.agreement([0.5, 0.52, 0.54], 0.58, 0.001).holds
    assert not page.agreement([0.5, 0.52, 0.54], 0.6, 0.001).holds
    assert page.agreement([0.5], 0.54, 0.01).holds  # one seed: the noise of two runs
    assert not page.agreement([0.5], 0.55, 0.01).holds


def test_the_page_is_drawn_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "docs" / "paper.md", tmp_path / "paper.md")
    assert command.main(["all", "--draw-only", "--write", str(tmp_path)]) == 0
    text = (tmp_path / "paper.md").read_text("utf-8")
    outside = [part.partition(": begin -->")[0] for part in text.split(": end -->")]
    kept = (ROOT / "docs" / "paper.md").read_text("utf-8")
    assert outside == [part.partition(": begin -->")[0] for part in kept.split(": end -->")]
    drawn = {name: (tmp_path / f"paper-{name}.svg").read_bytes() for name in plots.PLOTS}
    plots.draw(tmp_path)
    assert {name: (tmp_path / f"paper-{name}.svg").read_bytes() for name in plots.PLOTS} == drawn
    for name in drawn:
        assert f"paper-{name}.svg" in text
    (tmp_path / "paper.md").write_text("nothing")
    with pytest.raises(SystemExit, match="no markers"):
        page.write(tmp_path / "paper.md")


def test_a_table_that_was_not_measured_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SINGLE", "SEVERAL", "PROSE", "FORGETTING"):
        nothing: Any = replace(getattr(measuring, name), path=tmp_path / "none.csv")
        monkeypatch.setattr(page, name, nothing)
    assert all("Nothing is measured yet." in make() for make in page.TABLES.values())


def test_the_command_runs_as_a_script() -> None:
    command_line = [sys.executable, str(ROOT / "tools" / "paper" / "run.py")]
    found = subprocess.run([*command_line, "forgetting", "--draw-only"], capture_output=True, text=True, check=True)
    assert "cells that differ" in found.stdout
    wrong = subprocess.run([*command_line, "single", "--engines", "perceptron"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "is none of" in wrong.stderr
