"""Table 3, which the paper does not have: real prose, every position of its first tokens.

The text is the language reference that every Python carries (``pydoc_data.topics``, topics in the order of their
names), then, where that is too short, the docstrings of the standard library's modules, in the order of their names.
Tokens are its words and its signs (``\\w+|[^\\w\\s]``), the vocabulary its distinct tokens, numbered by their first
place. The first n tokens are one text.

MeMo is the engine ``kohonen``: the text is framed by begin and end marks, each distinct pair counts once, every
position is asked for with all that comes before it. A second line stores every occurrence, as table 2 does: whole
windows only, places h..n-2 asked for.

No memory can give what the context does not determine. Two optima are counted exactly, from the same contexts: the
most frequent successor, which a memory that counts occurrences may reach; and the successor with the lowest number
among all that were seen, which is what one vote a document, and all of the text in one document, leaves to choose by.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections import Counter, defaultdict
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import numpy.typing as npt

from memodb.memory import Backend, Batch, Geometry, KohonenConfiguration
from memodb.memory.kohonen_memory import KohonenMemory
from paper.counting import Asked, Counting
from paper.decoding import hits
from paper.several import Linear, Setting, add_from, targets

__all__ = ["HEADS", "Prose", "counting", "engine", "every_occurrence", "optima", "prose"]

Ids = npt.NDArray[np.int64]

HEADS = 4


class Prose:
    """A text as numbers.

    Attributes
    ----------
    tokens : int64 (n,)
    vocabulary : int
    reference : int
        Tokens of the language reference; what follows them is of docstrings.
    """

    def __init__(self, most: int) -> None:
        words = _words("\n".join(text for _, text in sorted(topics.items())))[:most]
        self.reference = len(words)
        if len(words) < most:
            words += _words("\n".join(_docstrings()))[: most - len(words)]
        numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
        self.tokens: Ids = np.array([numbers[word] for word in words], dtype=np.int64)
        self.vocabulary = len(numbers)


def prose(most: int = 100_000) -> Prose:
    """The first tokens of the text described above."""
    return Prose(most)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def _docstrings() -> list[str]:
    """Docstrings of the standard library's top modules, as they stand."""
    found = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    found.append(text)
    return found


def _contexts(tokens: Ids, longest: int, begin: int) -> Ids:
    framed = np.concatenate([np.full(longest, begin), tokens])
    return np.lib.stride_tricks.sliding_window_view(framed, longest)[: len(tokens)]


def optima(tokens: Ids, span: int) -> tuple[float, float]:
    """Best accuracies after contexts of ``span`` tokens: by counts of occurrences, and by one vote a document."""
    seen: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
    for context, token in zip(_contexts(tokens, span, -1), tokens.tolist(), strict=True):
        seen[context.tobytes()][token] += 1
    by_count = sum(max(counts.values()) for counts in seen.values())
    by_vote = sum(counts[min(counts)] for counts in seen.values())
    return by_count / len(tokens), by_vote / len(tokens)


def engine(text: Prose, n: int, layers: int, codes: str, dim: int, seed: int) -> float:
    """Accuracy of the engine ``kohonen``: the paper's decoding at every position."""
    tokens = text.tokens[:n]
    configuration = KohonenConfiguration(
        vocabulary=text.vocabulary, heads=HEADS, layers=layers, codes=codes, dim=dim, segment_tokens=1 << 20
    )
    memory = KohonenMemory(Backend(), configuration, b"prose" + seed.to_bytes(27, "little"))
    segment = memory.new_segment(Geometry((), configuration.provenance_ones * 8, 0))
    segment.add(segment.contribution(Batch.of([(1, tokens)])))
    made = memory.codebook.codes
    # along the text every block is encoded once; asking for contexts one by one encodes each of its blocks anew
    longest = configuration.longest
    framed = np.concatenate([np.full(longest, configuration.begin), tokens])
    votes = np.zeros((n, dim), dtype=np.float32)
    for _, start, keys, _ in made.stream(framed):
        add_from(0, votes, keys, start - longest)
    return hits(votes @ segment.correlations[-1], tokens, made.vectors[: configuration.answers])


def every_occurrence(text: Prose, n: int, layers: int, codes: str, dim: int, seed: int) -> float:
    """Accuracy of MeMo without deduplication."""
    setting = Setting(dim, layers, 0, HEADS, text.vocabulary, samples=1, length=n - 1, iterations=1)
    memory = Linear(setting, codes, seed, recalled=False)
    texts = text.tokens[None, :n]
    keys = memory.memorise(texts)
    return hits(keys @ memory.output, targets(setting, texts), memory.codes.vectors[: text.vocabulary])


def counting(text: Prose, n: int, layers: int, cells: int, seed: int) -> tuple[Asked, Counting]:
    """Answers of the engine ``willshaw`` at every position, and the memory."""
    memory = Counting(text.vocabulary, HEADS, layers, cells, n + 1, seed)
    texts = text.tokens[None, :n]
    memory.memorise(texts)
    return memory.ask(texts, 0, n), memory
