"""`completion`: the script that makes a shell complete memodb's commands and options."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from memodb.cli.command import command
from memodb.cli.options import Settings
from memodb.cli.output import write_json

__all__ = ["completion"]

_PROGRAM: Final = "memodb"
_VARIABLE: Final = "_MEMODB_COMPLETE"


@command(
    "completion",
    "Print a shell's completion script.",
    uses=("json",),
    examples=(
        "memodb completion bash > memodb-completion.bash",
        "memodb completion zsh > _memodb",
        "memodb completion fish > memodb.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete memodb's commands and options. For bash, source the file from
    ~/.bashrc; for zsh, put it as _memodb into a directory of $fpath, before compinit; for fish, put it as memodb.fish
    into ~/.config/fish/completions. The script asks the installed memodb, so it stays right after an upgrade.
    """
    kind = get_completion_class(shell)
    if kind is None:  # click knows all three; another entry of Choice would end here
        raise click.UsageError(f"there is no completion for {shell}")
    # Not source(), which for bash first runs a bash to learn its version: the script may be meant for another machine.
    maker = kind(ctx.find_root().command, {}, _PROGRAM, _VARIABLE)
    script = maker.source_template % maker.source_vars()
    if ctx.ensure_object(Settings).json:
        write_json({"shell": shell, "script": script})
    else:
        click.echo(script)
