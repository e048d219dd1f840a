"""Text to token ids and back, exactly: what goes in comes out character for character, or is refused.

``Tokenizer`` wraps a `tokenizers` JSON and keeps the bytes it was made from, so that a store can bind them by digest.
``Tokenizer.shipped()`` is the byte-level BPE that comes with the package; its data is read at first use, not at import.
"""

from memodb.text.tokenizer import MAX_TEXT_CHARACTERS, Tokenizer, check_text

__all__ = ["MAX_TEXT_CHARACTERS", "Tokenizer", "check_text"]
