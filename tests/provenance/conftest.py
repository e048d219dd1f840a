"""The oracle of the tests of tracing."""

from collections.abc import Callable

import pytest

Runs = set[tuple[int, int]]


@pytest.fixture(scope="session")
def runs_of() -> Callable[[list[int], list[int], int], Runs]:
    """Maximal runs of a query that occur in a document, by the table of common suffixes, O(n m)."""

    def table(query: list[int], document: list[int], least: int) -> Runs:
        ends = {}
        row = [0] * (len(document) + 1)
        for i, token in enumerate(query):
            row = [0, *(row[j] + 1 if other == token else 0 for j, other in enumerate(document))]
            longest = max(row)
            if longest >= least:
                ends[i + 1] = i + 1 - longest
        found: Runs = set()
        for end, start in ends.items():
            if not any(s <= start and end < e for e, s in ends.items()):
                found.add((start, end))
        return found

    return table
