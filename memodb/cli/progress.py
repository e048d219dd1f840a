"""How far an import is, on stderr: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import click

from memodb.cli.failures import complain
from memodb.cli.output import counted

if TYPE_CHECKING:
    import memodb

__all__ = ["Progress"]

_SECONDS: Final = 5.0
"""Between two lines in a log."""


class Progress:
    """Bytes read and documents stored.

    Parameters
    ----------
    total : int
        Bytes of all files; 0 where unknown.
    quiet : bool
        Say nothing.
    """

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._quiet = quiet
        self._stored = 0
        self._told = time.monotonic()
        self._bar: Any = None
        if total and not quiet and sys.stderr.isatty():
            self._bar = click.progressbar(
                length=total, label="importing", file=sys.stderr, item_show_func=lambda _: f"{self._stored:,} stored"
            )

    def read(self, size: int) -> None:
        """So many more bytes were read."""
        if self._bar is not None:
            self._bar.update(size)

    def stored(self, result: memodb.AppendResult) -> None:
        """A batch is durable."""
        self._stored = result.appended + result.existing
        if self._bar is None and not self._quiet and time.monotonic() - self._told >= _SECONDS:
            self._told = time.monotonic()
            complain(f"stored so far: {counted(self._stored, 'document')}")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, exc, trace)
