"""At which character of its text each token of a document begins; without making the text, where that is possible."""

from __future__ import annotations

import json
from itertools import accumulate, pairwise
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from memodb.errors import CorruptStore, InvalidInput
from memodb.text import Tokenizer

__all__ = ["UNSURE", "characters_before", "characters_in"]

Tokens = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]

UNSURE = 1 << 30
"""As many characters no text has."""

_NOT_ASKED = -1
_lengths: WeakKeyDictionary[Tokenizer, Tokens | None] = WeakKeyDictionary()


def characters_before(tokenizer: Tokenizer, tokens: Tokens, places: Places) -> Places | None:
    """Characters of the pieces before some places of a sequence of tokens, which may have marks below 0 in it.

    Returns
    -------
    int64 of the places' shape, or None
        The difference of two is the number of characters between, `UNSURE` or more where a piece is a part of a
        character. None where pieces do not make up a text.

    Raises
    ------
    CorruptStore
        A token that the vocabulary does not have.
    """
    lengths = _piece_lengths(tokenizer)
    if lengths is None:
        return None
    try:
        if tokens.max() >= lengths.size:
            raise InvalidInput(f"there is no token {tokens.max()}")
        sizes = lengths.take(tokens, mode="clip")  # what is looked up for a mark does not matter
        fresh = np.unique(tokens[sizes == _NOT_ASKED])
        fresh = fresh[fresh >= 0]
        if fresh.size:
            lengths[fresh] = [UNSURE if "\ufffd" in piece else len(piece) for piece in tokenizer.pieces(fresh)]
            sizes = lengths.take(tokens, mode="clip")
    except InvalidInput as exc:
        raise CorruptStore("a document has a token that the vocabulary does not have: run `memodb check`") from exc
    # a sum from each place to the next one, and those added up: adding up every token's takes four times as long
    distinct, number = np.unique(places, return_inverse=True)
    between = np.add.reduceat(sizes, distinct, dtype=np.int64) if distinct.size else distinct
    before: Places = (np.cumsum(between) - between)[number]
    return before.reshape(places.shape)


def characters_in(tokenizer: Tokenizer, tokens: Tokens, kept: str | None, places: Places) -> Places:
    """The character of a document's text at which each of some of its tokens begins.

    Parameters
    ----------
    kept : str or None
        The text; None where the tokens reproduce it.
    """
    text = tokenizer.decode(tokens) if kept is None else kept
    if kept is None and _piece_lengths(tokenizer) is not None:
        edges = np.unique(np.append(places, 0)).tolist()
        pieces = [tokenizer.decode(tokens[a:b]) for a, b in pairwise(edges)]
        if text.startswith("".join(pieces)):
            lengths = dict(zip(edges, accumulate(map(len, pieces), initial=0), strict=True))
            return np.array([lengths[place] for place in places.tolist()], dtype=np.int64)
    # a token that begins inside a character, or a tokenizer that loses something: it knows itself
    found: Places = tokenizer.encode_with_offsets(text)[1][places, 0]
    return found


def _piece_lengths(tokenizer: Tokenizer) -> Tokens | None:
    """Characters of every token's piece, as far as they were asked for.

    A byte-level tokenizer's text is its tokens' bytes, one after another, and so its pieces. Other decoders join them
    by rules of their own: None.
    """
    if tokenizer not in _lengths:
        byte_level = (json.loads(tokenizer.json).get("decoder") or {}).get("type") == "ByteLevel"
        fresh = np.full(tokenizer.vocabulary_size, _NOT_ASKED, dtype=np.int32) if byte_level else None
        _lengths[tokenizer] = fresh
    return _lengths[tokenizer]
