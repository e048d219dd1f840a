"""At which character of its text each token of a document begins; without making the text, where that is possible."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from memodb.errors import CorruptStore, InvalidInput
from memodb.text import Tokenizer

__all__ = ["characters_before", "characters_in"]

Tokens = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]

_NOT_ASKED = -1
_tables: WeakKeyDictionary[Tokenizer, tuple[Tokens, Tokens] | None] = WeakKeyDictionary()


def characters_before(tokenizer: Tokenizer, tokens: Tokens, places: Places) -> Places | None:
    """The number of the character that the token at each of some places begins with, or inside of.

    Parameters
    ----------
    tokens : int32 (n,)
        Of any documents, one after another, and marks below 0 between them.
    places : int64, any shape

    Returns
    -------
    int64 of the places' shape, or None
        Counted from anywhere: the difference of two of one document says how many characters lie between. None where
        tokens do not say what a text is, byte for byte.

    Raises
    ------
    CorruptStore
        A token that the vocabulary does not have.
    """
    table = _table(tokenizer)
    if table is None:
        return None
    if not places.size:
        return places
    begun, inside = table
    try:
        if tokens.max() >= begun.size:
            raise InvalidInput(f"there is no token {tokens.max()}")
        sizes = begun.take(tokens, mode="clip")  # what is looked up for a mark does not matter
        fresh = np.unique(tokens[sizes == _NOT_ASKED])
        fresh = fresh[fresh >= 0]
        if fresh.size:
            following = [[byte & 0xC0 == 0x80 for byte in spelled] for spelled in tokenizer.spelled(fresh)]
            inside[fresh] = [each[:1] == [True] for each in following]
            begun[fresh] = [each.count(False) for each in following]
            sizes = begun.take(tokens, mode="clip")
    except InvalidInput as exc:
        raise CorruptStore("a document has a token that the vocabulary does not have: run `memodb check`") from exc
    # a sum from each place to the next one, and those added up: adding up every token's takes four times as long
    distinct, number = np.unique(places, return_inverse=True)
    between: Places = np.add.reduceat(sizes, distinct, dtype=np.int64)
    before = np.cumsum(between) - between - inside[tokens[distinct]]
    return before[number].reshape(places.shape)


def characters_in(tokenizer: Tokenizer, text: str, places: Places) -> Places:
    """The character of a text at which each of some of its tokens begins: the tokenizer knows, having made them."""
    found: Places = tokenizer.encode_with_offsets(text)[1][places, 0]
    return found


def _table(tokenizer: Tokenizer) -> tuple[Tokens, Tokens] | None:
    """How many characters begin in each token, and whether its first byte is inside of one, as far as it was asked for;
    None where tokens are not bytes."""
    if tokenizer not in _tables:
        begun, inside = np.full((2, tokenizer.vocabulary_size), _NOT_ASKED, dtype=np.int32)
        _tables[tokenizer] = (begun, inside) if tokenizer.byte_level else None
    return _tables[tokenizer]
