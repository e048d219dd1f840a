"""Many readers or one publisher: the lock between answering threads and the instant a commit reaches the matrices."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

__all__ = ["SharedLock"]


class SharedLock:
    """Shared by readers, exclusive for a publisher; a waiting publisher keeps new readers out, so it cannot starve.

    Not re-entrant: a thread that holds it shared must not ask again, in either mode.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._publishing = False
        self._waiting = 0

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._publishing and not self._waiting)
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._condition:
            self._waiting += 1
            try:
                self._condition.wait_for(lambda: not self._publishing and not self._readers)
            finally:
                self._waiting -= 1
            self._publishing = True
        try:
            yield
        finally:
            with self._condition:
                self._publishing = False
                self._condition.notify_all()
