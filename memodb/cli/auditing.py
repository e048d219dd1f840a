"""`audit show`, `audit head` and `audit export`: the store's own log of what was erased, held and restored."""

from __future__ import annotations

import json
from pathlib import Path

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import complain
from memodb.cli.options import Settings, output_file, pass_settings
from memodb.cli.output import counted, plain, replacing, table, write_json, write_text
from memodb.cli.receipts import audit

__all__ = ["audit", "export", "head", "show"]

_STORE = ("path", "ledger", "json")


@command(
    "show",
    "Print the entries of the log.",
    uses=_STORE,
    examples=("memodb audit show", "memodb audit show --since 3 --json"),
    within=audit,
)
@click.option("--since", type=click.IntRange(min=0), default=0, metavar="SEQ", help="From this number on.")
@pass_settings
def show(settings: Settings, since: int) -> None:
    """Print the entries of the audit log, all collections', from the number --since on: what was done, when, to which
    opaque id, by whom, for which code. No text, no document's id and no name is in it.
    """
    with opening.engine(settings) as engine:
        entries = list(engine.audit.entries(since))
    if settings.json:
        write_json([json.loads(entry.to_bytes()) for entry in entries])
        return
    table(
        ("SEQ", "TIME", "OP", "ID", "ACTOR", "REASON", "UNTIL"),
        ((e.seq, e.time, e.op, e.id, e.actor, e.reason, e.until) for e in entries),
    )


@command(
    "head",
    "Print the signed head of the log.",
    uses=(*_STORE, "quiet"),
    examples=("memodb audit head > head-may.json", "memodb audit head --output head-may.json"),
    within=audit,
)
@output_file
@pass_settings
def head(settings: Settings, output: Path | None) -> None:
    """Print the signed head of the audit log as JSON, or write it to a file. Keep it elsewhere: with it `memodb audit
    verify --since` shows later that nothing of what was there was changed or cut off.
    """
    with opening.engine(settings) as engine:
        signed = engine.audit.head()
    data = json.dumps(signed, indent=1) + "\n"
    if output is not None:
        with replacing(output) as file:
            file.write(data.encode())
        if settings.json:
            write_json({"size": signed["size"], "output": str(output)})
        elif not settings.quiet:
            complain(f"wrote the head of {counted(signed['size'], 'line')} to {output}")
    elif settings.json:
        write_json(signed)
    else:
        write_text(data)


@command(
    "export",
    "Write the log for somebody to check.",
    uses=(*_STORE, "collection", "quiet"),
    examples=("memodb audit export log.jsonl", "memodb audit export log.jsonl --json"),
    within=audit,
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@pass_settings
def export(settings: Settings, file: Path) -> None:
    """Write the whole audit log, all collections', with its signed head to FILE, which is replaced when all is written.
    `memodb audit verify` checks it without the store.
    """
    with opening.reading(settings) as db, replacing(file) as stream:
        count = db.export_audit(stream)
    if settings.json:
        write_json({"exported": count, "output": str(file)})
    elif not settings.quiet:
        click.echo(f"exported {counted(count, 'line')} to {plain(str(file))}")
