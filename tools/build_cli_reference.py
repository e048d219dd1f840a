"""Write docs/cli.md: the command line's own help texts, one section a command.

Run ``python tools/build_cli_reference.py``. With ``--check`` nothing is written, and the exit code is 1 where the page
differs from what would be.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import click

from memodb.cli import main
from memodb.cli.command import named
from memodb.cli.failures import EXIT_CODES
from memodb.cli.program import TOPICS

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 88

INTRODUCTION = """\
# The command line

<!-- written by tools/build_cli_reference.py from the help texts: change those -->

`memodb` works on the store that `--path` or the environment variable `MEMODB_PATH` names, in the collection of
`--collection` or `MEMODB_COLLECTION` (`default` otherwise). `memodb init` makes a store; no other command does, so a
path that is mistyped is an error. `append` and `import` make a missing collection. What checks files that somebody was
given (`receipt`, `audit verify`) needs no store.

Commands that only read take no lock and work while another process writes. One process writes at a time; a second
one ends with exit code 6.

Results are on stdout, everything else on stderr. Tables are for people: control characters in them are escaped. With
`--json`, before or behind the command, a result is one JSON document in UTF-8, and an error is
`{"error": {"type": ..., "message": ..., "notes": [...]}}` on stderr. `export` always writes JSON lines,
`get --text` prints a text byte for byte, and `complete` prints one with a line end behind it.
"""


def exit_codes() -> str:
    rows = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES)
    return f"## Exit codes\n\n| code | meaning |\n| --- | --- |\n{rows}"


def section(name: str, command: click.Command, root: click.Context) -> str:
    *groups, own = name.split()
    above = root
    for group in groups:
        above = click.Context(click.Command(group), info_name=group, parent=above)
    context = click.Context(
        command, info_name=own, parent=above, terminal_width=WIDTH, help_option_names=["-h", "--help"]
    )
    return f"### memodb {name}\n\n```text\n{command.get_help(context)}\n```\n"


def page() -> str:
    root = click.Context(main, info_name="memodb")
    parts = [INTRODUCTION, exit_codes()]
    for topic, commands in TOPICS.items():
        every = list(named(commands))
        summaries = [f"- [`memodb {name}`](#memodb-{name.replace(' ', '-')}): {c.short_help}\n" for name, c in every]
        parts.append(f"## {topic}\n\n{''.join(summaries)}")
        parts += [section(name, command, root) for name, command in every]
    return "\n".join(parts)


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write docs/cli.md from the help texts.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where it is out of date")
    if not parser.parse_args(arguments).check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE.name} is not what the help texts say: run python tools/build_cli_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
