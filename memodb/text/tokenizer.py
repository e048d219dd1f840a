"""The tokenizer a store is bound to, and the check every text passes before it is encoded.

The engine is the ``tokenizers`` library; what this module adds is what a store needs and the library leaves open.
A text is never shortened, padded or given tokens that it does not hold, and nothing a text says has a special meaning.
The bytes of the configuration travel with the object, because ids mean something only together with them.
"""

import functools
import hashlib
import importlib.resources
import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from memodb.errors import InvalidConfiguration, InvalidInput, InvalidText
from memodb.text.foreign import raising, require_harmless, require_vocabulary

if TYPE_CHECKING:
    import tokenizers

__all__ = ["MAX_TEXT_CHARACTERS", "Tokenizer", "check_text"]

Ids = npt.NDArray[np.int32]

MAX_TEXT_CHARACTERS = 4 * 2**20
"""Longest text that is encoded, in characters: more than the longest novels. While it encodes, the library holds about
160 bytes for each token, 320 with offsets; prose of this length takes half a gigabyte, random ideographs five."""

# Documents handed to the library at once: enough to keep its threads busy, few enough that their encodings, some
# forty times the size of the ids, never pile up for a whole import.
_BATCH_CHARACTERS = 2**22

_PART_CHARACTERS = 2**13
"""A longer text is encoded in parts of as many, or a line more, side by side."""
_LINE_END = re.compile(r"[\r\n](?![\r\n])")


def check_text(text: object) -> str:
    """Return ``text`` if it can be memorised exactly.

    Parameters
    ----------
    text : object
        Anything; only a ``str`` of Unicode scalar values passes. It is not normalised or otherwise changed.

    Returns
    -------
    str
        ``text`` itself.

    Raises
    ------
    InvalidText
        If it is no ``str``, is longer than `MAX_TEXT_CHARACTERS`, or holds a lone surrogate, which no UTF-8 can carry.
    """
    if not isinstance(text, str):
        hint = ": decode it first" if isinstance(text, bytes | bytearray | memoryview) else ""
        raise InvalidText(f"text must be str, not {type(text).__name__}{hint}")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidText(
            f"text has {len(text)} characters, the limit is {MAX_TEXT_CHARACTERS}: split it into several documents"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise InvalidText(
            f"text holds a lone surrogate (U+{ord(text[exc.start]):04X}) at character {exc.start}: "
            "repair it where it was decoded, for example with errors='replace'"
        ) from exc
    return text


class Tokenizer:
    """Text to token ids and back, with the bytes it was made from.

    Made by `shipped`, `from_file` or `from_bytes`. Instances do not change and may be shared between threads.

    Attributes
    ----------
    json : bytes
        The configuration exactly as given; `from_bytes` of it makes an equal tokenizer.
    digest : str
        SHA-256 of `json`, hexadecimal.
    vocabulary_size : int
        Largest token id plus one; at most 2**24.
    byte_level : bool
        What is decoded are the bytes of the tokens, one after another: see `spelled`.
    """

    def __init__(
        self, data: bytes, engine: "tokenizers.Tokenizer", vocabulary: dict[str, int], stated: dict[str, Any]
    ) -> None:
        self.json = data
        self.digest = hashlib.sha256(data).hexdigest()
        self.vocabulary_size = max(vocabulary.values()) + 1
        self._engine = engine
        # A vocabulary may have holes below its largest id.
        known = np.zeros(self.vocabulary_size, dtype=bool)
        known[list(vocabulary.values())] = True
        self._known = known
        self._pieces: dict[int, str] = {}
        self._spelled: dict[int, bytes] = {}
        self.byte_level = (stated.get("decoder") or {}).get("type") == "ByteLevel"
        # a post-processor may leave the spaces around a token out of its range
        self._offsets_are_bytes = self.byte_level and not stated.get("post_processor")
        self._of_lines = False

    def __repr__(self) -> str:
        return f"<Tokenizer {self.vocabulary_size} tokens, sha256 {self.digest[:12]}>"

    @classmethod
    def shipped(cls) -> "Tokenizer":
        """Return the package's own byte-level BPE; read once, at the first call, and then shared.

        Its `reproduces` holds for every valid text and its ids fit uint16. ``docs/tokenizer.md`` tells where it comes
        from.
        """
        # functools.cache alone would let two threads that come first each load a copy.
        with _shipped_lock:
            return _shipped()

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a ``tokenizers`` JSON file.

        Parameters
        ----------
        path : str or Path
            A ``tokenizer.json`` as ``tokenizers.Tokenizer.save`` writes it.

        Raises
        ------
        InvalidConfiguration
            If the file cannot be read or is no tokenizer that a store can be bound to.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise InvalidConfiguration(
                f"cannot read the tokenizer file {path}: {reason}; give the path of a `tokenizers` JSON file, "
                "or none for the tokenizer that ships with memodb"
            ) from exc
        try:
            return cls.from_bytes(data)
        except InvalidConfiguration as exc:
            raise InvalidConfiguration(f"tokenizer file {path}: {exc}") from exc.__cause__

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tokenizer":
        """Make a tokenizer of the bytes of a ``tokenizers`` JSON.

        Truncation and padding configured in it are switched off: a store must neither lose text nor gain tokens. Its
        special tokens are not looked for in texts, which are data and not prompts.

        Parameters
        ----------
        data : bytes
            UTF-8 JSON; kept as `json` unchanged.

        Raises
        ------
        InvalidConfiguration
            If it is not JSON, not a tokenizer that the installed ``tokenizers`` reads, would harm the process, encodes
            a text at random, or has an empty vocabulary or ids of 2**24 or more.
        """
        import tokenizers  # here, not above: the shared library takes longer to load than the rest of the package

        data = bytes(data)
        try:
            text = data.decode("utf-8")
            stated = json.loads(text)
        except (ValueError, RecursionError) as exc:  # UnicodeDecodeError and JSONDecodeError are both ValueErrors
            raise InvalidConfiguration(f"the tokenizer is not UTF-8 JSON: {exc}") from exc
        require_harmless(stated)
        with raising(InvalidConfiguration, f"not a tokenizer that `tokenizers` {tokenizers.__version__} reads"):
            engine = tokenizers.Tokenizer.from_str(text)
        engine.no_truncation()
        engine.no_padding()
        engine.encode_special_tokens = True
        vocabulary = engine.get_vocab(with_added_tokens=True)
        require_vocabulary(vocabulary)
        return cls(data, engine, vocabulary, stated)

    def encode(self, text: str) -> Ids:
        """Return the token ids of ``text``.

        Parameters
        ----------
        text : str
            Passed through `check_text`.

        Returns
        -------
        ndarray of int32, shape (n,)
            Empty for the empty text.

        Raises
        ------
        InvalidText
            As `check_text` does, or if a bound tokenizer has no token for a part of the text.
        """
        # encode_batch_fast of one text is quicker than encode, which computes offsets, and releases the GIL.
        return self._encode_checked([check_text(text)])[0]

    def encode_many(self, texts: Iterable[str]) -> list[Ids]:
        """Return ``[encode(text) for text in texts]``, using the library's threads.

        How many threads is the library's choice (``RAYON_NUM_THREADS``, ``TOKENIZERS_PARALLELISM``); memodb sets
        neither, since they belong to the whole process.

        Parameters
        ----------
        texts : iterable of str
            All are checked before any is encoded. A single ``str`` is refused.

        Returns
        -------
        list of ndarray of int32, shape (n_i,)

        Raises
        ------
        InvalidText
            As `check_text` does, naming the position of the text in ``texts``.
        """
        if isinstance(texts, str):
            raise InvalidText("texts must be a sequence of str, not one str: use encode() for that")
        checked = []
        for position, text in enumerate(texts):
            try:
                checked.append(check_text(text))
            except InvalidText as exc:
                raise InvalidText(f"text {position}: {exc}") from exc.__cause__
        ids: list[Ids] = []
        start, size = 0, 0
        for stop, text in enumerate(checked, start=1):
            size += len(text)
            if size >= _BATCH_CHARACTERS or stop == len(checked):
                ids += self._encode_checked(checked[start:stop])
                start, size = stop, 0
        return ids

    def encode_with_offsets(self, text: str) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Return the token ids of ``text`` and where in it each comes from.

        Parameters
        ----------
        text : str
            Passed through `check_text`.

        Returns
        -------
        ids : ndarray of int32, shape (n,)
            As `encode` gives.
        offsets : ndarray of int64, shape (n, 2)
            Half-open character ranges: ``text[offsets[i, 0]:offsets[j, 1]]`` is what tokens i to j, both included, were
            made from. Tokens that split one character all have that character's range.

        Raises
        ------
        InvalidText
            As `check_text` does.
        """
        check_text(text)
        if self._offsets_are_bytes:
            ids = self._encode_checked([text])[0]
            spelled = self.spelled(ids)
            if b"".join(spelled) == (raw := text.encode()):
                return ids, _characters_of(raw, spelled)
        # the library's own, which take half as long again as the tokens
        with raising(InvalidText, "the tokenizer cannot encode this text"):
            encoding = self._engine.encode(text, add_special_tokens=False)
        ids = np.array(encoding.ids, dtype=np.int32)
        # from one flat stream: an array of tuples takes more than twice as long
        flat = np.fromiter(chain.from_iterable(encoding.offsets), dtype=np.int64, count=2 * len(ids))
        return ids, flat.reshape(len(ids), 2)

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
        """Return the text of ``ids``.

        Parameters
        ----------
        ids : sequence of int or integer array, shape (n,)

        Returns
        -------
        str
            Bytes that are no UTF-8, as when the ids begin inside a character, become U+FFFD.

        Raises
        ------
        InvalidInput
            If an id is no integer or not in the vocabulary.
        """
        # Special tokens are kept: dropping what was asked for would be a loss without a word.
        known = self._check_ids(ids)
        with raising(InvalidInput, "the tokenizer cannot decode these ids"):
            return self._engine.decode(known, skip_special_tokens=False)

    def piece(self, token_id: int) -> str:
        """Return the text of one token, undecodable bytes as U+FFFD. What was asked before is remembered.

        Raises
        ------
        InvalidInput
            If the id is no integer or not in the vocabulary.
        """
        if type(token_id) is not int:  # True and 1.0 would be found under 1
            return self.decode([token_id])
        piece = self._pieces.get(token_id)
        if piece is None:
            piece = self._pieces[token_id] = self.decode([token_id])
        return piece

    def pieces(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> list[str]:
        """Return ``[piece(i) for i in ids]``.

        Raises
        ------
        InvalidInput
            If an id is no integer or not in the vocabulary.
        """
        batch = [[token_id] for token_id in self._check_ids(ids)]
        with raising(InvalidInput, "the tokenizer cannot decode these ids"):
            return self._engine.decode_batch(batch, skip_special_tokens=False)

    def spelled(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> list[bytes]:
        """Return the bytes of each token of a tokenizer that is `byte_level`.

        Raises
        ------
        InvalidInput
            If an id is no integer or not in the vocabulary.
        """
        known = self._check_ids(ids)
        for fresh in set(known).difference(self._spelled):
            characters = self._engine.id_to_token(fresh) or ""
            try:
                self._spelled[fresh] = bytes(map(_byte_alphabet().__getitem__, characters))
            except KeyError:  # an added token, which is spelled as it is said
                self._spelled[fresh] = characters.encode()
        return [self._spelled[token] for token in known]

    def reproduces(self, text: str, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> bool:
        """Tell whether ``decode(ids)`` is ``text``, so that the text need not be kept beside its tokens.

        True for the shipped tokenizer and ``encode(text)``; a tokenizer that lower-cases or has unknown tokens loses
        some texts.

        Raises
        ------
        InvalidInput
            If an id is no integer or not in the vocabulary.
        """
        return self.decode(ids) == text

    def _encode_checked(self, texts: list[str]) -> list[Ids]:
        """By the library's threads, of which a long text that may be cut gets several."""
        parts = [list(_cut(text)) if self._of_lines and len(text) > _PART_CHARACTERS else [text] for text in texts]
        # for example where a vocabulary without an unknown token meets a new word
        with raising(InvalidText, "the tokenizer cannot encode this text"):
            encodings = self._engine.encode_batch_fast(list(chain.from_iterable(parts)), add_special_tokens=False)
        ids = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        if len(ids) == len(texts):
            return ids
        each = iter(ids)
        return [np.concatenate([next(each) for _ in part]) for part in parts]

    def _check_ids(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> list[int]:
        """Return ``ids`` as Python ints of the vocabulary; the library would skip unknown ones in silence."""
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InvalidInput(f"token ids must be a flat sequence of integers, not {ids!r:.80}")
        known = (array >= 0) & (array < self.vocabulary_size)
        known[known] = self._known[array[known].astype(np.int64)]
        if not known.all():
            raise InvalidInput(
                f"token id {array[np.argmin(known)]} is not in this tokenizer's vocabulary of {self.vocabulary_size}: "
                "were the ids made with another tokenizer?"
            )
        plain: list[int] = array.astype(np.int64).tolist()
        return plain


def _cut(text: str) -> Iterator[str]:
    """Parts of a text that end with lines, or with the last of several empty ones."""
    begin = 0
    while begin < len(text):
        end = _LINE_END.search(text, begin + _PART_CHARACTERS)
        yield text[begin : (begin := end.end() if end else len(text))]


def _characters_of(text: bytes, parts: list[bytes]) -> npt.NDArray[np.int64]:
    """Half-open ranges of the characters of a text, in UTF-8, that the bytes of each of its parts belong to: (n, 2)."""
    character = np.cumsum((np.frombuffer(text, dtype=np.uint8) & 0xC0) != 0x80)  # all bytes of one but its first: 10…
    ends = np.cumsum(np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)))
    begins = np.concatenate([[0], ends])[:-1]
    return np.stack([character[begins] - 1, character[ends - 1]], axis=1)


@functools.cache
def _byte_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for: that of its own number where it can be printed,
    the others are numbered from U+0100 (GPT-2's: Radford et al., "Language models are unsupervised multitask learners",
    2019)."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(0x100 + number): byte for number, byte in enumerate(others)}


_shipped_lock = threading.Lock()


@functools.cache
def _shipped() -> Tokenizer:
    import zstandard

    packed = (importlib.resources.files("memodb.text") / "data" / "tokenizer.json.zst").read_bytes()
    tokenizer = Tokenizer.from_bytes(zstandard.ZstdDecompressor().decompress(packed))
    # No token has an end of line and anything else, and none depends on what follows the end of a line.
    tokenizer._of_lines = True
    return tokenizer
