"""`scan`: does anything of a text lie anywhere in the store? and: is what a receipt states still true of it?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import NEGATIVE
from memodb.cli.inputs import read_text
from memodb.cli.options import Settings
from memodb.cli.output import counted, plain, table, write_json
from memodb.cli.receipts import parsed

if TYPE_CHECKING:
    from memodb.scanning import ReceiptScan, ScanReport

__all__ = ["scan"]

_MARK = '"memodb receipt '
"""What every receipt begins with, and the page of one. What has it is never taken for a text to search for: a receipt
that is damaged would else be searched for as a text, not be found, and look as if all were well."""


@command(
    "scan",
    "Search every byte of the store for what was deleted.",
    uses=("path", "ledger", "json"),
    examples=(
        'memodb scan --for "The tide table that was deleted yesterday hung by the pier."',
        "memodb scan store --file forgotten.txt --json",
        "memodb scan --for receipt-17.json",
        "cat forgotten.txt | memodb scan --file -",
    ),
)
@click.argument("store", required=False)
@click.option("--for", "wanted", metavar="TEXT|RECEIPT", help="A text, or a file that holds a receipt.")
@click.option("--file", "file", metavar="FILE", help="A file that holds a text or a receipt; - for stdin.")
@click.pass_context
def scan(ctx: click.Context, store: str | None, wanted: str | None, file: str | None) -> None:
    """Search every file of STORE (or --path), and what its processes left in temporary places, for any 12 bytes of a
    text: as UTF-8, UTF-16, hexadecimal, base64, JSON escapes, token ids, compressed or not, in rows and in free pages.
    Ask the memories for every context of it as well. First plant the text, and find it, in each encoding. Of a receipt,
    JSON or page, look again whether what it states is still true of the store. Exits with 1 where something was found
    that is not also in a live document.
    """
    settings = ctx.ensure_object(Settings)
    settings.path = store or settings.path
    path = opening.location(settings)
    if (wanted is None) == (file is None):
        raise click.UsageError("give either --for with a text or a receipt, or --file")
    text = _given(wanted, file)
    from memodb import scanning

    if _MARK in text:
        checked = scanning.scan_receipt(path, parsed(text.encode()), ledger=settings.ledger)
        _print_checked(settings, checked)
        clean = checked.clean
    else:
        report = scanning.scan(path, [text], ledger=settings.ledger)
        _print_report(settings, report)
        clean = report.clean
    if not clean:
        ctx.exit(NEGATIVE)


def _given(wanted: str | None, file: str | None) -> str:
    """The text to search for, or of the receipt."""
    if file == "-":
        return read_text(sys.stdin.buffer, "stdin")
    if file is not None:
        return _read(Path(file))
    text = wanted or ""
    try:
        names_file = Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return text
    if not names_file:
        return text
    found = _read(Path(text))
    if _MARK not in found:
        # A guess could go wrong both ways: the name is searched for, not found, and the text in the file believed gone.
        raise click.UsageError(f"{text!r} is a file without a receipt: search for the text in it with --file")
    return found


def _read(file: Path) -> str:
    with file.open("rb") as stream:
        return read_text(stream, str(file))


def _print_report(settings: Settings, report: ScanReport) -> None:
    if settings.json:
        write_json(report.to_dict())
        return
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


def _print_checked(settings: Settings, checked: ReceiptScan) -> None:
    if settings.json:
        write_json(checked.to_dict())
        return
    for line in checked.checked:
        click.echo(f"checked: {plain(line)}")
    for line in checked.findings:
        click.echo(f"found: {plain(line)}")
    click.echo("what the receipt states is true of the store" if checked.clean else "NOT TRUE of the store")
