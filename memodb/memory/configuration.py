"""What a memory is built to: the configuration of each engine, fixed for life, and the shape of a segment.

Symbols, once for all: a counting matrix has R rows and c columns; a key has s ones (rows), a value q ones (columns); V
values can be answered (every token, and the end); a correlation matrix has d x d cells. :mod:`capacity` has the
formulas.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from memodb.errors import CorruptStore, InvalidConfiguration

__all__ = [
    "CODES",
    "ENCODINGS",
    "ENGINES",
    "EXACT_FLOAT32",
    "FIRST_CAPACITY",
    "MOST_LAYERS",
    "PROVENANCE_PASS_RATE",
    "Configuration",
    "Geometry",
    "KohonenConfiguration",
    "WillshawConfiguration",
]

PROVENANCE_PASS_RATE = 2e-5
"""False candidates per window and document of the provenance layer. The catalog verifies every candidate, so this buys
speed, not truth: at 25 cells a window the least false work that the space allows."""

MOST_LAYERS = 6

MOST_CELLS = 1 << 40
"""Cells of one matrix, beyond any use: one of some hundred million tokens has 2**34, and must be read back. What a
damaged catalog asks for within this is refused where there is no room for it."""

EXACT_FLOAT32 = 1 << 24
"""Every integer up to this is a float32, and sums that stay below it are exact in any order."""

CODES = ("rademacher", "gaussian")
ENCODINGS = ("computed", "recalled")

FIRST_CAPACITY = 4096
"""Tokens that the first geometry of a segment is laid out for: small stores stay small, and growing is a doubling."""


class Configuration(ABC):
    """What a collection's memory is built to; fixed when the store is created. Each engine has its own kind.

    Parameters
    ----------
    vocabulary : int
        Token ids are 0..vocabulary-1; the two ids above are the begin and end marks.
    heads, layers : int
        Layer L (0..layers) looks at the last heads^L tokens.
    window : int
        Tokens of a provenance window.
    columns, ones : int
        c and q: columns of every counting matrix (a power of two) and ones of every value (a power of two that divides
        it).
    segment_tokens : int
        Tokens of the first segment when it is sealed; each next segment takes twice as many.
    """

    engine: ClassVar[str]
    vocabulary: int
    heads: int
    layers: int
    window: int
    columns: int
    ones: int
    segment_tokens: int

    def require_sound(self) -> None:
        """Refuse what no memory can be built to.

        Raises
        ------
        InvalidConfiguration
        """
        for name in ("vocabulary", "heads", "layers", "window", "columns", "ones", "segment_tokens"):
            value = getattr(self, name)
            require(isinstance(value, int) and not isinstance(value, bool), f"{name} must be an int, not {value!r}")
        require(1 <= self.vocabulary < 2**31 - 2, f"vocabulary must be 1..2**31-3, not {self.vocabulary}")
        require(2 <= self.heads <= 16, f"heads must be 2..16, not {self.heads}")
        require(0 <= self.layers <= MOST_LAYERS, f"layers must be 0..{MOST_LAYERS}, not {self.layers}")
        require(self.heads**self.layers <= 4096, f"heads**layers must be at most 4096, not {self.heads**self.layers}")
        require(2 <= self.window <= 64, f"window must be 2..64 tokens, not {self.window}")
        require(
            self.columns in (256, 512, 1024, 2048, 4096),
            f"columns must be 256..4096, a power of two, not {self.columns}",
        )
        require(self.ones in (2, 4), f"ones must be 2 or 4, not {self.ones}")
        require(
            FIRST_CAPACITY <= self.segment_tokens <= 1 << 40,
            f"segment_tokens must be {FIRST_CAPACITY}..2**40, not {self.segment_tokens}",
        )

    @property
    def end(self) -> int:
        """The mark that follows every document's last token."""
        return self.vocabulary

    @property
    def begin(self) -> int:
        """The mark that stands before every document, as often as the longest context has tokens; never an answer."""
        return self.vocabulary + 1

    @property
    def before(self) -> int:
        """What a prompt that is shorter than a context is asked with before it: it is answered as the beginning of a
        document, and where that is not known from its last tokens alone."""
        return self.begin

    @property
    def answers(self) -> int:
        """V, the number of values a context may have: every token and the end mark."""
        return self.vocabulary + 1

    @property
    def spans(self) -> tuple[int, ...]:
        """Context lengths of the layers, in tokens: 1, h, h^2, ..."""
        return tuple(self.heads**level for level in range(self.layers + 1))

    @property
    def longest(self) -> int:
        """Tokens of the longest context."""
        return int(self.heads**self.layers)

    @property
    @abstractmethod
    def layer_ones(self) -> tuple[int, ...]:
        """s of each answering layer that is a counting matrix."""

    @property
    def provenance_ones(self) -> int:
        """s of the provenance layer, near half fill."""
        return max(2, round(math.log2(1 / PROVENANCE_PASS_RATE) / self.ones))

    @property
    def promised_false_recall(self) -> float | None:
        """The highest probability that an unknown context is answered; None where nothing is promised."""
        return None

    @property
    def exact(self) -> bool:
        """Whether forgetting leaves, bit for bit, the memory that never saw the document."""
        return True

    @property
    def least_bytes(self) -> int:
        """Bytes of memory that a collection takes before it holds anything, where that is worth a look beforehand."""
        return 0

    @property
    def most_tokens(self) -> int | None:
        """Tokens that one document may have; None where any number may."""
        return None

    def room(self, ordinal: int) -> int:
        """Tokens that the ``ordinal``-th segment of a collection takes; a longer document gets a segment to itself."""
        return self.segment_tokens << ordinal

    def fits(self, tokens: int, documents: int, ordinal: int) -> bool:
        """Whether the ``ordinal``-th segment of a collection takes so many."""
        return tokens <= self.room(ordinal)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready values, in a fixed order."""
        return dict(vars(self))


@dataclass(frozen=True)
class WillshawConfiguration(Configuration):
    """Counting Willshaw matrices (:mod:`memodb.memory.willshaw`): no misses, a promised rate of false recall.

    Parameters
    ----------
    false_recall : float
        Promise: the highest probability that an unknown context is answered, over all segments of the collection.
    """

    engine: ClassVar[str] = "willshaw"
    vocabulary: int
    heads: int = 4
    layers: int = 2
    false_recall: float = 0.01
    window: int = 8
    columns: int = 512
    ones: int = 4
    segment_tokens: int = 1 << 24

    def __post_init__(self) -> None:
        self.require_sound()
        require(isinstance(self.false_recall, float | int), f"false_recall must be a number, not {self.false_recall!r}")
        require(1e-9 <= self.false_recall <= 0.5, f"false_recall must be 1e-9..0.5, not {self.false_recall}")

    @property
    def promised_false_recall(self) -> float:
        return self.false_recall

    def key_ones(self, level: int) -> int:
        """s of a layer: so many that the promise is met near half fill, where a cell holds the most (f = 1/2).

        Layer 0 gets two more: its contexts, single tokens, fill their own rows, and a wider key finds an emptier one.
        """
        bits = math.log2(self.answers / self.false_recall)
        return max(2, round(bits / self.ones)) + 2 * (level == 0)

    @property
    def layer_ones(self) -> tuple[int, ...]:
        return tuple(map(self.key_ones, range(self.layers + 1)))


@dataclass(frozen=True)
class KohonenConfiguration(Configuration):
    """MeMo as published (:mod:`memodb.memory.kohonen`): linear correlation matrices of a fixed dimension.

    It promises neither that nothing is missed nor a rate of false recall: both follow from how much is stored
    (:func:`crosstalk`). The provenance layer is a counting matrix, as in the other engine.

    Parameters
    ----------
    layers : int
        l, from 1: one correlation matrix each, for contexts of h, h^2, ... h^l tokens.
    codes : {"rademacher", "gaussian"}
        ±1 codes, with which sums are integers and forgetting is exact; or the paper's, with which it is not.
    dim : int
        d: numbers of a token's vector, a multiple of heads; a correlation matrix has d x d float32 cells.
    encodings : {"computed", "recalled"}
        How reading obtains the encodings of a context's blocks: from the blocks themselves, as the authors' results
        were made; or from the lower layers' correlation matrices, as the paper writes it.
    """

    engine: ClassVar[str] = "kohonen"
    vocabulary: int
    heads: int = 4
    layers: int = 2
    codes: str = "rademacher"
    dim: int = 1024
    encodings: str = "computed"
    window: int = 8
    columns: int = 512
    ones: int = 4
    segment_tokens: int = 1 << 20

    def __post_init__(self) -> None:
        self.require_sound()
        require(
            self.layers >= 1, "the kohonen engine has 1 layer at least: heads**layers tokens is its longest context"
        )
        require(self.codes in CODES, f"codes must be one of {', '.join(CODES)}, not {self.codes!r}")
        require(self.encodings in ENCODINGS, f"encodings must be one of {', '.join(ENCODINGS)}, not {self.encodings!r}")
        require(type(self.dim) is int, f"dim must be an int, not {self.dim!r}")
        require(
            16 <= self.dim <= 1 << 15 and self.dim % self.heads == 0,
            f"dim must be 16..32768 and a multiple of the {self.heads} heads, not {self.dim}",
        )

    @property
    def layer_ones(self) -> tuple[int, ...]:
        return ()

    @property
    def exact(self) -> bool:
        return self.codes == "rademacher"

    @property
    def padding(self) -> int:
        """A token id whose vector is zero: a block that is not there."""
        return self.vocabulary + 2

    @property
    def before(self) -> int:
        """Padding: half a key recalls half of what the whole one does, at the beginning of a document or inside. Begin
        marks would recall what every document begins with."""
        return self.padding

    @property
    def least_bytes(self) -> int:
        return self.codebook_bytes + self.correlation_bytes

    @property
    def most_tokens(self) -> int:
        return EXACT_FLOAT32 // self.layers - 1

    def fits(self, tokens: int, documents: int, ordinal: int) -> bool:
        # A document of n tokens has n + 1 pairs in each layer, each of which changes a cell by 1 at most, and float32
        # counts exactly to 2^24.
        return super().fits(tokens, documents, ordinal) and (tokens + documents) * self.layers <= EXACT_FLOAT32

    @property
    def codebook_bytes(self) -> int:
        """Bytes of the vectors and projections that the seed stands for."""
        d, h = self.dim, self.heads
        return 4 * ((self.vocabulary + 3) * d + self.layers * d * d // h + (self.layers - 1) * h * d * d)

    @property
    def correlation_bytes(self) -> int:
        """Bytes of a segment's correlation matrices."""
        return 4 * self.layers * self.dim * self.dim


ENGINES: dict[str, type[WillshawConfiguration] | type[KohonenConfiguration]] = {
    kind.engine: kind for kind in (WillshawConfiguration, KohonenConfiguration)
}


def require(holds: bool, message: str) -> None:
    """Refuse a setting."""
    if not holds:
        raise InvalidConfiguration(message)


@dataclass(frozen=True)
class Geometry:
    """The shape of one segment.

    Parameters
    ----------
    rows : tuple of int
        R of each answering layer that is a counting matrix, a multiple of the layer's s.
    provenance_rows : int
        R of the provenance layer.
    ordinal : int
        Place of the segment in its collection: sets its share of the promise and how many tokens it takes.
    """

    rows: tuple[int, ...]
    provenance_rows: int
    ordinal: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"rows": list(self.rows), "provenance_rows": self.provenance_rows, "ordinal": self.ordinal}

    @classmethod
    def from_dict(cls, data: Any, configuration: Configuration) -> Geometry:
        """What :meth:`to_dict` gave.

        Raises
        ------
        CorruptStore
            No segment of this configuration has such a shape.
        """
        try:
            geometry = cls(tuple(data["rows"]), data["provenance_rows"], data["ordinal"])
            keys = (*configuration.layer_ones, configuration.provenance_ones)
            for rows, ones in zip((*geometry.rows, geometry.provenance_rows), keys, strict=True):
                if type(rows) is not int or not 0 < rows * configuration.columns <= MOST_CELLS or rows % ones:
                    raise ValueError(f"{rows!r} rows")
            if type(geometry.ordinal) is not int or not 0 <= geometry.ordinal < 64:
                raise ValueError(f"ordinal {geometry.ordinal!r}")
        except (KeyError, TypeError, ValueError) as exc:
            raise CorruptStore(f"the catalog gives a segment an impossible shape: {exc}") from exc
        return geometry
