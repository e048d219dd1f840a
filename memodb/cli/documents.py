"""`get`, `list` and `export`: what is stored, as it was given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import complain
from memodb.cli.options import Settings, filter_options, pass_settings
from memodb.cli.output import counted, json_line, pairs, quoted, replacing, table, write_bytes, write_json, write_text

if TYPE_CHECKING:
    import memodb

__all__ = ["export", "get", "list_"]


@command(
    "get",
    "Print a document's provenance or text.",
    uses=("path", "collection", "json"),
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
    uses=("path", "collection", "json"),
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
    """List documents that meet all filters, without their texts. --source, --subject and --writer are compared exactly;
    times need a zone, as in 2026-05-01T00:00Z; a metadata value is equal as JSON has it, so that `year=1987` finds the
    number and not the text.
    """
    with opening.reading(settings) as db:
        found = db.documents(limit=limit, order=order, **filters)
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
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, which is replaced when all is written.",
)
@pass_settings
def export(settings: Settings, filters: dict[str, Any], output: Path | None) -> None:
    """Write documents with their texts and provenance as JSON lines, by id: what `memodb import` reads. Each text is
    checked against its digest. With --output and --json, stdout gets a summary.
    """
    with opening.reading(settings) as db:
        if output is None:
            _write_lines(db, filters, sys.stdout.buffer)
            return
        with replacing(output) as file:
            count = _write_lines(db, filters, file)
    if settings.json:
        write_json({"exported": count, "output": str(output)})
    elif not settings.quiet:
        complain(f"exported {counted(count, 'document')} to {output}")


def _write_lines(db: memodb.Store, filters: dict[str, Any], stream: BinaryIO) -> int:
    count = 0
    for count, document in enumerate(db.export(**filters), start=1):  # noqa: B007  # the last one is the number
        write_bytes(stream, json_line(document))
    stream.flush()
    return count
