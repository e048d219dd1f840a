"""`scan`: does anything of a text lie anywhere in the store?"""

from __future__ import annotations

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import NEGATIVE
from memodb.cli.inputs import text_input
from memodb.cli.options import Settings
from memodb.cli.output import counted, plain, table, write_json

__all__ = ["scan"]


@command(
    "scan",
    "Search every byte of the store for a text.",
    uses=("path", "json"),
    examples=(
        'memodb scan "The tide table that was deleted yesterday hung by the pier."',
        "memodb scan --file forgotten.txt --json",
    ),
)
@text_input("text")
@click.pass_context
def scan(ctx: click.Context, text: str) -> None:
    """Search every file of the store, and what its processes left in temporary places, for any 12 bytes of TEXT (or a
    file, or stdin as `-`): as UTF-8, UTF-16, hexadecimal, base64, JSON escapes, token ids, compressed or not, in rows
    and in free pages. Ask the memories for every context of it as well. First plant the text, and find it, in each
    encoding. Exits with 1 where something was found that is not also in a live document.
    """
    settings = ctx.ensure_object(Settings)
    path = opening.location(settings)
    from memodb import scanning

    report = scanning.scan(path, [text])
    if settings.json:
        write_json(report.to_dict())
    else:
        table(
            ("PLACE", "OFFSET", "BYTES", "ENCODING", "ALSO LIVE"),
            ((hit.place, hit.offset, hit.nbytes, hit.encoding, "yes" if hit.shared else "no") for hit in report.hits),
        )
        for stored in report.stored:
            click.echo(f"stored whole in {plain(stored)}")
        click.echo(
            f"searched {counted(report.files, 'file')}, {report.nbytes:,} bytes, in {len(report.encodings)} encodings, "
            f"each found where planted; {report.answered:,} of {report.asked:,} unknown contexts answered (promise: at "
            f"most {report.expected_rate:.2%}): {'nothing of it is left' if report.clean else 'FOUND'}"
        )
    if not report.clean:
        ctx.exit(NEGATIVE)
