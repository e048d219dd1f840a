"""`get`, `list` and `export`: what is stored, as it was given."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import complain
from memodb.cli.options import READS, Settings, filter_options, output_file, pass_settings
from memodb.cli.output import (
    counted,
    json_line,
    pairs,
    plain,
    quoted,
    replacing,
    table,
    write_bytes,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    import memodb

__all__ = ["export", "get", "list_", "listed", "print_documents", "write_exported"]


@command(
    "get",
    "Print a document's provenance or text.",
    uses=READS,
    examples=("memodb get sky", "memodb get sky --text > sky.txt", "memodb get sky --tokens", "memodb get sky --json"),
)
@click.argument("document_id", metavar="ID")
@click.option("--text", "with_text", is_flag=True, help="Print the text, byte for byte, and nothing else.")
@click.option("--tokens", "with_tokens", is_flag=True, help="Print the tokens it was memorised as.")
@pass_settings
def get(settings: Settings, document_id: str, with_text: bool, with_tokens: bool) -> None:
    """Print where a document comes from, or its text, which is checked against its digest. With --json, --text and
    --tokens add the keys `text` and `tokens`.
    """
    if with_text and with_tokens and not settings.json:
        raise click.UsageError("--text and --tokens go together with --json only")
    with opening.reading(settings) as db:
        document = db.get(document_id)
        text = db.text(document_id) if with_text else None
        tokens = db.tokens(document_id).tolist() if with_tokens else None
        pieces = [] if tokens is None or settings.json else db.tokenizer.pieces(tokens)
    if settings.json:
        added = {"text": text, "tokens": tokens}
        write_json(document.to_dict() | {key: value for key, value in added.items() if value is not None})
    elif text is not None:
        write_text(text)
    elif tokens is not None:
        table(("TOKEN", "ID", "TEXT"), ((at, str(token), quoted(pieces[at])) for at, token in enumerate(tokens)))
    else:
        pairs((name.replace("_", " "), value) for name, value in _facts(document).items())


def _facts(document: memodb.Document) -> dict[str, Any]:
    return document.to_dict() | {"created_at": document.created_at, "expires_at": document.expires_at}


@command(
    "list",
    "List documents by filters.",
    uses=READS,
    examples=(
        "memodb list --limit 20",
        "memodb list --source notebook --created-after 2026-01-01T00:00Z --order oldest",
        "memodb list --metadata year=1987 --metadata place=harbour --json",
    ),
)
@filter_options
@click.option("--limit", type=click.IntRange(min=0), help="At most so many.")
@click.option(
    "--order", type=click.Choice(["newest", "oldest", "id"]), default="newest", show_default=True, help="Which first."
)
@pass_settings
def list_(settings: Settings, filters: dict[str, Any], limit: int | None, order: Any) -> None:
    """List documents that meet all filters, without their texts. --source, --subject, --writer and --batch are compared
    exactly; times need a zone, as in 2026-05-01T00:00Z; a metadata value is equal as JSON has it, so that `year=1987`
    finds the number and not the text.
    """
    with opening.reading(settings) as db:
        print_documents(settings, db.documents(limit=limit, order=order, **filters))


def listed(settings: Settings, changed: Sequence[memodb.Document]) -> None:
    """Print what a command has changed: the ids."""
    if settings.json:
        write_json([document.to_dict() for document in changed])
    elif not settings.quiet:
        for document in changed:
            click.echo(plain(document.id))


def print_documents(settings: Settings, found: Sequence[memodb.Document]) -> None:
    """Print documents without their texts."""
    if settings.json:
        write_json([document.to_dict() for document in found])
        return
    table(
        ("ID", "SOURCE", "SUBJECT", "WRITER", "TOKENS", "CREATED"),
        ((d.id, d.source, d.subject, d.writer, d.token_count, d.created_at) for d in found),
    )


@command(
    "export",
    "Write documents as JSON lines.",
    examples=(
        "memodb export > notes.jsonl",
        "memodb export --subject alice --output alice.jsonl",
        "memodb export | memodb -p copy.memodb import --format jsonl -",
    ),
)
@filter_options
@output_file
@pass_settings
def export(settings: Settings, filters: dict[str, Any], output: Path | None) -> None:
    """Write documents with their texts and provenance as JSON lines, by id: what `memodb import` reads. Each text is
    checked against its digest. With --output and --json, stdout gets a summary.
    """
    with opening.reading(settings) as db:
        write_exported(settings, db.export(**filters), output)


def write_exported(settings: Settings, exported: Iterable[dict[str, Any]], output: Path | None) -> int:
    """Write documents as JSON lines to a file, and say so, or to stdout; how many there were."""
    if output is None:
        return _write_lines(exported, sys.stdout.buffer)
    with replacing(output) as file:
        count = _write_lines(exported, file)
    if settings.json:
        write_json({"exported": count, "output": str(output)})
    elif not settings.quiet:
        complain(f"exported {counted(count, 'document')} to {output}")
    return count


def _write_lines(exported: Iterable[dict[str, Any]], stream: BinaryIO) -> int:
    count = 0
    for count, document in enumerate(exported, start=1):  # noqa: B007  # the last one is the number
        write_bytes(stream, json_line(document))
    stream.flush()
    return count
