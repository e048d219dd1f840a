"""Which documents are meant: one frozen description, and its translation to SQL."""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias

from sqlalchemy import ColumnElement, Text, bindparam, func, literal, select

from memodb.catalog.columns import aware, canonical_json, identifier
from memodb.catalog.models import Document
from memodb.catalog.visibility import Scope, scoped
from memodb.errors import InvalidInput

__all__ = ["AMONG", "FUNCTION_NAME", "Filters", "Scalar", "among", "conditions", "listed", "metadata_has"]

Scalar: TypeAlias = str | int | float | bool | None
FUNCTION_NAME: Final = "memodb_metadata_has"
_EXACT: Final = ("source", "subject", "writer", "batch")
_TIMES: Final = ("created_before", "created_after", "expires_before")


@dataclass(frozen=True)
class Filters:
    """Conditions that a document must all meet; ``None`` asks nothing.

    Parameters
    ----------
    ids : strings
        The document's id is one of them. An empty tuple matches no document.
    source, subject, writer, batch : str
        Exactly this string.
    created_before, created_after : aware datetime
        ``created_at < created_before``; ``created_at >= created_after``.
    expires_before : aware datetime
        Has an expiry, and it is earlier.
    metadata : mapping of key to JSON scalar
        Each key stands at the top of the document's metadata with this value, equal as JSON has it: strings, numbers,
        booleans and null are never equal to each other, numbers compare by value (1 is 1.0), and null matches an
        explicit null, never an absent key.
    scope : Scope
        Visible documents unless said otherwise.
    at : datetime
        Visible then, instead of now: for a read that asks more than once.

    Raises
    ------
    InvalidInput
        A value that no document could have: wrong type, naive datetime, a single string as ids.
    """

    ids: tuple[str, ...] | None = None
    source: str | None = None
    subject: str | None = None
    writer: str | None = None
    batch: str | None = None
    created_before: datetime | None = None
    created_after: datetime | None = None
    expires_before: datetime | None = None
    metadata: Mapping[str, Scalar] | None = None
    scope: Scope = Scope.VISIBLE
    at: datetime | None = None

    def __post_init__(self) -> None:
        if self.ids is not None:
            self._set("ids", _identifiers(self.ids))
        for name in _EXACT:
            if getattr(self, name) is not None:
                identifier(getattr(self, name), name)
        for name in _TIMES:
            if getattr(self, name) is not None:
                self._set(name, aware(getattr(self, name), name))
        if self.metadata is not None:
            self._set("metadata", _scalars(self.metadata))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def build(cls, scope: Scope = Scope.VISIBLE, /, **conditions: Any) -> Self:
        """Filters from keyword arguments, as a caller of ``documents(**filters)`` wrote them; which documents they are
        about is not the caller's to say.

        Raises
        ------
        InvalidInput
            A name that is no filter, with the list of those that are; or a value as the class says.
        """
        allowed = [field.name for field in fields(cls) if field.name not in ("scope", "at")]
        unknown = sorted(set(conditions) - set(allowed))
        if unknown:
            raise InvalidInput(f"unknown filter {', '.join(map(repr, unknown))}; the filters are: {', '.join(allowed)}")
        return cls(**conditions, scope=scope)

    @property
    def is_empty(self) -> bool:
        """Whether every document matches, so that a deletion by it would empty the collection.

        ``ids=()`` is not empty in this sense: it matches nothing.
        """
        return self.ids is None and self.names_only

    @property
    def names_only(self) -> bool:
        """Whether a document of the scope matches by its id, if ids are given, and by nothing else."""
        return all(getattr(self, name) is None for name in _EXACT + _TIMES) and not self.metadata


def _identifiers(ids: object) -> tuple[str, ...]:
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
        raise InvalidInput(f"ids must be several strings, not {ids!r}; for one id write ids=({ids!r},)")
    return tuple(identifier(item, "document id") for item in ids)


def _scalars(metadata: object) -> Mapping[str, Scalar]:
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"metadata must be a mapping of keys to scalars, not {type(metadata).__name__}")
    for key, value in metadata.items():
        if not isinstance(value, str | int | float | None):
            raise InvalidInput(f"metadata filter {key!r} must be a string, number, boolean or None, not {value!r}")
    canonical_json(dict(metadata), "the metadata filter")
    return MappingProxyType(dict(metadata))


def among(ids: Iterable[str]) -> ColumnElement[bool]:
    """SQL: the document's id is one of `ids`. One parameter whatever their number, where IN would meet SQLite's limit.

    The ids must be `identifier`\\ s: ``json_each`` cuts a string at NUL.
    """
    return _among(literal(listed(ids), Text))


def listed(ids: Iterable[str]) -> str:
    """What the parameter ``ids`` of `AMONG` is for these."""
    return json.dumps(list(ids), ensure_ascii=False)


def _among(ids: ColumnElement[str]) -> ColumnElement[bool]:
    return Document.id.in_(select(func.json_each(ids).table_valued("value").c.value))


AMONG: Final = _among(bindparam("ids", type_=Text))
"""As `among`, for statements that are built once: building one takes several times as long as running it."""


def conditions(collection_id: str, filters: Filters) -> list[ColumnElement[bool]]:
    """SQL conditions, all of which a document of the collection that matches `filters` meets."""
    found = [Document.collection_id == collection_id]
    if filters.ids is not None:
        found.append(among(filters.ids))
    found += [getattr(Document, name) == value for name in _EXACT if (value := getattr(filters, name)) is not None]
    if filters.created_before is not None:
        found.append(Document.created_at < filters.created_before)
    if filters.created_after is not None:
        found.append(Document.created_at >= filters.created_after)
    if filters.expires_before is not None:
        found.append(Document.expires_at < filters.expires_before)
    found.append(scoped(filters.scope, filters.at))
    for key, value in (filters.metadata or {}).items():
        found += _metadata_conditions(key, value)
    return found


def _metadata_conditions(key: str, value: Scalar) -> list[ColumnElement[bool]]:
    # json_extract was rejected: its path language cannot name every key, it cuts strings at NUL and rounds integers
    # above 2**63. The search for the member's text only thins out the rows for which Python must decide: it may find
    # the member inside a nested object, but cannot miss it, since canonical JSON spells equal values alike (numbers
    # apart).
    member = canonical_json(key) + ":"
    if not isinstance(value, int | float) or isinstance(value, bool):
        member += canonical_json(value)
    wanted = canonical_json([key, value])
    return [
        func.instr(Document.metadata_, literal(member, Text)) > 0,
        getattr(func, FUNCTION_NAME)(Document.metadata_, literal(wanted, Text)) == 1,
    ]


def metadata_has(stored: str, wanted: str) -> bool:
    """The SQL function: whether the JSON object `stored` has the member that the JSON pair `wanted` describes."""
    key, value = _pair(wanted)
    found = json.loads(stored)
    return key in found and _same(found[key], value)


@functools.lru_cache(maxsize=64)
def _pair(wanted: str) -> tuple[str, Scalar]:
    key, value = json.loads(wanted)
    return key, value


def _same(one: object, other: Scalar) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):  # before numbers: Python's True is 1
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and one == other
