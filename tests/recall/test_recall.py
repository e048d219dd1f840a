"""Recall against a dict of n-grams: nothing is missed, supports are never too small, and text comes out right."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import memodb

LENGTHS = (0, 1, 2, 3, 4, 5, 15, 16, 17, 40)
TEXTS = st.lists(
    st.lists(st.sampled_from("the sky sea over was blue and".split()), max_size=50).map(" ".join),  # noqa: SIM905
    max_size=5,
)


def filled(db: memodb.Store, model: Any, texts: Sequence[str]) -> Any:
    """The model of a store that holds these texts and held another."""
    expected = model()
    db.append("the sky that was over the sea, and then was not", id="gone")
    for number, text in enumerate(texts):
        db.append(text, id=f"{number}")
        expected.put(f"{number}", text, db.tokenizer.encode(text))
    db.delete("gone")
    return expected


@given(TEXTS, st.integers(0, 99))
@settings(max_examples=9, deadline=None)
def test_lookups_agree_with_the_model(
    fresh: Callable[..., memodb.Store], model: Any, texts: list[str], seed: int
) -> None:
    with fresh(false_recall=1e-9) as db:
        expected = filled(db, model, texts)
        expected.require(db, expected.prompts(seed, LENGTHS), exact=True)


@given(st.sampled_from([(2, 3), (3, 2), (5, 1), (4, 0), (2, 0)]), TEXTS)
@settings(max_examples=8, deadline=None)
def test_lookups_agree_with_the_model_whatever_the_layers(
    fresh: Callable[..., memodb.Store], model: Any, shape: tuple[int, int], texts: list[str]
) -> None:
    heads, layers = shape
    with fresh(false_recall=1e-9, heads=heads, layers=layers) as db:
        expected = model([heads**level for level in range(layers + 1)])
        for number, text in enumerate(texts):
            db.append(text, id=f"{number}")
            expected.put(f"{number}", text, db.tokenizer.encode(text))
        expected.require(db, expected.prompts(1, range(12)), exact=True)


@given(TEXTS, st.integers(0, 99))
@example(["the sky", "x the sky over"], 0)
@settings(max_examples=8, deadline=None)
def test_next_tokens_misses_nothing(
    fresh: Callable[..., memodb.Store], model: Any, texts: list[str], seed: int
) -> None:
    """Prompts as text; those that begin with a blank or are known whole are taken as they are written."""
    with fresh(false_recall=1e-9) as db:
        expected = filled(db, model, texts)
        spans = set(expected.spans)
        for ids in expected.prompts(seed, LENGTHS):
            prompt = db.tokenizer.decode(ids)
            length, truth = expected.answer(ids)
            if db.tokenizer.encode(prompt).tolist() != ids or not (prompt[:1].isspace() or length >= len(ids)):
                continue
            found = db.next_tokens(prompt, k=100)
            told = {(-2 if c.is_end else c.token_id): c for c in found}
            assert len(told) == len(found)
            assert all(0 < c.probability <= 1 for c in found)
            assert all(c.text == ("" if c.is_end else db.tokenizer.piece(c.token_id)) for c in found)
            if length < len(ids) and len(ids) + 1 in spans:
                # one short of a layer: only tokens that follow the whole prompt, or the end of a shorter context
                after = Counter(
                    token
                    for tokens in expected.tokens.values()
                    for token in {
                        tokens[i + len(ids)] for i in range(len(tokens) - len(ids)) if tokens[i : i + len(ids)] == ids
                    }
                )
                if after:
                    assert {t for t in told if t != -2} == set(after)
                    assert all(told[t].support >= n and told[t].context_length == len(ids) for t, n in after.items())
                    assert (-2 in told) == (-2 in truth)
                    continue
            assert {token: c.support for token, c in told.items()} == dict(truth)
            assert {c.context_length for c in found} <= {length}
            assert not found or math.isclose(sum(c.probability for c in found), 1)
            assert [c.support for c in found] == sorted((c.support for c in found), reverse=True)


def test_a_full_context_is_never_missed_in_a_crowded_memory(
    fresh: Callable[..., memodb.Store], model: Any, prose: Callable[..., str]
) -> None:
    """Several segments near their promise: no misses, and the promise for what no document holds is kept."""
    with fresh() as db:
        expected = model()
        for number in range(9):
            text = prose(1500, number)
            db.append(text, id=f"{number}")
            expected.put(f"{number}", text, db.tokenizer.encode(text))
            stats = db.stats()
            assert stats.false_recall <= stats.promised_false_recall
        assert len(db.stats().segments) > 1
        prompts = expected.prompts(1, [0, 1, 4, 16, 16, 16, 40, 40])
        expected.require(db, prompts, exact=False)
        chance = np.random.default_rng(1)
        unknown = chance.integers(0, db.tokenizer.vocabulary_size, (5000, 16))
        answers = db.lookup(unknown, k=1)
        known = {context for table in expected.tables for context in table}
        wrong = sum(
            length > max((s for s in (1, 4, 16) if tuple(row[-s:].tolist()) in known), default=0)
            for row, length in zip(unknown, answers.context_length.tolist(), strict=True)
        )
        assert wrong <= 3 * 0.01 * 5000  # at most the promise for each of three layers


def test_a_prompt_is_tried_as_a_beginning_and_as_a_continuation(fresh: Callable[..., memodb.Store]) -> None:
    with fresh(false_recall=1e-9) as db:
        db.append("Then came harbour lights over there", id="a")
        tokens = db.tokenizer
        assert tokens.encode("harbour lights").tolist() != tokens.encode(" harbour lights").tolist()
        assert [c.text for c in db.next_tokens("harbour lights")] == [" over"]
        assert [c.text for c in db.next_tokens(" harbour lights")] == [" over"]
        assert db.complete("harbour lights", min_context=1).text == " over there"
        db.append("harbour lights out", id="b")
        assert [c.text for c in db.next_tokens("harbour lights")] == [" out"]
        assert " over" in [c.text for c in db.next_tokens(" harbour lights")]
        assert {c.token_id for c in db.next_tokens("")} == {int(db.tokens(name)[0]) for name in "ab"}


def test_a_short_prompt_is_taken_as_it_is_known(fresh: Callable[..., memodb.Store]) -> None:
    """Either way of reading two tokens rests on the last alone: they differ in whether that ever followed the first."""
    with fresh(false_recall=1e-9) as db:
        db.append("and was the sky over the sea", id="a")
        assert len(db.tokenizer.encode("the sky")) == len(db.tokenizer.encode(" the sky")) == 2
        assert db.next_tokens("the sky")[0].context_length == db.next_tokens(" the sky")[0].context_length == 1
        assert db.next_tokens("was the sky over") == db.next_tokens(" was the sky over")
        assert db.next_tokens("was the sky over")[0].context_length == 4
        done = db.complete("the sky")
        assert done.text == " over the sea"
        assert [step.chosen.context_length for step in done.steps] == [1, 3, 4, 4]


def test_the_layer_above_says_what_follows_a_prompt_one_token_short(fresh: Callable[..., memodb.Store]) -> None:
    with fresh(false_recall=1e-9) as db:
        db.append("start a b c right one", id="1")
        db.append("other x y c wrong two", id="2")
        assert [c.text for c in db.next_tokens(" a b c")] == [" right"]
        assert db.next_tokens(" a b c")[0].context_length == 3
        assert {c.text for c in db.next_tokens(" c")} == {" right", " wrong"}


# -- lookup --------------------------------------------------------------------------------------------------------


@given(TEXTS, st.integers(0, 99), st.integers(1, 5))
@settings(max_examples=8, deadline=None)
def test_lookup_takes_rows_and_arrays_alike(
    fresh: Callable[..., memodb.Store], model: Any, texts: list[str], seed: int, k: int
) -> None:
    with fresh() as db:
        expected = filled(db, model, texts)
        rows = expected.prompts(seed, LENGTHS)
        width = max(map(len, rows), default=0) + 2
        array = np.full((len(rows), width), -1, dtype=np.int32)
        for target, row in zip(array, rows, strict=True):
            target[width - len(row) :] = row
        many = db.lookup(array, k)
        for other in (db.lookup(rows, k), db.lookup([np.array(row, dtype=np.int64) for row in rows], k)):
            assert np.array_equal(many.token_ids, other.token_ids)
            assert np.array_equal(many.support, other.support)
            assert np.array_equal(many.context_length, other.context_length)
        assert many.token_ids.shape == many.support.shape == (len(rows), k)
        assert many.context_length.shape == (len(rows),)
        assert ((many.token_ids == -1) == (many.support == 0)).all()
        alone = [db.lookup([row], k) for row in rows]
        assert all(np.array_equal(one.token_ids[0], many.token_ids[i]) for i, one in enumerate(alone))
        wide = db.lookup(rows, k + 40)
        assert np.array_equal(wide.token_ids[:, :k], many.token_ids)
        for number, row in enumerate(rows):
            prompt = db.tokenizer.decode(row)
            reached = wide.context_length[number]
            # taken as it is written, and not one token short of a layer
            plain = row and prompt[0].isspace() and len(row) not in (3, 15)
            if not plain or not reached or db.tokenizer.encode(prompt).tolist() != row:
                continue
            told = db.next_tokens(prompt, k)
            assert [c.token_id for c in told] == [t for t in many.token_ids[number].tolist() if t >= 0]
            assert [c.support for c in told] == [s for s in many.support[number].tolist() if s > 0]
            assert {c.context_length for c in told} == {int(reached)}


def test_lookup_of_nothing(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        for contexts in ([], np.zeros((0, 4), dtype=np.int64)):
            assert db.lookup(contexts).token_ids.shape == (0, 10)
        assert db.lookup([[]]).context_length.tolist() == [0]
        db.append("a b", id="a")
        first = int(db.tokens("a")[0])
        for contexts in ([[]], np.zeros((1, 0), dtype=np.int64), np.full((1, 5), -1)):
            answer = db.lookup(contexts)
            assert answer.token_ids[0, :2].tolist() == [first, -1]
            assert answer.context_length.tolist() == [1]


@pytest.mark.parametrize(
    "contexts",
    [
        np.zeros(3, dtype=np.int64),
        np.zeros((1, 2, 3), dtype=np.int64),
        np.zeros((1, 2)),
        np.array([[1, -1]]),
        np.array([[-1, 1, -1, 2]]),
        np.array([[-2]]),
        np.array([[16000]]),
        [[16000]],
        [[-1, 3]],
        [[1.5]],
        [["a"]],
        [1, 2],
        [[[1]]],
        [[1, [2]]],
        5,
        None,
    ],
    ids=repr,
)
def test_contexts_that_are_none(fresh: Callable[..., memodb.Store], contexts: Any) -> None:
    with fresh() as db:
        assert db.tokenizer.vocabulary_size == 16000
        with pytest.raises(memodb.InvalidInput):
            db.lookup(contexts)


@pytest.mark.parametrize("k", [0, -1, True, 1.0, "1", None])
def test_k_is_a_whole_number(fresh: Callable[..., memodb.Store], k: Any) -> None:
    with fresh() as db:
        with pytest.raises(memodb.InvalidInput, match="k must"):
            db.lookup([[1]], k)
        with pytest.raises(memodb.InvalidInput, match="k must"):
            db.next_tokens("a", k)


@pytest.mark.parametrize("text", [5, None, b"x", "\ud800"])
def test_prompts_that_are_no_texts(fresh: Callable[..., memodb.Store], text: Any) -> None:
    with fresh() as db:
        for ask in (db.next_tokens, db.complete, db.score, db.trace):
            with pytest.raises(memodb.InvalidText):
                ask(text)


# -- complete ------------------------------------------------------------------------------------------------------


def test_a_unique_beginning_brings_back_the_document_to_its_end(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str]
) -> None:
    with fresh(false_recall=1e-6) as db:
        texts = [f"Document {i}: {prose(300, i)}." for i in range(3)]
        for i, text in enumerate(texts):
            db.append(text, id=f"{i}")
        for i, text in enumerate(texts):
            prompt = db.tokenizer.decode(db.tokens(f"{i}")[:30])
            assert text.startswith(prompt)
            done = db.complete(prompt, max_tokens=2000)
            assert prompt + done.text == text
            assert done.stop_reason == "end_of_document"
            assert done.steps[-1].chosen.is_end
            assert [s.chosen.token_id for s in done.steps[:-1]] == db.tokens(f"{i}")[30:].tolist()


def test_every_reason_to_stop(fresh: Callable[..., memodb.Store]) -> None:
    with fresh(false_recall=1e-9) as db:
        db.append("one two three four five six seven eight", id="a")
        assert db.complete("one two three", max_tokens=2).stop_reason == "max_tokens"
        assert db.complete("one two three", max_tokens=2).text == " four five"
        assert len(db.complete("one two three", max_tokens=2).steps) == 2
        end = db.complete("one two three")
        assert (end.stop_reason, end.text) == ("end_of_document", " four five six seven eight")
        unknown = db.complete("zebra zebra zebra zebra")
        assert (unknown.stop_reason, unknown.text, unknown.steps) == ("unknown_context", "", ())
        for stop in ("six", ["nine", " six"], (" six seven", "x six", "six")):
            stopped = db.complete("one two three", stop=stop)
            assert stopped.stop_reason == "stop"
            assert stopped.text.rstrip() == " four five"
            assert " six" not in stopped.text
        # the stop may begin inside a token and end inside another
        assert db.complete("one two three", stop="ve si").text == " four fi"
        assert db.complete("one two three", stop="three").stop_reason == "end_of_document"


def test_no_step_rests_on_less_than_was_asked(fresh: Callable[..., memodb.Store]) -> None:
    with fresh(false_recall=1e-9) as db:
        db.append("one two three four five six", id="a")
        # of this prompt only the last token is known
        assert db.complete("zebra zebra zebra four", min_context=1).text == " five six"
        for least in (2, 3, 4):
            assert db.complete("zebra zebra zebra four", min_context=least).stop_reason == "unknown_context"
        assert db.complete("four", min_context=3).text == " five six"
        done = db.complete("one two three four", min_context=4)
        assert all(step.chosen.context_length >= 4 for step in done.steps)


@given(st.floats(0.01, 50), st.integers(0, 2**40))
@settings(max_examples=10, deadline=None)
def test_a_seed_makes_a_draw_repeatable(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], temperature: float, seed: int
) -> None:
    with fresh() as db:
        db.append(prose(400, 1), id="a")
        one, other = (db.complete(" the", 20, temperature=temperature, seed=seed, min_context=1) for _ in range(2))
        assert one == other
        for step in one.steps:
            assert step.chosen not in step.alternatives
            assert len(step.alternatives) <= 5


def test_temperature_draws_by_support(fresh: Callable[..., memodb.Store]) -> None:
    with fresh(false_recall=1e-9) as db:
        for number in range(9):
            db.append(f"{number} say often", id=f"{number}")
        db.append("9 say now", id="9")

        def drawn(temperature: float) -> Counter[str]:
            return Counter(
                db.complete(" say", 1, temperature=temperature, seed=seed, min_context=1).text for seed in range(300)
            )

        assert drawn(0) == {" often": 300}
        assert set(drawn(1e-320)) == {" often"}
        even = drawn(1)
        assert 5 < even[" now"] < 60
        hot = drawn(1e6)
        assert 100 < hot[" now"] < 200


@pytest.mark.parametrize(
    "bad",
    [
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_tokens": 1.5},
        {"min_context": 0},
        {"stop": ""},
        {"stop": ["a", ""]},
        {"stop": [5]},
        {"stop": 5},
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": "1"},
        {"seed": -1},
        {"seed": "x"},
        {"seed": 1.5},
    ],
    ids=str,
)
def test_settings_of_a_completion_are_checked(fresh: Callable[..., memodb.Store], bad: dict[str, Any]) -> None:
    with fresh() as db, pytest.raises(memodb.InvalidInput):
        db.complete("a", **bad)


# -- score ---------------------------------------------------------------------------------------------------------


@given(TEXTS, st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_scores_say_what_is_known(fresh: Callable[..., memodb.Store], model: Any, texts: list[str], seed: int) -> None:
    with fresh(false_recall=1e-9) as db:
        expected = filled(db, model, texts)
        probes = [db.tokenizer.decode(ids) for ids in expected.prompts(seed, [0, 1, 5, 20, 40])]
        for text in [*texts, *probes, "zebra", ""]:
            score = db.score(text)
            ids = db.tokenizer.encode(text).tolist()
            assert [token.token_id for token in score.tokens] == ids
            assert [token.text for token in score.tokens] == db.tokenizer.pieces(ids)
            for place, token in enumerate(score.tokens):
                framed = [-1] * 16 + ids[:place]
                tables = list(zip(expected.spans, expected.tables, strict=True))
                holding = [(s, t[tuple(framed[-s:])]) for s, t in tables if ids[place] in t.get(tuple(framed[-s:]), ())]
                longest = [s for s, t in tables if tuple(framed[-s:]) in t]
                assert token.known == bool(holding)
                if holding:
                    span, counts = holding[-1]
                    assert token.context_length == min(span, place + 1)
                    skipped = sum(s > span for s in longest)
                    share = counts[ids[place]] / sum(counts.values())
                    assert math.isclose(token.log_probability, math.log(share) + skipped * math.log(0.4), abs_tol=1e-9)
                else:
                    assert token.context_length == 0
                    assert token.log_probability <= -math.log(16000)
            assert math.isfinite(score.log_probability)
            assert score.log_probability <= 0
            assert 0 <= score.known <= 1
        for text in texts:
            assert db.score(text).known == 1
