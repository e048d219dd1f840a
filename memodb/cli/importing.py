"""`import`: files, directories and JSON lines."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import NEGATIVE, Interrupted, complain
from memodb.cli.files import STDIN, Reader, Skipped, find
from memodb.cli.options import Settings, provenance_options
from memodb.cli.output import counted, write_json
from memodb.cli.progress import Progress

if TYPE_CHECKING:
    import memodb

__all__ = ["import_"]


@command(
    "import",
    "Store files, directories, JSON lines.",
    examples=(
        "memodb import notes --glob '*.txt' --glob '*.md' --source notes",
        "memodb import notes --root notes --id-prefix 2026/",
        "memodb import corpus.jsonl --writer importer",
        "memodb export | memodb -p copy.memodb import --format jsonl -",
    ),
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True))
@click.option("--glob", "globs", multiple=True, metavar="PATTERN", help="Of directories only these files. Repeatable.")
@click.option("--hidden", is_flag=True, help="Of directories also what begins with a dot.")
@click.option(
    "--format",
    type=click.Choice(["auto", "text", "jsonl"]),
    default="auto",
    show_default=True,
    help="auto: JSON lines where the name ends in .jsonl or .ndjson, else one text a file.",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Ids of text files are their paths relative to it.",
)
@click.option("--id-prefix", default="", metavar="TEXT", help="Put before every id that a file gives.")
@provenance_options
@click.pass_context
def import_(
    ctx: click.Context,
    paths: tuple[str, ...],
    globs: tuple[str, ...],
    hidden: bool,
    format: Any,  # noqa: A002
    root: Path,
    id_prefix: str,
    provenance: dict[str, Any],
) -> None:
    """Store files, directories (walked recursively) and JSON lines (`-` for stdin, with --format jsonl). A text file is
    one document, its id the path relative to --root, or the absolute path where it lies elsewhere; files that are not
    UTF-8, too large or unreadable are skipped, named, and make the command exit with 1. A JSON line is an object with
    the key `text` and any of `id`, `source`, `subject`, `writer`, `batch`, `metadata`, `expires_at`, as `memodb export`
    writes them; the first that cannot be taken ends the import. --source and the like fill in what a line leaves out.
    Batches are durable as they go, and records that are stored already are passed over: after an interruption run it
    again. A collection that is missing is created.
    """
    settings = ctx.ensure_object(Settings)
    if STDIN in paths and format != "jsonl":
        raise click.UsageError(
            "stdin is read as JSON lines: add --format jsonl; one text is stored by `memodb append -`"
        )
    skipped: list[Skipped] = []
    store = Path(opening.location(settings))
    files = list(find(paths, globs=globs, format=format, hidden=hidden, root=root, store=store, skip=skipped.append))
    total = 0 if any(file.path is None for file in files) else sum(file.size for file in files)
    try:
        with (
            opening.writing(settings, create_collection=True) as db,
            Progress(total, quiet=settings.quiet) as progress,
        ):
            reader = Reader(files, id_prefix, provenance, skipped.append, progress.read)
            result = _store(db, reader, progress)
    finally:
        for skip in skipped:
            complain(f"skipped {skip.file}: {skip.reason}")
    _print_result(settings, result, skipped)
    if not files:
        complain("nothing to import: no file was found")
    if skipped or not files:
        ctx.exit(NEGATIVE)


def _store(db: memodb.Store, reader: Reader, progress: Progress) -> memodb.AppendResult:
    before = len(db)
    try:
        result = db.append_many(reader, progress=progress.stored)
    except KeyboardInterrupt as exc:
        # Counted, not remembered: the interrupt may have come between a batch's commit and the news of it.
        raise Interrupted(f"interrupted; new documents stored: {len(db) - before:,}. Run it again to go on") from exc
    if reader.failure is not None:
        reader.failure.add_note(f"records before it, all stored: {result.appended + result.existing:,}")
        raise reader.failure
    return result


def _print_result(settings: Settings, result: memodb.AppendResult, skipped: list[Skipped]) -> None:
    if settings.json:
        write_json(asdict(result) | {"skipped": [asdict(skip) for skip in skipped]})
    elif not settings.quiet:
        known = f", {result.existing:,} stored already" if result.existing else ""
        left = f", {counted(len(skipped), 'file')} skipped" if skipped else ""
        click.echo(
            f"imported {counted(result.appended, 'document')} with {counted(result.tokens, 'token')}{known}{left}"
        )
