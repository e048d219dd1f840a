"""`check`, `checkpoint`, `compact`, `stats`, `collections` and `digest`: the state of a store."""

from __future__ import annotations

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.failures import NEGATIVE
from memodb.cli.options import READS, Settings, pass_settings
from memodb.cli.output import counted, pairs, plain, table, write_json

__all__ = ["check", "checkpoint", "collections", "compact", "digest", "stats"]


@command(
    "check",
    "Look for contradictions.",
    uses=READS,
    examples=("memodb check", "memodb check --fix", "memodb check --json -C letters"),
)
@click.option(
    "--fix",
    is_flag=True,
    help="Mend what the documents can mend, and say what they cannot; opens the store for writing.",
)
@click.pass_context
def check(ctx: click.Context, fix: bool) -> None:
    """Compare the catalog with itself, every text with its digest and every memory with its rebuild, and print what
    contradicts. Exits with 1 where anything is found, mended or not: check again to see what is left.
    """
    settings = ctx.ensure_object(Settings)
    with opening.writing(settings) if fix else opening.reading(settings) as db:
        report = db.check(fix=fix)
    if settings.json:
        write_json(report.to_dict())
    else:
        for finding in report.findings:
            click.echo(f"found: {plain(finding)}")
        for mended in report.fixed:
            click.echo(f"fixed: {plain(mended)}")
        for left in report.remaining:
            click.echo(f"remains: {plain(left)}")
        result = "sound" if report.ok else f"{len(report.findings):,} found, {len(report.fixed):,} fixed"
        click.echo(
            f"checked {counted(report.documents, 'document')} and {counted(report.segments, 'segment')}: {result}"
        )
    if not report.ok:
        ctx.exit(NEGATIVE)


@command(
    "checkpoint",
    "Write the memories to files.",
    examples=("memodb checkpoint", "memodb checkpoint -C letters --json"),
)
@pass_settings
def checkpoint(settings: Settings) -> None:
    """Write the memories of a collection to files, so that the store opens by reading them instead of memorising its
    documents again. Happens by itself when enough was appended.
    """
    with opening.writing(settings) as db:
        written = db.checkpoint()
    if settings.json:
        write_json({"written": written})
    elif not settings.quiet:
        click.echo(f"wrote {counted(written, 'segment')}")


@command(
    "compact",
    "Bring a collection to its canonical layout.",
    examples=("memodb compact", "memodb compact -C letters --json"),
)
@pass_settings
def compact(settings: Settings) -> None:
    """Bring a collection to its canonical layout: tight, and a function of its documents, its seed and the store's
    settings alone, so that its digest says nothing of what was ever deleted.
    """
    with opening.writing(settings) as db:
        changed = db.compact()
    if settings.json:
        write_json({"changed": changed})
    elif not settings.quiet:
        click.echo("compacted" if changed else "canonical already")


@command(
    "stats",
    "Print sizes, fill and promises.",
    uses=READS,
    examples=("memodb stats", "memodb stats --json"),
)
@pass_settings
def stats(settings: Settings) -> None:
    """Print the size of a collection, how full its segments are (share of cells above zero in the fullest layer), and
    the bound on false recall that follows, next to the promised one. The bytes on disk are of the whole store.
    """
    with opening.reading(settings) as db:
        figures = db.stats()
    if settings.json:
        write_json(figures.to_dict())
        return
    pairs((name.replace("_", " "), value) for name, value in figures.to_dict().items() if name != "segments")
    if figures.segments:
        click.echo()
        table(
            ("SEGMENT", "DOCUMENTS", "TOKENS", "FILL", "FALSE RECALL", "BYTES", "READ BYTES"),
            (
                (at, s.documents, s.tokens, max(s.fill), s.false_recall, s.memory_bytes, s.read_bytes)
                for at, s in enumerate(figures.segments, start=1)
            ),
        )


@command(
    "collections",
    "List the collections.",
    uses=("path", "ledger", "json"),
    examples=("memodb collections", "memodb collections --json"),
)
@pass_settings
def collections(settings: Settings) -> None:
    """List the collections of the store with their documents and tokens."""
    found = opening.collections(settings)
    if settings.json:
        write_json([info.to_dict() for info in found])
        return
    table(
        ("COLLECTION", "DOCUMENTS", "TOKENS", "CREATED"),
        ((info.name, info.documents, info.tokens, info.created_at) for info in found),
    )


@command(
    "digest",
    "Print the digest of a memory.",
    uses=READS,
    examples=("memodb digest", "memodb digest --json"),
)
@pass_settings
def digest(settings: Settings) -> None:
    """Print the SHA-256 over every count of a collection's memory: equal exactly where the memories are. Compact first
    to compare with a store of another history.
    """
    with opening.reading(settings) as db:
        value = db.digest()
    if settings.json:
        write_json({"collection": settings.collection, "digest": value})
    else:
        click.echo(value)
