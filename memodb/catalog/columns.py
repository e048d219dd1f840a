"""Column types: what Python hands over, what the database holds, and the check in both directions.

SQLite columns hold any type whatever they declare, so every ``process_result_value`` treats its input as hostile.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from memodb.errors import CorruptStore, InvalidInput

__all__ = [
    "MAX_IDENTIFIER_BYTES",
    "MAX_JSON_BYTES",
    "CanonicalJson",
    "UtcMicroseconds",
    "aware",
    "canonical_json",
    "identifier",
]

MAX_IDENTIFIER_BYTES: Final = 4096
MAX_JSON_BYTES: Final = 1 << 20
_MAX_JSON_DEPTH: Final = 64
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def identifier(value: object, what: str) -> str:
    """`value` if it can name something: a non-empty string that every layer reads alike.

    NUL is refused because SQLite's JSON functions cut a string there: ``"a\\0b"`` would select ``"a"``.

    Raises
    ------
    InvalidInput
        Not a string, empty, longer than `MAX_IDENTIFIER_BYTES` in UTF-8, or with NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be a string, not {type(value).__name__}")
    if not value or "\0" in value:
        raise InvalidInput(f"{what} must be neither empty nor contain NUL: {value[:80]!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as exc:
        raise InvalidInput(f"{what} holds a lone surrogate: {value[:80]!r}") from exc
    if size > MAX_IDENTIFIER_BYTES:
        raise InvalidInput(f"{what} is {size} bytes long; the limit is {MAX_IDENTIFIER_BYTES}: {value[:80]!r}...")
    return value


def aware(value: object, what: str) -> datetime:
    """`value` in UTC.

    Raises
    ------
    InvalidInput
        Not a datetime, or without a timezone: guessing one would move expiry and retention by hours.
    """
    if not isinstance(value, datetime):
        raise InvalidInput(f"{what} must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise InvalidInput(f"{what} has no timezone: {value.isoformat()}; add one, for example tzinfo=datetime.UTC")
    try:
        return value.astimezone(UTC)
    except OverflowError as exc:
        raise InvalidInput(f"{what} lies outside the years 1 to 9999 in UTC: {value.isoformat()}") from exc


def canonical_json(value: object, what: str = "value") -> str:
    """The one spelling of a JSON value: ASCII, keys sorted, no spaces; equal values have equal texts.

    Raises
    ------
    InvalidInput
        Anything JSON would change on the way (keys that are not strings, tuples, NaN, lone surrogates, other types),
        nesting deeper than 64, or a text longer than `MAX_JSON_BYTES`.
    """
    _require_json(value, what, 0)
    try:
        text = _ENCODER.encode(value)
    except ValueError as exc:  # an integer of thousands of digits
        raise InvalidInput(f"{what} cannot be written as JSON: {exc}") from exc
    if len(text) > MAX_JSON_BYTES:
        raise InvalidInput(f"{what} is {len(text)} bytes of JSON; the limit is {MAX_JSON_BYTES}")
    return text


def _require_json(value: object, what: str, depth: int) -> None:
    if depth > _MAX_JSON_DEPTH:
        raise InvalidInput(f"{what} is nested deeper than {_MAX_JSON_DEPTH}")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInput(f"{what} holds a lone surrogate: {value[:80]!r}") from exc
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInput(f"{what} has a key that is not a string: {key!r}")
            _require_json(key, what, depth)
            _require_json(item, what, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _require_json(item, what, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(f"{what} holds {value!r}, which JSON has no word for")
    elif value is not None and not isinstance(value, int):
        raise InvalidInput(
            f"{what} holds a {type(value).__name__}; JSON has strings, numbers, booleans, lists, objects"
        )


class UtcMicroseconds(TypeDecorator[datetime]):
    """Aware datetime <-> whole microseconds since 1970 in UTC.

    An integer rather than ISO text: 8 bytes instead of 27 in the row and in each index, and no second spelling of an
    instant that would compare wrongly.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (aware(value, "datetime") - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        try:
            return _EPOCH + timedelta(microseconds=value)
        except (OverflowError, TypeError) as exc:
            raise CorruptStore(f"a stored time is damaged: {value!r}") from exc


class CanonicalJson(TypeDecorator[Any]):
    """JSON value <-> text of `canonical_json`; read back as fresh objects. Python ``None`` is JSON ``null``."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> str:
        return canonical_json(dict(value) if isinstance(value, Mapping) else value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any:
        try:
            return json.loads(value)  # type: ignore[arg-type]  # a damaged row holds anything: TypeError below
        except (ValueError, TypeError, RecursionError) as exc:
            raise CorruptStore(f"stored JSON is damaged: {exc}") from exc
