"""`expire` and `sweep`: when documents go by themselves, and the deletion of those whose time has come."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from memodb.cli import opening
from memodb.cli.asking import agreed, require_answer
from memodb.cli.command import command
from memodb.cli.deleting import amount, print_plan, print_receipt
from memodb.cli.documents import listed
from memodb.cli.failures import NEGATIVE, complain
from memodb.cli.options import RECORDS, Settings, chosen_documents, confirmation, pass_settings, zoned_time
from memodb.cli.output import plain, write_json
from memodb.errors import EmptySelection

__all__ = ["expire", "sweep"]


def _when(value: str) -> datetime | str:
    return value if value == "never" else zoned_time(value)


@command(
    "expire",
    "Say when documents expire.",
    uses=(*RECORDS, "quiet"),
    examples=(
        "memodb expire 2031-01-01T00:00Z sky town",
        "memodb expire 2031-01-01T00:00Z --source notebook --json",
        "memodb expire never sky",
    ),
)
@click.argument("time", metavar="TIME|never", type=_when)
@chosen_documents
@pass_settings
def expire(settings: Settings, time: datetime | str, ids: tuple[str, ...], filters: dict[str, Any]) -> None:
    """Say when documents expire: an ISO 8601 time with its zone, or `never`. From that moment no answer and no list has
    anything of them, in no process; `memodb sweep` then deletes them. A time that has passed is refused: delete then.
    """
    at = None if isinstance(time, str) else time
    with opening.writing(settings) as db:
        listed(settings, db.set_expiry(at, *ids, **filters))


@command(
    "sweep",
    "Delete what has expired.",
    uses=RECORDS,
    examples=("memodb sweep --dry-run", "memodb sweep --yes --reason retention --json"),
)
@click.option("--dry-run", is_flag=True, help="List what would go, and delete nothing.")
@confirmation
@click.option("--reason", metavar="CODE", help="Kept in the receipt, and in the audit log where it is a code.")
@click.pass_context
def sweep(ctx: click.Context, dry_run: bool, yes: bool, reason: str | None) -> None:
    """Delete the documents that have expired, those in quarantine too, and print the receipt, as `memodb delete` does.
    What has expired is listed and confirmed first. Where nothing has, nothing happens (with --json `null` is printed).
    """
    settings = ctx.ensure_object(Settings)
    if not dry_run:
        require_answer(yes, otherwise="--dry-run to list")
    try:
        if dry_run or not yes:
            with opening.reading(settings) as db:
                # not db.sweep(dry_run=True): it needs a handle that writes, whose lock a user would hold while thinking
                planned = db.delete(expires_before=datetime.now(UTC), dry_run=True, reason=reason)
            if dry_run:
                print_plan(settings, planned)
                return
            question = f"Delete {amount(planned)} of collection {plain(planned.collection)} that have expired?"
            if not agreed(question, planned.documents, held=planned.held):
                ctx.exit(NEGATIVE)
        with opening.writing(settings) as db:
            receipt = db.sweep(reason)
    except EmptySelection:
        if settings.json:
            write_json(None)
        else:
            complain("nothing has expired; nothing was deleted")
        return
    print_receipt(settings, receipt)
    if not receipt.verified:
        ctx.exit(NEGATIVE)
