"""The suffix arrays of the package index: ``tokengrams`` and ``infini-gram``. Both are built once and never changed.

Tried with tokengrams 0.3.3 and infini-gram 2.6.0 on Python 3.11. A token of its own stands behind each document, so
that no context runs from one into the next and the end of a document is among the answers.
"""

from __future__ import annotations

import importlib
import importlib.util
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.peers import Peer
from bench.questions import TOP, Row, top
from bench.stream import END, Document

__all__ = ["InfiniGram", "Tokengrams"]


class _Index(Peer):
    """A peer that a package brings."""

    module: ClassVar[str]
    durable = True
    changes = False

    @classmethod
    def missing(cls) -> str:
        if importlib.util.find_spec(cls.module.partition(".")[0]) is None:
            return "not installed (memodb[bench]), or no wheel for this platform"
        try:
            importlib.import_module(cls.module)
        except Exception as exc:  # a wheel of another platform or NumPy fails in whichever way it likes
            return f"cannot be imported: {type(exc).__name__}"
        return ""


class Tokengrams(_Index):
    """tokengrams: asked for the positions of a context, whose next tokens are then counted.

    Its own ``count_next`` returns a list as long as the vocabulary, from which taking the ten likeliest is an order of
    magnitude slower.
    """

    name = "tokengrams"
    module = "tokengrams"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._package: Any = importlib.import_module(self.module)
        self._index: Any = None
        self._tokens: npt.NDArray[np.uint16] = np.zeros(0, np.uint16)

    def ingest(self, documents: Sequence[Document]) -> None:
        tokens, index = self.place / "tokens.bin", self.place / "tokens.idx"
        np.concatenate([np.append(document.ids, END) for document in documents]).astype("<u2").tofile(tokens)
        index.unlink(missing_ok=True)
        self._index = self._package.MemmapIndex.build(str(tokens), str(index), vocab=END + 1)
        self._tokens = np.memmap(tokens, "<u2", "r")

    def batch(self, contexts: npt.NDArray[np.int64]) -> list[Row]:
        return [row for context in contexts.tolist() for row in self.one(context)]

    def one(self, context: list[int]) -> list[Row]:
        found = self._index.positions(context)
        return [top(Counter(self._tokens[np.array(found) + len(context)].tolist())) if found else []]

    def close(self) -> None:
        self._index = None
        self._tokens = np.zeros(0, np.uint16)


class InfiniGram(_Index):
    """infini-gram: its distribution of next tokens, exact (no limit of the support).

    Indexed with one CPU: with two, version 2.6 gives wrong counts on small parts. Its indexer tokenises itself unless
    the token file is there, which is how the stream gets in: a separator of all ones before each document, and one more
    behind the last, without which its end would not be found.
    """

    name = "infini-gram"
    module = "infini_gram.engine"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._package: Any = importlib.import_module(self.module)
        self._engine: Any = None

    def ingest(self, documents: Sequence[Document]) -> None:
        source, index = self.place / "none", self.place / "index"
        source.mkdir(exist_ok=True)
        index.mkdir(exist_ok=True)
        parts = [document.ids.astype("<u2") for document in documents] + [np.zeros(0, "<u2")]
        ends = np.cumsum([part.size + 1 for part in parts])
        flat = np.concatenate([np.append(np.uint16(0xFFFF), part) for part in parts]).astype("<u2")
        flat.tofile(index / "tokenized.0")
        (2 * np.concatenate([[0], ends[:-1]])).astype("<u8").tofile(index / "offset.0")
        (index / "table.0").unlink(missing_ok=True)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        options = {
            "data_dir": source, "save_dir": index, "token_dtype": "u16", "shards": 1, "workers": 1, "cpus": 1,
            "mem": 4, "ulimit": files,
        }  # fmt: skip
        named = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        done = subprocess.run([sys.executable, "-m", "infini_gram.indexing", *named], capture_output=True, text=True)
        if done.returncode or not (index / "table.0").exists():
            raise SystemExit(f"infini-gram could not index: {done.stderr[-500:]}")
        self._engine = self._package.InfiniGramEngine(
            index_dir=[str(index)], eos_token_id=END, vocab_size=2**16 - 1, token_dtype="u16", max_support=2**40
        )

    def batch(self, contexts: npt.NDArray[np.int64]) -> list[Row]:
        return [row for context in contexts.tolist() for row in self.one(context)]

    def one(self, context: list[int]) -> list[Row]:
        found = self._engine.ntd(context)["result_by_token_id"]
        counts = ((token, each["cont_cnt"]) for token, each in found.items())
        return [sorted(counts, key=lambda item: (-item[1], item[0]))[:TOP]]

    def close(self) -> None:
        self._engine = None
