"""What a tokenizer file from elsewhere may not do to the process that reads it.

The ``tokenizers`` library is written for files of one's own: some configurations make it panic (which reaches Python as
an exception that ``except Exception`` does not catch), ask for gigabytes, or encode the same text differently each
time.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator
from typing import Any

from memodb.errors import InvalidConfiguration, MemodbError

__all__ = ["raising", "require_harmless", "require_vocabulary"]

_HOLES = 1 << 20
_LARGEST = 1 << 24


@contextlib.contextmanager
def raising(kind: type[MemodbError], message: str) -> Iterator[None]:
    """Raise what the library raises, panics too, as memodb's error."""
    try:
        yield
    except MemodbError:
        raise
    except Exception as exc:  # plain Exception, whatever it is about
        raise kind(f"{message}: {exc}") from exc
    except BaseException as exc:
        if type(exc).__module__ != "pyo3_runtime":
            raise
        raise kind(f"{message}: {exc}") from exc


def require_harmless(stated: Any) -> None:
    """Refuse a configuration that the library would not survive, or that does not encode a text in one way.

    Parameters
    ----------
    stated : JSON value
        Of the whole file.

    Raises
    ------
    InvalidConfiguration
    """
    waiting = [stated]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            _require_part(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _require_part(part: dict[str, Any]) -> None:
    kind = part.get("type")
    if kind == "Precompiled":
        try:
            charsmap = base64.b64decode(part.get("precompiled_charsmap") or "", validate=True)
        except (TypeError, ValueError, binascii.Error) as exc:
            raise InvalidConfiguration("the tokenizer's precompiled normaliser is no base64") from exc
        # the library allocates what the first four bytes claim, before it looks how much is there
        if not 4 <= int.from_bytes(charsmap[:4], "little") <= len(charsmap) - 4:
            raise InvalidConfiguration("the tokenizer's precompiled normaliser claims more than it holds")
    if kind == "FixedLength" and not (isinstance(part.get("length"), int) and part["length"] >= 1):
        raise InvalidConfiguration("the tokenizer cuts a text into pieces of no length")
    if part.get("dropout"):
        raise InvalidConfiguration(
            "the tokenizer has a dropout, so that a text is encoded differently each time: set it to null"
        )


def require_vocabulary(vocabulary: dict[str, int]) -> None:
    """Refuse a vocabulary that no memory can have: empty, or with ids so large that tables of them fill the machine.

    Raises
    ------
    InvalidConfiguration
    """
    if not vocabulary:
        raise InvalidConfiguration("the tokenizer's vocabulary is empty: train it before binding it")
    largest = max(vocabulary.values())
    if largest >= min(_LARGEST, len(vocabulary) + _HOLES):
        raise InvalidConfiguration(
            f"token id {largest} is too large for a vocabulary of {len(vocabulary)}: ids must be below {_LARGEST} and "
            f"leave at most {_HOLES} of them unused"
        )
