"""One spelling for every value that is signed or hashed, and a reader of JSON that takes no other.

What two programs spell differently they also sign differently, so signed values keep to a part of JSON that has one
canonical form: I-JSON (RFC 7493) without fractions, with sorted keys, without spaces, in ASCII.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from memodb.errors import InvalidInput

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "base64_bytes",
    "canonical",
    "fields",
    "hex_bytes",
    "moment",
    "parse",
    "quoted",
    "timestamp",
]

MAX_DOCUMENT_BYTES: Final = 1 << 26
"""Receipts larger than this (about 1.8 million documents) are refused unread."""

_MAX_INTEGER: Final = (1 << 53) - 1  # RFC 7493 section 2.2: what every reader of JSON keeps exactly
_MAX_DEPTH: Final = 16
_MAX_VALUES: Final = 1 << 22
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value: keys sorted by code point, no spaces, ASCII.

    Raises
    ------
    InvalidInput
        A float, an integer beyond 2^53 - 1, a key that is no text, a lone surrogate, another type, or containers
        nested deeper than 16: other programs would read or write these differently.
    """
    _require_plain(value, 0)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def _require_plain(value: Any, depth: int) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInput("a text with a lone surrogate has no canonical spelling") from exc
    elif isinstance(value, dict | list | tuple):
        if depth == _MAX_DEPTH:
            raise InvalidInput(f"values nested deeper than {_MAX_DEPTH} have no canonical spelling")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise InvalidInput(f"a key must be a text, not {type(key).__name__}")
                _require_plain(key, depth + 1)
        for item in value.values() if isinstance(value, dict) else value:
            _require_plain(item, depth + 1)
    elif isinstance(value, int) and not -_MAX_INTEGER <= value <= _MAX_INTEGER:
        raise InvalidInput("an integer beyond 2^53 - 1 has no canonical spelling")
    elif value is not None and not isinstance(value, int):
        raise InvalidInput(f"{type(value).__name__} has no canonical spelling")


def parse(data: bytes, *, limit: int = MAX_DOCUMENT_BYTES) -> Any:
    """A JSON value, read strictly.

    Raises
    ------
    InvalidInput
        Not UTF-8, not JSON, larger than the limit in bytes or with more than four million values, a key that an
        object has twice (readers differ in which one they take), or a fraction.
    """
    if len(data) > limit:
        raise InvalidInput(f"more than {limit:,} bytes")
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_VALUES:  # before the values take a hundred bytes each
        raise InvalidInput(f"more than {_MAX_VALUES:,} values")
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_float=_fraction, parse_constant=_fraction
        )
    except InvalidInput:
        raise
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"not UTF-8 at byte {exc.start:,}") from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"not JSON: {str(exc)[:120]}") from exc


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidInput(f"the field {quoted(key)} stands twice in an object")
        found[key] = value
    return found


def _fraction(text: str) -> Any:
    raise InvalidInput(f"the number {text[:40]} is no integer")


def quoted(text: str) -> str:
    """A text of unknown origin for a message: short, ASCII, no control characters."""
    return ascii(text if len(text) <= 64 else f"{text[:61]}...")


def fields(value: Any, names: set[str], where: str) -> Mapping[str, Any]:
    """An object with exactly these fields.

    Raises
    ------
    InvalidInput
        It is none, lacks one, or has another: what nobody reads is a place to hide something in.
    """
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is no object")
    for name in sorted(names - value.keys()):
        raise InvalidInput(f"{where} lacks the field {name!r}")
    for name in value.keys() - names:
        raise InvalidInput(f"{where} has the unknown field {quoted(str(name))}")
    return value


def hex_bytes(value: Any, length: int, where: str) -> bytes:
    """Bytes from lower-case hexadecimal; InvalidInput where it is another spelling or another length."""
    if not isinstance(value, str) or len(value) != 2 * length or _HEX.fullmatch(value) is None:
        raise InvalidInput(f"{where} is not {2 * length} lower-case hexadecimal digits")
    return bytes.fromhex(value)


def base64_bytes(value: Any, length: int, where: str) -> bytes:
    """Bytes from base64 (RFC 4648 section 4, padded); InvalidInput where it is another spelling or length."""
    if isinstance(value, str) and len(value) == 4 * ((length + 2) // 3):
        try:
            found = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            found = b""
        # the last digit has bits to spare, which the decoder ignores
        if len(found) == length and base64.b64encode(found).decode("ascii") == value:
            return found
    raise InvalidInput(f"{where} is not {length} bytes in canonical base64")


def timestamp(time: datetime) -> str:
    """The one spelling of a moment: ISO 8601, UTC, microseconds, ``+00:00``.

    Raises
    ------
    InvalidInput
        It has no time zone.
    """
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise InvalidInput(f"{time!r} is no time with a zone")
    try:
        return time.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError as exc:
        raise InvalidInput(f"{time!r} cannot be expressed in UTC") from exc


def moment(value: Any) -> datetime | None:
    """The moment that an ISO 8601 text with a zone names; None where it is no such text."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        time = datetime.fromisoformat(value)
        return None if time.utcoffset() is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
