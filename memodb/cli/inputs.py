"""Texts that a command is given: as an argument, from a file, from stdin."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import click

from memodb.errors import InvalidText

__all__ = ["decoded", "read_text", "text_input"]


def text_input(name: str, *, drop_line_end: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The argument ``name`` and --file; the function gets the text that either gives as ``text``.

    Parameters
    ----------
    drop_line_end : bool
        Take one line end off what stdin or a file gives. A prompt is continued where it stops, and ``echo`` would make
        every one stop behind a line end. Texts that are stored, scored or traced stay exact.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @click.argument(name, required=False)
        @click.option(
            "--file",
            "text_file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Read it from here.",
        )
        @functools.wraps(function)
        def with_text(*args: Any, text_file: Path | None, **values: Any) -> Any:
            given = values.pop(name)
            if (given is None) == (text_file is None):
                raise click.UsageError(f"give either {name.upper()} (or - for stdin) or --file")
            if text_file is None and given != "-":
                return function(*args, text=given, **values)
            if text_file is None:
                text = read_text(sys.stdin.buffer, "stdin")
            else:
                with text_file.open("rb") as file:
                    text = read_text(file, str(text_file))
            if drop_line_end:
                text = text.removesuffix("\n").removesuffix("\r")
            return function(*args, text=text, **values)

        return with_text

    return decorate


def read_text(stream: BinaryIO, where: str) -> str:
    """All of a stream as text, exactly.

    Raises
    ------
    InvalidText
        It is not UTF-8, or larger than any text that can be stored; no more than that is read.
    """
    from memodb import MAX_TEXT_CHARACTERS

    limit = 4 * MAX_TEXT_CHARACTERS  # bytes of the longest character
    data = stream.read(limit + 1)
    text = None if len(data) > limit else decoded(data, where)
    if text is None or len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidText(f"{where} has more than {MAX_TEXT_CHARACTERS} characters: split it into several documents")
    return text


def decoded(data: bytes, where: str) -> str:
    """UTF-8 as text; InvalidText says where it is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidText(f"{where} is not UTF-8: byte 0x{data[exc.start]:02x} at offset {exc.start}") from exc
