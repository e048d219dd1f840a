"""`backup`, `backups` and `restore`: a checked copy of the store, which copies there are, and a store of one again."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import complain
from memodb.cli.options import Settings, pass_settings, zoned_time
from memodb.cli.output import counted, plain, table, write_json
from memodb.errors import StoreLocked

if TYPE_CHECKING:
    from memodb.opening import Engine

__all__ = ["backup", "backups", "restore"]

_STORE = ("path", "ledger", "actor", "json", "quiet")


@command(
    "backup",
    "Copy the store to a new directory, and check the copy.",
    uses=_STORE,
    examples=("memodb backup monday.backup", "memodb backup tuesday.backup --keep-until 2031-01-01T00:00Z --json"),
)
@click.argument("directory")
@click.option("--keep-until", type=zoned_time, metavar="TIME", help="When it will be destroyed; receipts tell it.")
@pass_settings
def backup(settings: Settings, directory: str, keep_until: datetime | None) -> None:
    """Copy the store, with all its collections, to a new DIRECTORY while others use it, open the copy and compare
    everything in it with everything. Only a copy that checks clean is kept. The store remembers it, so that receipts of
    later deletions tell of it; where another process has it open for writing, tell it with `memodb backups --taken`.
    """
    with _writing_if_possible(settings) as engine:
        from memodb import backup as making

        made, remembered = making.backup(engine, directory, keep_until=keep_until), not engine.read_only
    if settings.json:
        write_json(made.to_dict() | {"remembered": remembered})
    elif not settings.quiet:
        click.echo(f"backed up {counted(made.documents, 'document')}, {made.nbytes:,} bytes, to {plain(made.path)}")
        click.echo(f"backup {made.id}: when it is gone, say so with `memodb backups --destroyed ID`")
    if not remembered:
        complain(
            "another process has the store open for writing, so the store does not remember this backup, and receipts "
            f"do not tell of it: say so later with `memodb backups --taken {made.path}`"
        )


def _writing_if_possible(settings: Settings) -> Engine:
    try:
        return opening.engine(settings, read_only=False)
    except StoreLocked:
        return opening.engine(settings)


@command(
    "backups",
    "List the backups that were taken.",
    uses=_STORE,
    examples=(
        "memodb backups",
        "memodb backups --json",
        "memodb backups --destroyed 1b7d35e6c2f04a8995d3a1c8e4f60b72",
        "memodb backups --taken saturday.backup --keep-until 2031-01-01T00:00Z",
    ),
)
@click.option("--destroyed", metavar="ID", help="Record that this one is no more, and sign again what told of it.")
@click.option("--taken", metavar="DIRECTORY", help="Record this one, which was taken while another process wrote.")
@click.option("--keep-until", type=zoned_time, metavar="TIME", help="With --taken: when it will be destroyed.")
@pass_settings
def backups(settings: Settings, destroyed: str | None, taken: str | None, keep_until: datetime | None) -> None:
    """List the backups that the store remembers, the oldest first, and when each was to be destroyed and was. With
    --destroyed say that one is no more: memodb cannot see it, and takes your word, which the audit log keeps.
    """
    if destroyed is not None and taken is not None:
        raise click.UsageError("--destroyed and --taken go apart: each tells of one backup")
    if keep_until is not None and taken is None:
        raise click.UsageError("--keep-until needs --taken: what was said of another backup stays")
    from memodb.catalog import history

    with opening.engine(settings, read_only=destroyed is None and taken is None) as engine:
        with engine.catalog.read() as session:
            before = history.backups(session)
        if destroyed is not None:
            from memodb.erasure import destroy_backup

            destroy_backup(engine.audit, engine.collections(), destroyed)
        if taken is not None:
            from memodb.backup import record_backup

            record_backup(engine, taken, keep_until)
        with engine.catalog.read() as session:
            found = history.backups(session)
    if destroyed is not None or taken is not None:  # what changed
        found = [each for each in found if each not in before]
    if settings.json:
        times = ("created_at", "keep_until", "destroyed_at")
        write_json(
            [
                {"id": each.id} | {name: at and at.isoformat() for name in times for at in (getattr(each, name),)}
                for each in found
            ]
        )
    elif not settings.quiet or (destroyed is None and taken is None):
        table(
            ("BACKUP", "TAKEN", "KEPT UNTIL", "DESTROYED"),
            ((each.id, each.created_at, each.keep_until, each.destroyed_at) for each in found),
        )


@command(
    "restore",
    "Make a store of a backup.",
    uses=("path", "ledger", "json", "quiet"),
    examples=(
        "memodb restore sunday.backup --replace",
        "memodb restore sunday.backup --path restored.memodb --ledger store/ledger",
        "memodb restore sunday.backup --path restored.memodb --without-ledger",
    ),
)
@click.argument("directory")
@click.option("--replace", is_flag=True, help="Replace the store that is there, at once and for good.")
@click.option(
    "--without-ledger", is_flag=True, help="Restore without the ledger: what was erased since COMES BACK; last resort."
)
@pass_settings
def restore(settings: Settings, directory: str, replace: bool, without_ledger: bool) -> None:
    """Make a store at --path of the backup in DIRECTORY: every file is compared with the backup's manifest, copied, and
    the copy checked as a store before it is put in place. What was erased, held, set aside or suppressed since the
    backup was made is told by the ledger, that of the store to replace or the one at --ledger, and carried out again;
    without a ledger, or with one that is older than the backup, nothing is restored.
    """
    path = opening.location(settings)
    import memodb

    restored = memodb.restore(directory, path, ledger=settings.ledger, without_ledger=without_ledger, replace=replace)
    if settings.json:
        write_json(restored.to_dict())
    elif not settings.quiet:
        made = f"{restored.created_at:%Y-%m-%d %H:%M} UTC"
        click.echo(f"restored the backup of {made}, {counted(restored.documents, 'document')}, to {plain(path)}")
        if not without_ledger:
            click.echo("what its ledger tells of since was carried out again")
    if without_ledger:
        complain("restored without a ledger: what was erased since the backup was made is back")
