"""Opening the store that the settings name. The library is imported here, when a command runs, and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from memodb.cli.options import Settings
from memodb.errors import CollectionNotFound, StoreNotFound

if TYPE_CHECKING:
    import memodb
    from memodb.opening import Engine

__all__ = ["collections", "create", "engine", "location", "reading", "writing"]


def location(settings: Settings) -> str:
    """The path of the store; a usage error where none is given."""
    if settings.path is None:
        raise click.UsageError("no store is named: give --path PATH, or set the environment variable MEMODB_PATH")
    if settings.path == ":memory:":
        raise click.UsageError("a store in memory would end with the command: name a directory with --path")
    return settings.path


def reading(settings: Settings) -> memodb.Store:
    """The store for reading: takes no lock, so it opens while another process writes."""
    path = location(settings)  # before the import: a mistake is told at once
    import memodb

    return memodb.connect(path, **_who(settings), create=False, read_only=True)


def _who(settings: Settings) -> dict[str, Any]:
    """What every opening is told of the settings."""
    return {"collection": settings.collection, "ledger": settings.ledger, "actor": settings.actor}


def engine(settings: Settings, *, read_only: bool = True) -> Engine:
    """The existing store without a handle on one of its collections, which would have to name one that exists."""
    path = location(settings)
    from memodb.opening import Options, open_engine

    options = Options(create=False, read_only=read_only, ledger=settings.ledger, actor=settings.actor)
    return open_engine(path, options)


def collections(settings: Settings) -> list[memodb.CollectionInfo]:
    """Every collection of the store."""
    with engine(settings) as opened:
        from memodb import statistics

        return statistics.collections(opened.catalog)


def writing(settings: Settings, *, create_collection: bool = False) -> memodb.Store:
    """The existing store for writing. A path mistyped must not become a new store: only `create` makes one."""
    path = location(settings)
    import memodb

    try:
        return memodb.connect(path, **_who(settings), create=False)
    except CollectionNotFound:
        if not create_collection:
            raise
    return memodb.connect(path, **_who(settings))


def create(settings: Settings, **configuration: Any) -> tuple[memodb.Store, bool]:
    """The store, made where it is missing as its collection is; and whether one of the two was.

    Raises
    ------
    StoreMismatch
        It exists with other settings.
    """
    path = location(settings)
    import memodb

    try:
        return memodb.connect(path, **_who(settings), create=False, **configuration), False
    except (StoreNotFound, CollectionNotFound):
        return memodb.connect(path, **_who(settings), **configuration), True
