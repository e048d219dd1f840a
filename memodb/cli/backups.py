"""`backup` and `restore`: a checked copy of the store, and a store of it again."""

from __future__ import annotations

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.options import Settings, pass_settings
from memodb.cli.output import counted, plain, write_json

__all__ = ["backup", "restore"]


@command(
    "backup",
    "Copy the store to a new directory, and check the copy.",
    uses=("path", "json", "quiet"),
    examples=("memodb backup monday.backup", "memodb backup tuesday.backup --json"),
)
@click.argument("directory")
@pass_settings
def backup(settings: Settings, directory: str) -> None:
    """Copy the store, with all its collections, to a new DIRECTORY while others use it, open the copy and compare
    everything in it with everything. Only a copy that checks clean is kept.
    """
    with opening.engine(settings) as engine:
        from memodb import backup as backups

        made = backups.backup(engine, directory)
    if settings.json:
        write_json(made.to_dict())
    elif not settings.quiet:
        click.echo(f"backed up {counted(made.documents, 'document')}, {made.nbytes:,} bytes, to {plain(made.path)}")


@command(
    "restore",
    "Make a store of a backup.",
    uses=("path", "json", "quiet"),
    examples=("memodb restore sunday.backup --path restored.memodb", "memodb restore sunday.backup --replace"),
)
@click.argument("directory")
@click.option("--replace", is_flag=True, help="Replace the store that is there, at once and for good.")
@pass_settings
def restore(settings: Settings, directory: str, replace: bool) -> None:
    """Make a store at --path of the backup in DIRECTORY: every file is compared with the backup's manifest, copied, and
    the copy checked as a store before it is put in place. What was deleted after the backup was made comes back.
    """
    path = opening.location(settings)
    import memodb

    restored = memodb.restore(directory, path, replace=replace)
    if settings.json:
        write_json(restored.to_dict())
    elif not settings.quiet:
        made = f"{restored.created_at:%Y-%m-%d %H:%M} UTC"
        click.echo(f"restored {counted(restored.documents, 'document')} of {made} to {plain(path)}")
