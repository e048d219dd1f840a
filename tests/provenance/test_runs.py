"""Runs in common with many documents at once, against the table of common suffixes of each."""

import importlib
import importlib.util
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memodb.provenance import runs
from memodb.provenance.runs import MARK, common_runs

Oracle = Callable[[list[int], list[int], int], set[tuple[int, int]]]
ENGINES = [None, *(["memodb.memory.fast"] if importlib.util.find_spec("numba") else [])]
"""Plain NumPy, and the kernels where there are any."""


def hashes(tokens: np.ndarray, window: int, bits: int) -> np.ndarray:
    """Of a stream's windows; with few bits many that differ share one."""
    windows = [tuple(tokens[at : at + window].tolist()) for at in range(len(tokens) - window + 1)]
    return np.array([hash(each) % (1 << bits) << (32 - bits) for each in windows], dtype=np.uint32)


def require_runs_of_the_table(
    oracle: Oracle,
    query: list[int],
    documents: list[list[int]],
    window: int,
    engine: str | None = None,
    bits: int | None = None,
) -> None:
    kernels = importlib.import_module(engine) if engine else None
    joined = [token for document in documents for token in (*document, MARK)]
    edges = np.cumsum([0, *(len(document) + 1 for document in documents[:-1])])
    arrays = np.array(query, dtype=np.int32), np.array(joined, dtype=np.int32)
    with patch.object(runs, "_hashes", partial(hashes, bits=bits) if bits else runs._hashes):
        found = common_runs(*arrays, edges, window, kernels)
    told = list(zip(*(each.tolist() for each in found), strict=True))
    wanted = []
    for edge, document in zip(edges.tolist(), documents, strict=True):
        for start, end in oracle(query, document, window):
            piece = query[start:end]
            first = next(at for at in range(len(document)) if document[at : at + end - start] == piece)
            wanted.append((start, end, edge + first))
    assert sorted(told) == sorted(wanted)


def cases(length: int, tokens: int) -> st.SearchStrategy[Any]:
    """A window, a query that has one at least, and documents: whole, or made of pieces of the query."""
    texts = st.lists(st.integers(0, tokens), max_size=length)
    return st.integers(1, 5).flatmap(
        lambda window: st.tuples(
            st.just(window),
            st.lists(st.integers(0, tokens), min_size=window, max_size=length),
            st.lists(texts, min_size=1, max_size=5),
        )
    )


PATHS = st.sampled_from([(1024, 4), (0, 0), (0, 2)])
"""Documents by their pairs, each by its suffixes, and some of either."""
ENGINE = st.sampled_from(ENGINES)


@given(cases(40, 2), PATHS, ENGINE, st.sampled_from([3, None]))
@settings(max_examples=400)
def test_runs_are_those_of_the_table(
    runs_of: Oracle, case: Any, path: tuple[int, int], engine: str | None, bits: int | None
) -> None:
    window, query, documents = case
    with patch.multiple(runs, _FEW_PAIRS=path[0], _PAIRS_PER_WINDOW=path[1]):
        require_runs_of_the_table(runs_of, query, documents, window, engine, bits)


@given(cases(40, 1000), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6), PATHS, ENGINE)
@settings(max_examples=100)
def test_quotations_among_other_tokens_are_found(
    runs_of: Oracle, case: Any, cut: list[tuple[int, int]], path: tuple[int, int], engine: str | None
) -> None:
    """Documents made of pieces of a query that repeats little: what the pairs are for."""
    window, query, documents = case
    quoting = [token for start, end in cut for token in query[start:end]]
    with patch.multiple(runs, _FEW_PAIRS=path[0], _PAIRS_PER_WINDOW=path[1]):
        require_runs_of_the_table(runs_of, query, [*documents, quoting], window, engine)


@pytest.mark.stress
@given(cases(300, 3), PATHS, ENGINE)
@settings(max_examples=1000)
def test_runs_are_those_of_the_table_at_length(
    runs_of: Oracle, case: Any, path: tuple[int, int], engine: str | None
) -> None:
    window, query, documents = case
    with patch.multiple(runs, _FEW_PAIRS=path[0], _PAIRS_PER_WINDOW=path[1]):
        require_runs_of_the_table(runs_of, query, documents, window, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_table_of_zeros_is_not_paired_with_another(engine: str | None) -> None:
    """Three million pairs would take a hundred megabytes, and with a kernel a second."""
    zeros = np.append(np.zeros(2000, dtype=np.int32), np.int32(MARK))
    kernels = importlib.import_module(engine) if engine else None
    if kernels:
        repeats = kernels.diagonals(zeros[:1500], zeros, np.zeros(1, dtype=np.int64), 8, 1024, 4)[3]
        assert repeats.tolist() == [True]
    tracemalloc.start()
    try:
        found = common_runs(zeros[:1500], zeros, np.zeros(1, dtype=np.int64), 8, kernels)
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()
    assert [each.tolist() for each in found] == [[0], [1500], [0]]


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 3), ENGINE)
def test_a_document_of_one_token_again_and_again(
    runs_of: Oracle, ours: int, theirs: int, window: int, engine: str | None
) -> None:
    query, document = [7] * max(ours, window), [7] * theirs
    for path in ((1024, 4), (0, 0)):
        with patch.multiple(runs, _FEW_PAIRS=path[0], _PAIRS_PER_WINDOW=path[1]):
            require_runs_of_the_table(runs_of, query, [document, [1], document], window, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_many_runs_are_all_told(runs_of: Oracle, engine: str | None) -> None:
    query = list(range(300))
    documents = [[token for at in range(start, 290, 3) for token in (at, at + 1, 999)] for start in range(3)]
    require_runs_of_the_table(runs_of, query, documents, 2, engine)
