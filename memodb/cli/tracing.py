"""`trace`: which documents hold which spans of a text."""

from __future__ import annotations

from dataclasses import asdict

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.inputs import text_input
from memodb.cli.options import READS, Settings, pass_settings
from memodb.cli.output import quoted, table, write_json

__all__ = ["trace"]


@command(
    "trace",
    "Find the documents that hold a text.",
    uses=READS,
    examples=(
        'memodb trace "They say the sky over the harbour was the colour of slate."',
        "memodb trace --file notes/harbour.txt --min-tokens 12 --json",
        "cat notes/harbour.txt | memodb trace -",
    ),
)
@text_input("text")
@click.option("--min-tokens", type=int, help="Shortest span, at least the store's window.  [default: 8]")
@pass_settings
def trace(settings: Settings, text: str, min_tokens: int | None) -> None:
    """Print the spans of TEXT (or a file, or stdin as `-`) that documents hold token for token, as half-open character
    ranges, and those documents with the character each span begins at there (id@offset). Complete and exact: what is
    not printed is in no document. Where there is no span nothing is printed.
    """
    with opening.reading(settings) as db:
        spans = db.trace(text, min_tokens)
    if settings.json:
        write_json([asdict(span) for span in spans])
        return
    table(
        ("START", "END", "TOKENS", "DOCUMENTS", "TEXT"),
        (
            (
                span.start,
                span.end,
                span.tokens,
                " ".join(f"{source.id}@{source.offset}" for source in span.documents),
                quoted(span.text),
            )
            for span in spans
        ),
    )
