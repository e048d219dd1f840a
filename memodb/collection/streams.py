"""Streams of records: in, by batches of bounded size, each committed and told of; and out again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memodb.catalog import Filters, documents
from memodb.collection.collection import Collection
from memodb.collection.records import Document, Record, opaque_id
from memodb.errors import InvalidInput, MemodbError
from memodb.text import check_text

__all__ = ["AppendResult", "append_many", "export"]

_CHARACTERS, _RECORDS = (1 << 20, 1 << 23), (1 << 11, 1 << 14)
"""Fewest and most of a batch."""
_SHARE = 4
"""A batch has this part of what the stream has stored, between these: a segment grows with nearly every batch, and is
memorised anew; in batches of one size, that would take as long as the square of the stream's."""
_EXPORTED_AT_ONCE = 256


@dataclass(frozen=True)
class AppendResult:
    """What :meth:`memodb.Store.append_many` stored so far.

    Parameters
    ----------
    appended : int
        New documents.
    existing : int
        Records whose id, text and provenance were stored already.
    tokens : int
        Tokens of the new documents.
    characters : int
        Characters of all records.
    """

    appended: int = 0
    existing: int = 0
    tokens: int = 0
    characters: int = 0


def append_many(
    collection: Collection, records: Iterable[Any], progress: Callable[[AppendResult], None] | None
) -> AppendResult:
    """Append a stream of records: see :meth:`memodb.Store.append_many`."""
    if isinstance(records, str | Mapping | Record):  # a mapping would be read as the texts of its keys
        raise InvalidInput("append_many takes several records; for one call append(text, ...)")
    result = AppendResult()
    batch: list[Record] = []
    size = 0
    stream = iter(records)
    delivery = opaque_id()
    for number in itertools.count(1):
        try:
            record = Record.of(next(stream))
            check_text(record.text)
        except StopIteration:
            break
        except Exception as exc:  # a bad record, or the caller's iterable failed: what came before is stored
            result = _flush(collection, batch, delivery, result)
            exc.add_note(_stored(number, result))
            raise
        batch.append(record)
        size += len(record.text)
        if size >= _enough(result.characters, _CHARACTERS) or len(batch) >= _enough(result.appended, _RECORDS):
            result = _flush(collection, batch, delivery, result)
            batch, size = [], 0
            if progress is not None:
                progress(result)
    if batch:
        result = _flush(collection, batch, delivery, result)
        if progress is not None:
            progress(result)
    return result


def _enough(stored: int, bounds: tuple[int, int]) -> int:
    """Characters, or records, of the next batch, by those that the stream has stored."""
    fewest, most = bounds
    return min(max(fewest, stored // _SHARE), most)


def _stored(number: int, result: AppendResult) -> str:
    return f"at record {number}; stored before it: {result.appended + result.existing}"


def _flush(collection: Collection, batch: list[Record], delivery: str, result: AppendResult) -> AppendResult:
    """Commit a batch. Where one of its records is refused, those before it are stored and the error goes on."""
    refused: MemodbError | None = None
    stored = []
    with collection.joined() as (transaction, _):
        try:
            stored = transaction.append(batch, delivery)
        except MemodbError as exc:
            refused = exc
            for record in batch:
                try:
                    stored += transaction.append([record], delivery)
                except MemodbError as first:
                    refused = first
                    break
    new = [document for document, is_new in stored if is_new]
    result = AppendResult(
        result.appended + len(new),
        result.existing + len(stored) - len(new),
        result.tokens + sum(document.token_count for document in new),
        result.characters + sum(len(record.text) for record in batch[: len(stored)]),
    )
    if refused is not None:
        refused.add_note(_stored(result.appended + result.existing + 1, result))
        raise refused
    return result


def export(collection: Collection, filters: Filters) -> Iterator[dict[str, Any]]:
    """Documents with their texts, by id: see :meth:`memodb.Store.export`."""
    with collection.catalog.read() as session:
        ids = documents.select_ids(session, collection.id, filters)
    for at in range(0, len(ids), _EXPORTED_AT_ONCE):
        group = tuple(ids[at : at + _EXPORTED_AT_ONCE])
        texts = collection.texts(group)
        with collection.catalog.read() as session:
            rows = list(documents.select(session, collection.id, Filters(ids=group), order="id"))
        for row in rows:
            if row.id in texts:
                yield {**Document.of(collection.name, row).to_dict(), "text": texts[row.id]}
