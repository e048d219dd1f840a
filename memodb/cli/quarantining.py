"""`quarantine`: documents that are set aside, and may come back."""

from __future__ import annotations

from typing import Any

import click

from memodb.cli import opening
from memodb.cli.command import command, group
from memodb.cli.documents import listed, print_documents
from memodb.cli.options import READS, RECORDS, Settings, chosen_documents, pass_settings

__all__ = ["quarantine"]

quarantine = group(
    "quarantine",
    "Set documents aside, and bring them back.",
    "Set documents aside while somebody looks into them: the memory is exactly the one that never held them, and "
    "nothing returns them, until they are released or deleted.",
)
_REASON = click.option("--reason", metavar="CODE", help="Kept in the audit log where it is a code, such as ticket-17.")


@command(
    "add",
    "Set documents aside.",
    uses=(*RECORDS, "quiet"),
    examples=(
        "memodb quarantine add sky --reason ticket-17",
        "memodb quarantine add --batch monday --json",
        "memodb quarantine add --writer bob --created-after 2026-01-01T00:00Z",
    ),
    within=quarantine,
)
@chosen_documents
@_REASON
@pass_settings
def add(settings: Settings, ids: tuple[str, ...], filters: dict[str, Any], reason: str | None) -> None:
    """Set documents aside, named by id or chosen by filters: from the moment the command ends no answer, list or export
    has anything of them. They stay stored, and can be deleted, held, or brought back.
    """
    with opening.writing(settings) as db:
        listed(settings, db.quarantine(*ids, reason=reason, **filters))


@command(
    "list",
    "List what is set aside.",
    uses=READS,
    examples=("memodb quarantine list", "memodb quarantine list --json"),
    within=quarantine,
)
@pass_settings
def list_(settings: Settings) -> None:
    """List the documents in quarantine, by id, with where they come from and without their texts."""
    with opening.reading(settings) as db:
        print_documents(settings, db.quarantined())


@command(
    "release",
    "Bring documents back.",
    uses=(*RECORDS, "quiet"),
    examples=(
        "memodb quarantine release aside --reason ticket-17",
        "memodb quarantine release --source sensor --json",
    ),
    within=quarantine,
)
@chosen_documents
@_REASON
@pass_settings
def release(settings: Settings, ids: tuple[str, ...], filters: dict[str, Any], reason: str | None) -> None:
    """Bring documents back from quarantine, named by id or chosen among those in it by filters: the memory is then
    exactly the one that held them all the time.
    """
    with opening.writing(settings) as db:
        listed(settings, db.release(*ids, reason=reason, **filters))
