"""The question before something is destroyed: what would go is shown, and only what was agreed to goes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

import click

from memodb.cli.failures import complain
from memodb.cli.output import plain

__all__ = ["agreed", "require_answer"]

_SHOWN = 20
"""Ids listed above the question; a question under thousands of lines would be answered unread."""


def require_answer(yes: bool, *, otherwise: str) -> None:
    """A usage error where there is neither a --yes nor a terminal to ask on."""
    if not yes and not _can_ask():
        raise click.UsageError(f"there is no terminal to ask on: give --yes to do it, or {otherwise}")


def _can_ask() -> bool:
    return sys.stdin.isatty()


def agreed(question: str, ids: Sequence[str], *, held: Collection[str] = ()) -> bool:
    """Show documents, say which a hold keeps, and ask."""
    for document_id in ids[:_SHOWN]:
        click.echo(f"  {plain(document_id)}{' (held)' if document_id in held else ''}", err=True)
    if len(ids) > _SHOWN:
        click.echo(f"  ... and {len(ids) - _SHOWN:,} more", err=True)
    if click.confirm(question, err=True):
        return True
    complain("nothing was done")
    return False
