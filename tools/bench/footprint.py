"""Memory of a peer: what a process that does nothing else gains by taking the stream and answering.

``sys.getsizeof`` sees neither the allocator's rounding nor what an extension holds, so a child process is weighed
before and after, with the freed pages given back to the system where it can be asked to.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import stream
from bench.peers import Peer
from bench.questions import kinds

__all__ = ["Footprint", "measure"]

_ASKED = 1024
"""Known contexts of each length, asked before the weighing."""


@dataclass(frozen=True)
class Footprint:
    """Bytes per token, of the process's resident memory and of files."""

    memory: float
    disk: float


def measure(peer: type[Peer], place: Path, tokens: int) -> Footprint:
    """Let a process of its own take so many tokens, into an empty directory."""
    # a fork would share pages with this process, and be charged for none
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_weigh, peer, place, tokens).result()


def _weigh(kind: type[Peer], place: Path, tokens: int) -> Footprint:
    given = stream.read(tokens)
    asked = [found for found in kinds(given.stored, _ASKED) if found.known]
    peer = kind(place)
    before = _resident()
    peer.ingest(given.stored)
    for kind_of_context in asked:  # a file that is mapped into memory counts as far as it was read
        peer.batch(kind_of_context.contexts)
    gained = _resident() - before
    disk = peer.disk_bytes()
    peer.close()
    return Footprint(max(0, gained) / given.tokens, disk / given.tokens)


def _resident() -> int:
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)
