"""`erasures`, `receipt get` and `receipt key`: deletions as the store knows them afterwards, and their proof."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.deleting import signed_bytes
from memodb.cli.failures import complain
from memodb.cli.options import READS, RECORDS, Settings, output_file, pass_settings
from memodb.cli.output import replacing, table, write_json, write_text
from memodb.cli.receipts import receipt
from memodb.errors import ReadOnlyStore

__all__ = ["DONE", "erasures", "get", "key"]

DONE: Final = frozenset({"verified", "backups_pending", "backups_purged"})
"""States of a deletion that was verified, whatever is known of backups."""


@command(
    "erasures",
    "List deletions and how far they are.",
    uses=READS,
    examples=("memodb erasures", "memodb erasures --unfinished --json"),
)
@click.option(
    "--unfinished", is_flag=True, help="Only those that are not verified: a hold keeps something, or a crash."
)
@pass_settings
def erasures(settings: Settings, unfinished: bool) -> None:
    """List the deletions of a collection, the oldest first, with the state that each has reached, how many documents a
    hold keeps from being erased, and how many backups are kept from before. Documents are not named, but counted; with
    --json they stand under pseudonyms.
    """
    with opening.reading(settings) as db:
        found = [each for each in db.erasures() if not unfinished or each.state not in DONE]
    if settings.json:
        write_json([each.to_dict() for each in found])
        return
    table(
        ("ERASURE", "STATE", "REQUESTED", "DOCUMENTS", "HELD", "BACKUPS", "REASON"),
        (
            (e.id, e.state, e.states["requested"], len(e.documents), e.held, len(e.backups_pending), e.reason)
            for e in found
        ),
    )


@command(
    "get",
    "Print the signed receipt of a deletion.",
    uses=(*RECORDS, "quiet"),
    examples=(
        "memodb receipt get 9f2c4e61d0b85a7394e1c6f20a8b7d35 > receipt-9.json",
        "memodb receipt get 9f2c4e61d0b85a7394e1c6f20a8b7d35 --output receipt-9.html",
    ),
    within=receipt,
)
@click.argument("erasure")
@output_file
@pass_settings
def get(settings: Settings, erasure: str, output: Path | None) -> None:
    """Print the signed receipt of the deletion ERASURE, whose id `memodb delete` and `memodb erasures` tell, as JSON,
    or write it to a file: the page for people where its name ends in .html. One that was not verified yet is verified
    now, for which the store is opened for writing.
    """
    try:
        with opening.reading(settings) as db:
            signed = db.receipt(erasure)
    except ReadOnlyStore:
        with opening.writing(settings) as db:
            signed = db.receipt(erasure)
    if output is None:
        if settings.json:
            write_json(signed)
        else:
            write_text(signed_bytes(None, signed).decode())
        return
    data = signed_bytes(output, signed)
    with replacing(output) as file:
        file.write(data)
    if settings.json:
        write_json({"output": str(output), "nbytes": len(data)})
    elif not settings.quiet:
        complain(f"wrote {output}")


@command(
    "key",
    "Print the key that receipts are signed with.",
    uses=("path", "ledger", "json"),
    examples=("memodb receipt key > store.pem", "memodb receipt key --json"),
    within=receipt,
)
@pass_settings
def key(settings: Settings) -> None:
    """Print the store's public key as PEM: what receipts, and heads of the audit log, are checked with. Give it to
    whoever is to check them, in another way than with the receipts.
    """
    with opening.engine(settings) as engine:
        pem = engine.audit.keyring.public_key
    if settings.json:
        from memodb.proof import fingerprint

        write_json({"public_key": pem, "fingerprint": fingerprint(pem.encode())})
    else:
        write_text(pem)
