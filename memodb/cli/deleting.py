"""`delete`: choose, show, ask, forget, and print the receipt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import NEGATIVE, complain
from memodb.cli.options import Settings, filter_options
from memodb.cli.output import counted, pairs, plain, table, write_json

if TYPE_CHECKING:
    import memodb

__all__ = ["delete"]

_SHOWN = 20
"""Ids listed above the question; a question under thousands of lines would be answered unread."""


@command(
    "delete",
    "Forget documents, with a receipt.",
    uses=("path", "collection", "json"),
    examples=(
        "memodb delete sky --dry-run",
        'memodb delete sky --yes --reason "request 17"',
        "memodb delete --subject alice --created-before 2030-01-01T00:00Z --yes --json",
        "memodb delete --metadata year=1987 --yes --no-verify",
    ),
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@filter_options
@click.option("--reason", metavar="TEXT", help="Kept in the receipt; no personal data.")
@click.option("--dry-run", is_flag=True, help="List what would go, and delete nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--no-verify", is_flag=True, help="Do not memorise the touched segments anew to compare them.")
@click.pass_context
def delete(
    ctx: click.Context,
    ids: tuple[str, ...],
    filters: dict[str, Any],
    reason: str | None,
    dry_run: bool,
    yes: bool,
    no_verify: bool,
) -> None:
    """Forget documents, named by id or chosen by filters, so that the memory is bit for bit the one that never saw
    them, and print the receipt. What would go is listed and confirmed first; what is deleted is what was listed.
    Without a terminal to ask on, --yes or --dry-run is needed. Exits with 1 where the answer is no, and where the
    deletion is done but could not be verified.
    """
    settings = ctx.ensure_object(Settings)
    if not ids and not filters:
        raise click.UsageError("name documents by id, or choose them with filters")
    if dry_run:
        with opening.reading(settings) as db:
            _print_plan(settings, db.delete(*ids, dry_run=True, reason=reason, **filters))
        return
    if not yes:
        if not _can_ask():
            raise click.UsageError("there is no terminal to ask on: give --yes to delete, or --dry-run to list")
        ids, filters = _confirmed(settings, ids, filters), {}
        if not ids:
            complain("nothing was deleted")
            ctx.exit(NEGATIVE)
    with opening.writing(settings) as db:
        receipt = db.delete(*ids, reason=reason, verify=not no_verify, **filters)
    _print_receipt(settings, receipt)
    if not no_verify and not receipt.verified:
        ctx.exit(NEGATIVE)


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _confirmed(settings: Settings, ids: tuple[str, ...], filters: dict[str, Any]) -> tuple[str, ...]:
    """The ids of what was shown and agreed to; empty where it was not.

    The store is open for reading while the user thinks, so that no lock is held. What is written meanwhile and would
    match too was not agreed to, and stays.
    """
    with opening.reading(settings) as db:
        planned = db.delete(*ids, dry_run=True, **filters)
    for document_id in planned.documents[:_SHOWN]:
        click.echo(f"  {plain(document_id)}", err=True)
    if len(planned.documents) > _SHOWN:
        click.echo(f"  ... and {len(planned.documents) - _SHOWN:,} more", err=True)
    if click.confirm(f"Delete {_amount(planned)} of collection {plain(planned.collection)}?", err=True):
        return planned.documents
    return ()


def _amount(receipt: memodb.Receipt) -> str:
    return f"{counted(len(receipt.documents), 'document')} ({counted(receipt.tokens, 'token')})"


def _print_plan(settings: Settings, planned: memodb.Receipt) -> None:
    if settings.json:
        write_json(planned.to_dict())
        return
    for document_id in planned.documents:
        click.echo(plain(document_id))
    complain(f"would delete {_amount(planned)} of collection {planned.collection}; nothing was deleted")


def _print_receipt(settings: Settings, receipt: memodb.Receipt) -> None:
    if settings.json:
        write_json(receipt.to_dict())
        return
    rows_left = "not looked at" if receipt.rows_left is None else receipt.rows_left
    pairs(
        (
            ("receipt", receipt.id),
            ("collection", receipt.collection),
            ("deleted", _amount(receipt)),
            ("documents", " ".join(receipt.documents)),
            ("reason", receipt.reason),
            ("requested", receipt.requested_at),
            ("completed", receipt.completed_at),
            ("rows left", rows_left),
            ("verified", receipt.verified),
        )
    )
    if receipt.segments:
        click.echo()
        table(
            ("SEGMENT", "VERIFIED", "DIGEST"),
            ((s.segment, s.verified, s.digest or "dropped: no document was left") for s in receipt.segments),
        )
    click.echo(f"\n{receipt.limits}")
