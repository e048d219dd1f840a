"""How a command ends: every exit code, and what is said on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

import click

from memodb.cli.output import plain
from memodb.errors import Conflict, InvalidInput, MemodbError, NotFound, StoreError

__all__ = ["EXIT_CODES", "Interrupted", "Outcome", "complain", "guarded"]

NEGATIVE, USAGE, OPERATING_SYSTEM, INTERNAL, INTERRUPTED, PIPE_CLOSED = 1, 2, 7, 70, 130, 141

_BRANCHES: Final[tuple[tuple[type[MemodbError], int], ...]] = (
    (InvalidInput, 3),
    (NotFound, 4),
    (Conflict, 5),
    (StoreError, 6),
)

EXIT_CODES: Final[tuple[tuple[int, str], ...]] = (
    (0, "done; also where nothing is known or nothing matches"),
    (
        NEGATIVE,
        "a bad result: check or scan found something, import skipped a file, a deletion was declined or not verified",
    ),
    (USAGE, "the command line is wrong"),
    (3, "invalid input: a text, value or setting that cannot be taken"),
    (4, "not found: no such store, collection or document"),
    (5, "conflict: what is stored disagrees with what was given"),
    (6, "the store cannot serve the call: locked, damaged, too new, without its ledger"),
    (OPERATING_SYSTEM, "a file cannot be read or written"),
    (INTERNAL, "a defect of memodb; a traceback says where"),
    (INTERRUPTED, "interrupted by Ctrl-C"),
    (PIPE_CLOSED, "the reader of the output went away"),
)
"""Exit code and meaning; `memodb --help` and docs/cli.md are made of it."""


class Interrupted(Exception):
    """Ctrl-C, with something to say about it."""


class Outcome:
    """What an error means for the caller: its exit code and the words for it."""

    def __init__(self, code: int, kind: str, message: str, notes: list[str]) -> None:
        self.code = code
        self.kind = kind
        self.message = message
        self.notes = notes

    @classmethod
    def of(cls, exc: BaseException) -> Outcome:
        notes = list(getattr(exc, "__notes__", ()))
        kind = type(exc).__name__
        if isinstance(exc, click.ClickException):
            if isinstance(exc, click.UsageError) and exc.ctx is not None:
                notes.append(f"see '{exc.ctx.command_path} --help'")
            return cls(USAGE, kind, exc.format_message(), notes)
        if isinstance(exc, Interrupted | click.Abort | KeyboardInterrupt):
            return cls(INTERRUPTED, "Interrupted", str(exc) or "interrupted", notes)
        for branch, code in _BRANCHES:
            if isinstance(exc, branch):
                return cls(code, kind, str(exc), notes)
        if isinstance(exc, OSError):
            reason = exc.strerror or str(exc)
            message = reason if exc.filename is None else f"{os.fsdecode(exc.filename)}: {reason}"
            return cls(OPERATING_SYSTEM, kind, message, notes)
        return cls(INTERNAL, kind, str(exc) or kind, notes + "".join(traceback.format_exception(exc)).splitlines())

    def report(self, *, as_json: bool) -> None:
        if as_json:
            error: dict[str, Any] = {"type": self.kind, "message": self.message}
            if self.notes:
                error["notes"] = self.notes
            click.echo(json.dumps({"error": error}), err=True)
            return
        # One line each, so that a log or a `grep '^memodb: error'` has the whole of it.
        click.echo(f"memodb: error: {_one_line(self.message)}", err=True)
        for note in self.notes:
            click.echo(f"memodb: note: {_one_line(note)}", err=True)


def complain(message: str) -> None:
    """Say something on stderr that does not end the command."""
    click.echo(f"memodb: {_one_line(message)}", err=True)


def _one_line(text: str) -> str:
    return plain(" ".join(text.splitlines()))


def guarded(action: Callable[[], Any], *, as_json: Callable[[], bool]) -> int:
    """Run a command to its exit code; what it raises is reported and becomes one.

    Parameters
    ----------
    action : callable
        What it returns is the exit code where that is an int, and 0 otherwise.
    as_json : callable
        Whether errors are wanted as JSON; asked when there is one, since parsing the command line decides it.
    """
    try:
        result = action()
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
        return PIPE_CLOSED
    except Exception as exc:
        # What was printed before the error comes first; that it cannot be is then not the news.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        outcome = Outcome.of(exc)
        if outcome.code == OPERATING_SYSTEM:
            _give_up_stdout()
        outcome.report(as_json=as_json())
        return outcome.code
    return result if isinstance(result, int) else 0


def _give_up_stdout() -> None:
    """Point stdout at nothing: the interpreter flushes it at its end and would complain of what fails again."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # a test's, or already closed
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
