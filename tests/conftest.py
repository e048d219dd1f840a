"""What the tests above the memory share: stores, texts, and an independent model of what a store must answer."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import memodb

# No deadlines: machines differ, and a slow one is no finding.
settings.register_profile("memodb", deadline=None)
settings.load_profile("memodb")

ROOT = Path(__file__).parents[1]
SEED = bytes(range(32))
BEGIN, END = -1, -2


@pytest.fixture(scope="session")
def stress_factor() -> float:
    """What multiplies the sizes of the stress tests: the environment variable MEMODB_STRESS, 1 by default."""
    return float(os.environ.get("MEMODB_STRESS", "1"))


@pytest.fixture
def in_process() -> Callable[..., str]:
    """Run Python source in a process of its own with arguments in sys.argv; its standard output."""

    def run(source: str, *arguments: object, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", source, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def fresh() -> Callable[..., memodb.Store]:
    """Open a store of a known seed and small segments; the caller closes it."""

    def connect(path: Any = ":memory:", **settings: Any) -> memodb.Store:
        return memodb.connect(path, **{"seed": SEED, "segment_tokens": 4096, **settings})

    return connect


@pytest.fixture(scope="session")
def prose() -> Callable[..., str]:
    """So many words of a small language, a function of the seed; short contexts repeat, long ones do not."""
    letters = random.Random(1)
    vocabulary = ["".join(letters.choices("abcdefghiklmnoprstu", k=letters.randint(2, 8))) for _ in range(300)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]

    def write(words: int, seed: int = 0) -> str:
        return " ".join(random.Random(f"{seed} {words}").choices(vocabulary, weights, k=words))

    return write


@pytest.fixture(scope="session")
def contents() -> Callable[[memodb.Store], Any]:
    """All that a handle says it holds, for comparison before and after."""

    def of(db: memodb.Store) -> Any:
        listed = {document.id: (document, db.text(document.id)) for document in db.documents()}
        assert len(db) == len(listed)
        return listed, db.digest(), [info.to_dict() for info in db.collections()]

    return of


class Model:
    """A store as a dict: what every context is followed by, counted by going through the tokens."""

    def __init__(self, spans: Sequence[int] = (1, 4, 16)) -> None:
        self.spans = tuple(spans)
        self.longest = self.spans[-1]
        self.texts: dict[str, str] = {}
        self.tokens: dict[str, list[int]] = {}
        self._tables: list[dict[tuple[int, ...], Counter[int]]] | None = None

    def put(self, name: str, text: str, tokens: Iterable[int]) -> None:
        self.texts[name] = text
        self.tokens[name] = [int(token) for token in tokens]
        self._tables = None

    def drop(self, name: str) -> None:
        del self.texts[name], self.tokens[name]
        self._tables = None

    @property
    def tables(self) -> list[dict[tuple[int, ...], Counter[int]]]:
        """Of each span: context to the number of documents in which each token follows it."""
        if self._tables is None:
            self._tables = [{} for _ in self.spans]
            for tokens in self.tokens.values():
                framed = [BEGIN] * self.longest + tokens + [END]
                for table, span in zip(self._tables, self.spans, strict=True):
                    pairs = {(tuple(framed[i - span : i]), framed[i]) for i in range(self.longest, len(framed))}
                    for context, token in pairs:
                        table.setdefault(context, Counter())[token] += 1
        return self._tables

    def answer(self, ids: Sequence[int]) -> tuple[int, Counter[int]]:
        """What follows these tokens, by the longest known context: tokens it rests on, and documents by token."""
        framed = [BEGIN] * self.longest + [int(token) for token in ids]
        for table, span in zip(reversed(self.tables), reversed(self.spans), strict=True):
            found = table.get(tuple(framed[-span:]))
            if found:
                return min(span, len(ids) + 1), found
        return 0, Counter()

    def prompts(self, seed: int, lengths: Iterable[int]) -> list[list[int]]:
        """Pieces of documents, and pieces with one token exchanged."""
        chance = random.Random(seed)
        found: list[list[int]] = []
        for length in lengths:
            for tokens in self.tokens.values():
                at = chance.randint(0, max(0, len(tokens) - length))
                piece = tokens[at : at + length]
                found.append(piece)
                if piece:
                    altered = list(piece)
                    altered[chance.randrange(len(piece))] = chance.choice(piece)
                    found.append(altered)
        return found

    def require(self, db: memodb.Store, prompts: Sequence[Sequence[int]], *, exact: bool) -> int:
        """Compare the store's lookups with the truth; the number of answers that rest on more than they should.

        Never a miss and never too small a support. ``exact``: nothing false either.
        """
        if not prompts:
            return 0
        end = db.tokenizer.vocabulary_size
        answers = db.lookup([list(prompt) for prompt in prompts], k=2000)
        false = 0
        for row, prompt in enumerate(prompts):
            length, truth = self.answer(prompt)
            told = {
                (END if token == end else token): support
                for token, support in zip(answers.token_ids[row].tolist(), answers.support[row].tolist(), strict=True)
                if token >= 0
            }
            got = int(answers.context_length[row])
            assert got >= length, (prompt, got, length)
            if got > length:
                false += 1
                continue
            assert truth.keys() <= told.keys(), prompt
            assert all(told[token] >= count for token, count in truth.items()), prompt
            false += len(told.keys() - truth.keys()) > 0
            if exact:
                assert told == dict(truth), prompt
        assert not (exact and false)
        return false


@pytest.fixture(scope="session")
def model() -> type[Model]:
    return Model
