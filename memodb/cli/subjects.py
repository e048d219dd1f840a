"""`subject`: what is stored about somebody, for somebody who asks."""

from __future__ import annotations

from pathlib import Path

import click

from memodb.cli import opening
from memodb.cli.command import command, group
from memodb.cli.documents import write_exported
from memodb.cli.failures import complain
from memodb.cli.options import RECORDS, Settings, output_file, pass_settings

__all__ = ["subject"]

subject = group(
    "subject",
    "Answer what is stored about somebody.",
    "What is stored about a subject: for requests of access, which cover what is expired or set aside as well.",
)


@command(
    "export",
    "Write all about a subject as JSON lines.",
    uses=(*RECORDS, "quiet"),
    examples=("memodb subject export alice", "memodb subject export alice --output alice.jsonl --actor dpo-2"),
    within=subject,
)
@click.argument("name", metavar="SUBJECT")
@output_file
@pass_settings
def export(settings: Settings, name: str, output: Path | None) -> None:
    """Write the documents whose subject is SUBJECT with their texts and provenance as JSON lines, by id: expired ones
    and those in quarantine too. That it was done stands in the audit log, under a pseudonym. A new file is readable by
    its owner alone.
    """
    with opening.writing(settings) as db:
        count = write_exported(settings, db.export_subject(name), output)
    if not count and not settings.json:
        complain("nothing is stored about this subject")
