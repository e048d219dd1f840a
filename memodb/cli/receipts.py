"""`receipt` and `audit`: what somebody checks who was given a receipt or a log, without a store.

The commands of these groups that ask a store are in :mod:`memodb.cli.erasures` and :mod:`memodb.cli.auditing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from memodb.cli.command import command, group
from memodb.cli.failures import NEGATIVE, complain
from memodb.cli.options import Settings, output_file
from memodb.cli.output import pairs, plain, replacing, write_json, write_text
from memodb.errors import InvalidInput

if TYPE_CHECKING:
    from memodb.proof import Verdict

__all__ = ["audit", "parsed", "receipt"]

_MAX_KEY_BYTES: Final = 4096
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_KEY = click.option(
    "--key", type=_FILE, metavar="PUBLIC.pem", help="The public key that must have signed it, got in another way."
)

receipt = group(
    "receipt",
    "Get receipts of erasure, and check them.",
    "Get signed receipts of erasure from a store. To check one, or make a page of it for people, no store, no network "
    "and no private key is needed.",
)
audit = group(
    "audit",
    "Read and check the log of what was done.",
    "The log of what was erased, held and restored: opaque ids, times and codes, in a tree of hashes that is signed. "
    "To check an exported one no store is needed.",
)


@command(
    "verify",
    "Check a receipt, offline.",
    uses=("json",),
    examples=(
        "memodb receipt verify receipt.json --key public.pem",
        "memodb receipt verify receipt.html --key public.pem --json",
        "memodb receipt verify receipt.json",
    ),
    within=receipt,
)
@click.argument("file", type=_FILE)
@_KEY
@click.pass_context
def verify(ctx: click.Context, file: Path, key: Path | None) -> None:
    """Check that the receipt in FILE, or the page made of one, is what was signed, that it does not contradict itself,
    and that its entry, if it has one, stands in the audit log. Without --key only that is known: whoever made it
    signed it. Exits with 1 where it is not valid.
    """
    from memodb.proof import Verdict

    pem = _key_of(key)
    try:
        _, verdict = _checked(file, pem)
    except InvalidInput as exc:
        verdict = Verdict({}, None, False, False, None, (str(exc),))
    if ctx.ensure_object(Settings).json:
        write_json(verdict.to_dict())
    else:
        pairs(_summary(verdict))
        _conclude(verdict.problems, trusted=verdict.trusted, what="receipt")
    if not verdict.valid:
        ctx.exit(NEGATIVE)


@command(
    "page",
    "Make a page of HTML of a receipt.",
    uses=("json", "quiet"),
    examples=(
        "memodb receipt page receipt.json > receipt-17.html",
        "memodb receipt page receipt.json --output receipt-17.html",
    ),
    within=receipt,
)
@click.argument("file", type=_FILE)
@output_file
@click.pass_context
def page(ctx: click.Context, file: Path, output: Path | None) -> None:
    """Make a page of the receipt in FILE that people can read and print, for a compliance file. It loads nothing, and
    holds the receipt, so that `memodb receipt verify` checks the page alone. There is no page of a receipt that is not
    valid: the exit code is then 1.
    """
    from memodb.proof.page import page as page_of

    settings = ctx.ensure_object(Settings)
    document, verdict = _checked(file, None)
    if not verdict.valid:
        for problem in verdict.problems:
            complain(f"{file}: {problem}")
        ctx.exit(NEGATIVE)
    text = page_of(document)
    if output is not None:
        with replacing(output) as target:
            target.write(text.encode())
    if settings.json:
        write_json({"html": text} if output is None else {"output": str(output), "nbytes": len(text.encode())})
    elif output is None:
        write_text(text)
    elif not settings.quiet:
        complain(f"wrote {output}")


@command(
    "verify",
    "Check an exported audit log, offline.",
    uses=("json",),
    examples=(
        "memodb audit verify audit.jsonl --key public.pem",
        "memodb audit verify audit.jsonl --key public.pem --since head.json",
        "memodb audit verify audit.jsonl --since receipt.json --json",
    ),
    within=audit,
)
@click.argument("file", type=_FILE)
@_KEY
@click.option(
    "--since",
    type=_FILE,
    metavar="HEAD.json",
    help="A signed head kept from before, or a receipt with one: the log must begin with what that was made of.",
)
@click.pass_context
def verify_audit(ctx: click.Context, file: Path, key: Path | None, since: Path | None) -> None:
    """Check that the log in FILE is the one that its head signs: no entry changed, left out, added or moved. That its
    tail was not cut off before it was signed anew is only known with --since. Exits with 1 where it is not valid.
    """
    from memodb.proof import verify_log

    pem = _key_of(key)
    earlier = None if since is None else _head_of(since)
    with file.open("rb") as stream:
        verdict = verify_log(stream, public_key=pem, earlier=earlier)
    if ctx.ensure_object(Settings).json:
        write_json(verdict.to_dict())
    else:
        pairs([("store", verdict.store), ("entries", verdict.size), ("signed by", verdict.fingerprint)])
        if verdict.valid and since is None:
            click.echo("a tail cut off before the head was signed would not show: compare a kept head with --since")
        elif verdict.valid:
            click.echo("begins with all that the earlier head was made of")
        _conclude(verdict.problems, trusted=verdict.trusted, what="log")
    if not verdict.valid:
        ctx.exit(NEGATIVE)


def _read(file: Path, limit: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(limit + 1)  # one more than is taken, so that whoever parses it sees that it is too much


def _key_of(file: Path | None) -> bytes | None:
    """The public key in a file; InvalidInput where there is none."""
    if file is None:
        return None
    from memodb.proof import fingerprint

    pem = _read(file, _MAX_KEY_BYTES)
    try:
        fingerprint(pem)
    except InvalidInput as exc:
        raise InvalidInput(f"{file}: {exc}") from exc
    return pem


def _document(file: Path) -> Any:
    """What a file of JSON says, or the receipt that a page of HTML holds."""
    from memodb.proof.page import MAX_PAGE_BYTES

    return parsed(_read(file, MAX_PAGE_BYTES))


def parsed(data: bytes) -> Any:
    """What JSON says, or the receipt that a page of HTML holds; InvalidInput where it is neither."""
    from memodb.proof import parse
    from memodb.proof.page import receipt_of

    return receipt_of(data) if data[:64].lstrip().startswith(b"<") else parse(data)


def _checked(file: Path, pem: bytes | None) -> tuple[Any, Verdict]:
    from memodb.proof import verify as verify_receipt

    document = _document(file)
    return document, verify_receipt(document, public_key=pem)


def _head_of(file: Path) -> Mapping[str, Any]:
    """A signed head, or that of a receipt; what is in it is checked with the log."""
    document = _document(file)
    if isinstance(document, dict) and isinstance(document.get("audit"), dict):
        document = document["audit"].get("head")
    if not isinstance(document, dict):
        raise InvalidInput(f"{file} holds no signed head")
    return document


def _summary(verdict: Verdict) -> Iterator[tuple[str, Any]]:
    said = verdict.statement
    for name in ("id", "store", "collection", "reason", "requested_at", "completed_at"):
        if said.get(name) is not None:
            yield name.replace("_at", ""), said[name]
    if isinstance(said.get("documents"), list):
        yield "documents", len(said["documents"])
    if said:
        yield "erasure verified", said.get("verified") is True
        yield "in audit log", f"yes, when it had a size of {verdict.size:,}" if verdict.in_log else "no"
    yield "signed by", verdict.fingerprint


def _conclude(problems: tuple[str, ...], *, trusted: bool, what: str) -> None:
    for problem in problems:
        click.echo(f"problem: {plain(problem)}")
    if problems:
        click.echo("NOT VALID")
    elif trusted:
        click.echo("valid, and signed with the key that was named")
    else:
        click.echo(
            f"valid in itself only: without --key anybody can have signed this {what}; compare the fingerprint behind "
            "'signed by' with one that you got in another way"
        )
