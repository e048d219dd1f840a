"""`next`, `complete` and `score`: asking the memory in text."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from memodb.cli import opening
from memodb.cli.command import command
from memodb.cli.inputs import text_input
from memodb.cli.options import READS, Settings, pass_settings
from memodb.cli.output import pairs, quoted, table, write_json, write_text

if TYPE_CHECKING:
    import memodb

__all__ = ["complete", "next_", "score"]


@command(
    "next",
    "Print what may follow a prompt.",
    uses=READS,
    examples=(
        'memodb next "The sky over the"',
        'memodb next "The sky over the" -k 3 --json',
        "memodb next --file prompt.txt",
    ),
)
@text_input("prompt", drop_line_end=True)
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Candidates at most.")
@pass_settings
def next_(settings: Settings, /, text: str, k: int) -> None:
    """Print the tokens that may follow PROMPT, best first: in at least how many documents each does (support), and how
    many tokens of context the answer rests on. Where nothing is known nothing is printed. A prompt from stdin (`-`) or
    a file loses its last line end.
    """
    with opening.reading(settings) as db:
        found = db.next_tokens(text, k)
    if settings.json:
        write_json([asdict(candidate) for candidate in found])
        return
    table(
        ("TOKEN", "SUPPORT", "CONTEXT", "PROBABILITY"),
        ((_shown(c), c.support, c.context_length, c.probability) for c in found),
    )


@command(
    "complete",
    "Continue a prompt.",
    uses=READS,
    examples=(
        'memodb complete "The sky over the"',
        'memodb complete "The sky over the" --max-tokens 8 --stop "." --steps',
        'memodb complete "The sky over the" --temperature 0.7 --seed 1 --json',
        'echo "The sky over the" | memodb complete -',
    ),
)
@text_input("prompt", drop_line_end=True)
@click.option("--max-tokens", type=click.IntRange(min=1), default=64, show_default=True, help="Longest continuation.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text. Repeatable.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="0 takes the best candidate; above, one is drawn by its support.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Makes the draw repeatable.")
@click.option(
    "--min-context",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Tokens of context that every step must rest on.",
)
@click.option("-v", "--steps", is_flag=True, help="Print also each step, what else could have been, and why it ended.")
@pass_settings
def complete(settings: Settings, /, text: str, steps: bool, stop: tuple[str, ...], **asked: Any) -> None:
    """Continue PROMPT from what is stored, until nothing is known rather than inventing, and print the continuation
    without the prompt. Where nothing is known nothing is printed. A prompt from stdin (`-`) or a file loses its last
    line end. With --json all steps are printed.
    """
    with opening.reading(settings) as db:
        completion = db.complete(text, stop=stop, **asked)
    if settings.json:
        write_json(asdict(completion))
        return
    if completion.text:
        write_text(completion.text, nl=True)
    if steps:
        _print_steps(completion)


def _print_steps(completion: memodb.Completion) -> None:
    if completion.steps:
        click.echo()
    table(
        ("TOKEN", "SUPPORT", "CONTEXT", "PROBABILITY", "ALTERNATIVES"),
        (
            (
                _shown(step.chosen),
                step.chosen.support,
                step.chosen.context_length,
                step.chosen.probability,
                " ".join(_shown(other) for other in step.alternatives),
            )
            for step in completion.steps
        ),
    )
    click.echo(f"ended by: {completion.stop_reason.replace('_', ' ')}")


def _shown(candidate: memodb.Candidate) -> str:
    return "(end)" if candidate.is_end else quoted(candidate.text)


@command(
    "score",
    "Tell how well a text is known.",
    uses=READS,
    examples=(
        'memodb score "The sky over the harbour was green."',
        'memodb score "The sky over the harbour was green." --tokens',
        "memodb score --file notes/harbour.txt --json",
    ),
)
@text_input("text")
@click.option("--tokens", "with_tokens", is_flag=True, help="Print each token too.")
@pass_settings
def score(settings: Settings, /, text: str, with_tokens: bool) -> None:
    """Print how well TEXT (or a file, or stdin as `-`) is known: the share of its tokens that some document holds after
    the token before, and its log probability (natural logarithm). With --json all tokens are printed.
    """
    with opening.reading(settings) as db:
        scored = db.score(text)
    if settings.json:
        tokens = [asdict(token) for token in scored.tokens]
        write_json({"known": scored.known, "log_probability": scored.log_probability, "tokens": tokens})
        return
    pairs(
        (
            ("tokens", len(scored.tokens)),
            ("known", f"{scored.known:.1%}"),
            ("log probability", scored.log_probability),
        )
    )
    if with_tokens:
        click.echo()
        table(
            ("TOKEN", "KNOWN", "CONTEXT", "LOG PROBABILITY"),
            ((quoted(t.text), "yes" if t.known else "no", t.context_length, t.log_probability) for t in scored.tokens),
        )
