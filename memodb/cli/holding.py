"""`hold`: legal holds, which keep documents from being erased until they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from memodb.cli import opening
from memodb.cli.asking import agreed, require_answer
from memodb.cli.command import command, group
from memodb.cli.documents import write_exported
from memodb.cli.erasures import DONE
from memodb.cli.failures import NEGATIVE
from memodb.cli.options import READS, RECORDS, Settings, chosen_documents, confirmation, output_file, pass_settings
from memodb.cli.output import counted, plain, table, write_json
from memodb.errors import NotFound

__all__ = ["hold"]

hold = group(
    "hold",
    "Keep documents from being erased.",
    "Legal holds. A deletion hides a held document from every answer at once, and erases it when its last hold ends; "
    "until then what is stored of it stays, encrypted, and can be exported under the hold's name.",
)


@command(
    "place",
    "Place a hold, or add to it.",
    uses=(*RECORDS, "quiet"),
    examples=(
        "memodb hold place case-17 sky town",
        "memodb hold place case-17 --subject alice --json",
        "memodb hold place case-18 --batch monday --actor counsel-2",
    ),
    within=hold,
)
@click.argument("name")
@chosen_documents
@pass_settings
def place(settings: Settings, name: str, ids: tuple[str, ...], filters: dict[str, Any]) -> None:
    """Keep documents from being erased under the hold NAME, a code such as `case-17`: those named by id or chosen by
    filters, expired and quarantined ones too. Placing a hold again adds to it. What is stored later is not held.
    """
    with opening.writing(settings) as db:
        placed = db.hold(name, *ids, **filters)
    if settings.json:
        write_json(placed.to_dict())
    elif not settings.quiet:
        click.echo(f"hold {plain(placed.name)} keeps {counted(len(placed.documents), 'document')}")


@command(
    "list",
    "List the holds.",
    uses=READS,
    examples=("memodb hold list", "memodb hold list --json"),
    within=hold,
)
@pass_settings
def list_(settings: Settings) -> None:
    """List the legal holds of a collection with the documents that each keeps, deleted ones among them."""
    with opening.reading(settings) as db:
        found = db.holds()
    if settings.json:
        write_json([each.to_dict() for each in found])
        return
    table(
        ("HOLD", "PLACED", "COUNT", "DOCUMENTS"),
        ((each.name, each.created_at, len(each.documents), " ".join(each.documents)) for each in found),
    )


@command(
    "release",
    "End a hold.",
    uses=(*RECORDS, "quiet"),
    examples=("memodb hold release case-9 --yes", "memodb hold release case-9 --yes --json"),
    within=hold,
)
@click.argument("name")
@confirmation
@click.pass_context
def release(ctx: click.Context, name: str, yes: bool) -> None:
    """End the hold NAME. Deletions that waited for it are carried out and verified, which cannot be undone: so what it
    keeps is listed and confirmed first. Without a terminal to ask on, --yes is needed. Exits with 1 where the answer is
    no, and where such a deletion could not be verified.
    """
    settings = ctx.ensure_object(Settings)
    require_answer(yes, otherwise="list what is held with `memodb hold list`")
    if not yes:
        with opening.reading(settings) as db:
            found = next((each for each in db.holds() if each.name == name), None)
        if found is None:
            raise NotFound(f"there is no hold {name!r}: list them with `memodb hold list`")
        question = f"End hold {plain(name)}, and erase what of this was deleted meanwhile?"
        if not agreed(question, found.documents):
            ctx.exit(NEGATIVE)
    with opening.writing(settings) as db:
        before = {each.id for each in db.erasures() if each.held}
        kept = db.release_hold(name)
        erased = [each for each in db.erasures() if each.id in before and not each.held]
    if settings.json:
        write_json({"name": name, "documents": kept, "erasures": [each.to_dict() for each in erased]})
    elif not settings.quiet:
        click.echo(f"hold {plain(name)} ended; it kept {counted(len(kept), 'document')}")
        for each in erased:
            click.echo(f"erasure {each.id}: {each.state}")
    if not all(each.state in DONE for each in erased):
        ctx.exit(NEGATIVE)


@command(
    "export",
    "Write what a hold keeps as JSON lines.",
    uses=(*RECORDS, "quiet"),
    examples=("memodb hold export case-9", "memodb hold export case-9 --output case-9.jsonl --actor counsel-2"),
    within=hold,
)
@click.argument("name")
@output_file
@pass_settings
def export(settings: Settings, name: str, output: Path | None) -> None:
    """Write the documents under the hold NAME with their texts and provenance as JSON lines, deleted ones too: what the
    hold is for. Who does it stands in the audit log. A new file is readable by its owner alone.
    """
    with opening.writing(settings) as db:
        write_exported(settings, db.export_held(name), output)
