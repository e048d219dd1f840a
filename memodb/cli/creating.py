"""`init` and `append`."""

from __future__ import annotations

from typing import Any

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.inputs import text_input
from memodb.cli.options import Settings, pass_settings, provenance_options
from memodb.cli.output import plain, write_json, write_text

__all__ = ["append", "init"]


@command(
    "init",
    "Create a store or a collection.",
    examples=(
        "memodb init -p notes.memodb",
        "memodb init -p notes.memodb --false-recall 0.001 --window 6",
        "memodb init -p notes.memodb -C letters",
        "memodb init -p french.memodb --tokenizer tokenizer.json",
        "memodb init -p memo.memodb --engine kohonen --codes gaussian --dim 2048",
    ),
)
@click.option(
    "--tokenizer",
    type=click.Path(exists=True, dir_okay=False),
    help="A `tokenizers` JSON file to bind the store to, instead of the byte-level BPE that ships with memodb.",
)
@click.option("--false-recall", type=float, help="Promised bound on answers to contexts that no document holds.")
@click.option("--heads", type=int, help="Layer L looks at the last HEADS^L tokens.")
@click.option("--layers", type=int, help="The highest layer L.")
@click.option("--window", type=int, help="Tokens of the shortest span that trace finds.")
@click.option("--segment-tokens", type=int, help="Tokens of the first segment.")
@click.option("--engine", help="What answers: `willshaw`, which never misses, or `kohonen`, MeMo as published.")
@click.option("--codes", help="Of kohonen: `rademacher`, with which forgetting is exact, or `gaussian`.")
@click.option("--dim", type=int, help="Of kohonen: numbers of a token's vector.")
@click.option("--encodings", help="Of kohonen: those of a context are `computed` or `recalled`.")
@click.option("--require-provenance", is_flag=True, default=None, help="Refuse documents without a source or a writer.")
@pass_settings
def init(settings: Settings, /, **configuration: Any) -> None:
    """Create a store, or a collection of one that exists. The options are bound to the store for its life; on a store
    that has them already nothing happens, and on one with others it is an error. No other command creates a store.
    """
    given = {name: value for name, value in configuration.items() if value is not None}
    store, created = opening.create(settings, **given)
    with store as db:
        if settings.json:
            write_json({"path": db.path, "collection": db.name, "created": created})
        elif not settings.quiet:
            done = "created" if created else "exists already:"
            click.echo(f"{done} collection {plain(db.name)} of the store {plain(db.path)}")


@command(
    "append",
    "Store one text.",
    examples=(
        'memodb append "The sky over the harbour was the colour of slate." --id sky --source notebook',
        "memodb append --file notes/harbour.txt --subject alice --metadata year=1987",
        "cat notes/harbour.txt | memodb append - --expires-at 2031-01-01T00:00Z",
        'memodb append -- "--a text that begins with a dash"',
    ),
)
@text_input("text")
@click.option("--id", "document_id", metavar="TEXT", help="Its name in the collection.  [default: a random one]")
@provenance_options
@pass_settings
def append(settings: Settings, text: str, document_id: str | None, provenance: dict[str, Any]) -> None:
    """Store one text: TEXT, a file, or stdin where TEXT is `-`, exactly as it is, and print its id. It is durable when
    the command ends. An id that is stored already with the same text and provenance is left as it is; with another
    one it is an error. A collection that is missing is created.
    """
    with opening.writing(settings, create_collection=True) as db:
        document = db.append(text, id=document_id, **provenance)
    if settings.json:
        write_json(document.to_dict())
    elif not settings.quiet:
        write_text(document.id, nl=True)
