"""`delete`: choose, show, ask, forget, and print the receipt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memodb.cli import opening
from memodb.cli.asking import agreed, require_answer
from memodb.cli.command import command
from memodb.cli.failures import NEGATIVE, complain
from memodb.cli.options import RECORDS, Settings, chosen_documents, confirmation
from memodb.cli.output import counted, pairs, plain, replacing, table, write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    import memodb

__all__ = ["amount", "delete", "print_plan", "print_receipt", "signed_bytes"]


@command(
    "delete",
    "Forget documents, with a receipt.",
    uses=RECORDS,
    examples=(
        "memodb delete sky --dry-run",
        "memodb delete sky --yes --reason request-17 --receipt receipt-17.html",
        "memodb delete --subject alice --created-before 2030-01-01T00:00Z --yes --json",
        "memodb delete --batch monday --yes --scan --suppress",
        "memodb delete --metadata year=1987 --yes --no-verify",
    ),
)
@chosen_documents
@click.option(
    "--reason", metavar="CODE", help="Kept in the receipt, and in the audit log where it is a code; no personal data."
)
@click.option("--dry-run", is_flag=True, help="List what would go, and delete nothing.")
@confirmation
@click.option("--no-verify", is_flag=True, help="Do not memorise the touched segments anew to compare them.")
@click.option("--scan", is_flag=True, help="Search every byte of the store for the texts afterwards.")
@click.option("--suppress", is_flag=True, help="Refuse the texts from now on: see `memodb suppress`.")
@click.option(
    "--receipt",
    "receipt_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the signed receipt here: JSON, or where the name ends in .html the page that holds it.",
)
@click.pass_context
def delete(
    ctx: click.Context,
    ids: tuple[str, ...],
    filters: dict[str, Any],
    reason: str | None,
    dry_run: bool,
    yes: bool,
    no_verify: bool,
    scan: bool,
    suppress: bool,
    receipt_file: Path | None,
) -> None:
    """Forget documents, named by id or chosen by filters, so that the memory is bit for bit the one that never saw
    them, and print what was found in every layer of the store afterwards. What would go is listed and confirmed first;
    what is deleted is what was listed. Without a terminal to ask on, --yes or --dry-run is needed. Documents under a
    legal hold are gone from every answer at once, and erased when the hold ends. Exits with 1 where the answer is no,
    and where the deletion is done but could not be verified, as while a hold keeps something.
    """
    settings = ctx.ensure_object(Settings)
    if dry_run:
        if receipt_file is not None:
            raise click.UsageError("a dry run has no receipt: leave --receipt or --dry-run out")
        with opening.reading(settings) as db:
            print_plan(settings, db.delete(*ids, dry_run=True, reason=reason, **filters))
        return
    require_answer(yes, otherwise="--dry-run to list")
    if not yes:
        ids, filters = _confirmed(settings, ids, filters), {}
        if not ids:
            ctx.exit(NEGATIVE)
    with opening.writing(settings) as db, _kept(receipt_file) as keep:
        receipt = db.delete(*ids, reason=reason, verify=not no_verify, scan=scan, suppress=suppress, **filters)
        keep(receipt)
    print_receipt(settings, receipt, receipt_file)
    if suppress and not settings.json:
        click.echo("the texts are refused from now on")
    if not no_verify and not receipt.verified:
        ctx.exit(NEGATIVE)


def _confirmed(settings: Settings, ids: tuple[str, ...], filters: dict[str, Any]) -> tuple[str, ...]:
    """The ids of what was shown and agreed to; empty where it was not.

    The store is open for reading while the user thinks, so that no lock is held. What is written meanwhile and would
    match too was not agreed to, and stays.
    """
    with opening.reading(settings) as db:
        planned = db.delete(*ids, dry_run=True, **filters)
    question = f"Delete {amount(planned)} of collection {plain(planned.collection)}?"
    return planned.documents if agreed(question, planned.documents, held=planned.held) else ()


@contextlib.contextmanager
def _kept(file: Path | None) -> Iterator[Callable[[memodb.Receipt], None]]:
    """Keeps the receipt in a file, which is made before anything is deleted: that it cannot be shows early."""
    if file is None:
        yield lambda receipt: None
        return
    done: list[str] = []

    def keep(receipt: memodb.Receipt) -> None:
        done.append(receipt.id)
        if receipt.signed is not None:
            target.write(signed_bytes(file, receipt.signed))

    try:
        with replacing(file) as target:
            yield keep
    except OSError as exc:
        if done:
            exc.add_note(f"the deletion is done; its receipt: memodb receipt get {done[0]} --output FILE")
        raise


def signed_bytes(file: Path | None, signed: Mapping[str, Any]) -> bytes:
    """A signed receipt as a file of this name has it: JSON, or the page for people."""
    import json

    if file is not None and file.suffix.lower() in (".html", ".htm"):
        from memodb.proof.page import page

        return page(signed).encode()
    return json.dumps(signed, indent=1).encode() + b"\n"


def amount(receipt: memodb.Receipt) -> str:
    """What a receipt is about, in words."""
    return f"{counted(len(receipt.documents), 'document')} ({counted(receipt.tokens, 'token')})"


def print_plan(settings: Settings, planned: memodb.Receipt) -> None:
    """Print what a deletion would take, and what a hold would keep of it."""
    if settings.json:
        write_json(planned.to_dict())
        return
    for document_id in planned.documents:
        click.echo(plain(document_id))
    if planned.held:
        complain(f"held, so hidden at once and erased when the hold ends: {' '.join(planned.held)}")
    complain(f"would delete {amount(planned)} of collection {planned.collection}; nothing was deleted")


def print_receipt(settings: Settings, receipt: memodb.Receipt, file: Path | None = None) -> None:
    """Print what a deletion did, what was found in each layer afterwards, and how anybody can check it."""
    if settings.json:
        write_json(receipt.to_dict())
        return
    pairs(
        (
            ("receipt", receipt.id),
            ("collection", receipt.collection),
            ("deleted", amount(receipt)),
            ("documents", " ".join(receipt.documents)),
            ("reason", receipt.reason),
            ("requested", receipt.requested_at),
            ("completed", receipt.completed_at),
            ("verified", receipt.verified),
        )
    )
    click.echo()
    if receipt.signed is not None:
        layers = receipt.signed["statement"]["layers"]
        table(
            ("LAYER", "RESULT", "MEASURED"),
            ((name, found["result"], _measured(found)) for name, found in layers.items() if found is not None),
        )
        click.echo()
    for segment in receipt.segments:
        if segment.digest is None:
            click.echo(f"segment {segment.segment} dropped: no document was left")
    if receipt.held:
        click.echo(
            f"HELD: {counted(len(receipt.held), 'document')} gone from every answer; a legal hold keeps what is stored "
            f"of them until `memodb hold release`, with a new receipt then: {plain(' '.join(receipt.held))}"
        )
    got = f"memodb receipt get {receipt.id} --output receipt.json" if file is None else f"written to {plain(str(file))}"
    name = "receipt.json" if file is None else plain(str(file))
    click.echo(f"signed receipt: {got}")
    click.echo(f"to check it: memodb receipt verify {name} --key PUBLIC.pem  (the key: memodb receipt key)")
    click.echo(f"\n{receipt.limits}")


def _measured(layer: Mapping[str, Any]) -> str:
    """What was measured in a layer, without what the table says already; lists are counted."""
    said = []
    for name, value in layer.items():
        if name not in ("method", "result") and value is not None:
            shown = len(value) if isinstance(value, list) else value
            said.append(f"{name.replace('_', ' ')} {plain(shown)}")
    return ", ".join(said)
