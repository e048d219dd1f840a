"""What every subcommand has: the shared options behind it, and examples in its help; and groups of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click

from memodb.cli.failures import USAGE
from memodb.cli.options import WRITES, shared

__all__ = ["Command", "Group", "command", "group", "named"]


class Command(click.Command):
    """A command with examples.

    Parameters
    ----------
    examples : sequence of str
        Command lines, each complete: the tests run them, with MEMODB_PATH set.
    uses : sequence of str
        Names of the shared options it takes.
    """

    def __init__(self, *args: Any, examples: Sequence[str], uses: Sequence[str] = WRITES, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)
        self.params.extend(shared(uses))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:  # never wrapped: a reader copies them
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(click.Group):
    """Commands about one thing, such as ``memodb receipt verify``; without one of them it prints its help."""

    def __init__(self, name: str, *, short_help: str, help: str) -> None:  # noqa: A002
        super().__init__(name, short_help=short_help, help=help, invoke_without_command=True, callback=_help_alone)


@click.pass_context
def _help_alone(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


def command(
    name: str, summary: str, *, examples: Sequence[str], uses: Sequence[str] = WRITES, within: Group | None = None
) -> Callable[[Callable[..., Any]], Command]:
    """Make a function the command of this name, with a summary for the list of commands; one of a group's if given."""
    make = click.command(name, cls=Command, short_help=summary, examples=examples, uses=uses)

    def decorate(function: Callable[..., Any]) -> Command:
        made = make(function)
        if within is not None:
            within.add_command(made)
        return made

    return decorate


def group(name: str, summary: str, explanation: str) -> Group:
    """A group of this name; commands join it by ``command(..., within=...)``, from any module that the root imports."""
    return Group(name, short_help=summary, help=explanation)


def named(commands: Iterable[click.Command], *above: str) -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, those of a group in its place: ``receipt verify``."""
    for one in commands:
        names = (*above, one.name or "")
        if isinstance(one, Group):
            yield from named(one.commands.values(), *names)
        else:
            yield " ".join(names), one
