"""What every subcommand has: the shared options behind it, and examples in its help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from memodb.cli.options import ALL, shared

__all__ = ["Command", "command"]


class Command(click.Command):
    """A command with examples.

    Parameters
    ----------
    examples : sequence of str
        Command lines, each complete: the tests run them, with MEMODB_PATH set.
    uses : sequence of str
        Names of the shared options it takes.
    """

    def __init__(self, *args: Any, examples: Sequence[str], uses: Sequence[str] = ALL, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)
        self.params.extend(shared(uses))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:  # never wrapped: a reader copies them
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def command(
    name: str, summary: str, *, examples: Sequence[str], uses: Sequence[str] = ALL
) -> Callable[[Callable[..., Any]], Command]:
    """Make a function the command of this name, with a summary for the list of commands."""
    return click.command(name, cls=Command, short_help=summary, examples=examples, uses=uses)
