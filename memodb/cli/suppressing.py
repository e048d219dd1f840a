"""`suppress`: texts that are refused from now on."""

from __future__ import annotations

from datetime import datetime

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import NEGATIVE
from memodb.cli.inputs import text_input
from memodb.cli.options import RECORDS, Settings, zoned_time
from memodb.cli.output import write_json

__all__ = ["suppress"]


@command(
    "suppress",
    "Refuse a text from now on.",
    uses=(*RECORDS, "quiet"),
    examples=(
        "memodb suppress --file forgotten.txt",
        'memodb suppress "A line that nobody may store." --until 2031-01-01T00:00Z --json',
        "memodb suppress --file refused.txt --end",
    ),
)
@text_input("text")
@click.option("--until", type=zoned_time, metavar="TIME", help="ISO 8601 time from which it is allowed again.")
@click.option("--end", is_flag=True, help="Allow it again.")
@click.pass_context
def suppress(ctx: click.Context, text: str, until: datetime | None, end: bool) -> None:
    """Refuse TEXT (or a file, or stdin as `-`) on every way into the collection: append, import, restore. Copies are
    refused up to case, compatible forms of characters and white space; a text with one word changed is another text.
    Only a keyed hash of it is kept, which is printed. With --end exits with 1 where it was not suppressed.
    """
    settings = ctx.ensure_object(Settings)
    if end and until is not None:
        raise click.UsageError("--until and --end go apart: what is allowed again has no end")
    with opening.writing(settings) as db:
        if not end:
            found = db.suppress(text, until)
            if settings.json:
                write_json({"suppressed": found, "until": None if until is None else until.isoformat()})
            elif not settings.quiet:
                click.echo(found)
            return
        ended = db.end_suppression(text)
    if settings.json:
        write_json({"ended": ended})
    elif not settings.quiet:
        click.echo("allowed again" if ended else "was not suppressed")
    if not ended:
        ctx.exit(NEGATIVE)
