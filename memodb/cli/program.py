"""The root command: its options, its topics, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from memodb.cli import (
    auditing,
    backups,
    completion,
    creating,
    deleting,
    documents,
    erasures,
    expiring,
    holding,
    importing,
    quarantining,
    recall,
    receipts,
    scanning,
    subjects,
    suppressing,
    tracing,
    upkeep,
)
from memodb.cli.failures import EXIT_CODES, USAGE, guarded
from memodb.cli.options import ALL, Settings, shared

__all__ = ["TOPICS", "main"]

TOPICS: Final[dict[str, tuple[click.Command, ...]]] = {
    "Write": (creating.init, creating.append, importing.import_),
    "Read": (documents.get, documents.list_, documents.export),
    "Ask": (recall.next_, recall.complete, recall.score, tracing.trace),
    "Forget": (deleting.delete, expiring.expire, expiring.sweep, suppressing.suppress, quarantining.quarantine),
    "Prove": (erasures.erasures, receipts.receipt, scanning.scan, auditing.audit, subjects.subject),
    "Keep": (holding.hold, backups.backup, backups.backups, backups.restore),
    "Upkeep": (
        upkeep.check,
        upkeep.checkpoint,
        upkeep.compact,
        upkeep.stats,
        upkeep.collections,
        upkeep.digest,
        completion.completion,
    ),
}


class _Pipe(Exception):
    """A BrokenPipeError on its way through click, which would turn it into exit code 1."""


class Program(click.Group):
    """A group that prints its commands by topic and ends with memodb's own exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as exc:
            raise _Pipe from exc

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        arguments = sys.argv[1:] if args is None else list(args)
        settings = Settings()

        def run() -> Any:
            try:
                return super(Program, self).main(arguments, prog_name, complete_var, False, obj=settings, **extra)
            except _Pipe as exc:
                raise BrokenPipeError from exc

        if not standalone_mode:
            return run()
        _tolerate_narrow_encodings()
        sys.exit(guarded(run, as_json=lambda: settings.json or _asks_for_json(arguments)))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for topic, commands in TOPICS.items():
            with formatter.section(topic):
                formatter.write_dl([(command.name or "", command.short_help or "") for command in commands])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES])


def _asks_for_json(arguments: list[str]) -> bool:
    """Whether ``--json`` stands on a command line that could not be parsed as a whole."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _tolerate_narrow_encodings() -> None:
    """Tables print what a terminal's encoding lacks as escapes, instead of failing half way."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from memodb import __version__

        click.echo(f"memodb {__version__}")
        ctx.exit()


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """An embeddable knowledge store over associative matrix memories: append texts with their provenance, ask what
    follows a context, trace an output to the documents that hold it, and delete a document exactly.

    Options of this level may also stand behind the command: `memodb list --json` is `memodb --json list`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


main.params.extend(shared(ALL, environment=True))
for _commands in TOPICS.values():
    for _command in _commands:
        main.add_command(_command)
