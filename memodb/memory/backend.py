"""The array library the memories run on: one small object, passed, never looked up.

A memory is the same code on a CPU (NumPy) and on a GPU (CuPy): it calls ``backend.xp`` for what both libraries spell
the same way, and one of the methods below for the few things they do not. NumPy is the oracle of every property test.

Rejected: a global "current backend". Two collections of one process may live on different devices, and a function whose
result depends on hidden state cannot be tested against its twin.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache, partial
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from memodb.errors import BackendUnavailable, InvalidConfiguration, OutOfMemory

__all__ = ["CORES", "DEVICES", "Array", "Backend", "backend_for"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_KERNELS = "memodb.memory.fast"
_LINE = 64
"""Bytes that a core fetches at a time."""
_WORTH_THREADS = 512
"""Tokens or contexts of which a batch has so many milliseconds of work that waking a thread does not matter."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Array = Any
"""A device array: ``numpy.ndarray`` on the CPU, ``cupy.ndarray`` on the GPU."""

DEVICES = ("cpu", "cuda", "auto")


@cache
def _helpers() -> ThreadPoolExecutor:
    """The threads beside the one that asks: kept, because starting them takes as long as answering a thousand
    contexts."""
    return ThreadPoolExecutor(CORES - 1, thread_name_prefix="memodb")


os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads do not survive a fork


class Backend:
    """NumPy on the CPU; the subclasses below replace what CuPy spells differently, and what is compiled.

    Attributes
    ----------
    name : str
        ``"cpu"`` or ``"cuda"``.
    xp : module
        The array module: ``numpy`` or ``cupy``.
    """

    name = "cpu"

    def __init__(self, xp: ModuleType = np) -> None:
        self.xp = xp

    def kernels_for(self, work: int) -> ModuleType | None:
        """Compiled twins of what is plain here (:mod:`memodb.memory.fast`), where there are any and they are worth it.

        Parameters
        ----------
        work : int
            Cells that are about to be touched.
        """
        return None

    def each(self, function: Callable[[Item], Result], items: Sequence[Item], *, size: int) -> list[Result]:
        """What a function gives for each of some items, side by side on several cores where that is worth it.

        NumPy and the compiled kernels let go of the interpreter's lock while they work. Where one fails, none is still
        at work when its error is raised, and those that were not begun with are not.

        Parameters
        ----------
        size : int
            Tokens or contexts that the whole is about.
        """
        if size < _WORTH_THREADS or len(items) < 2 or CORES < 2:
            return [function(item) for item in items]
        later: list[Future[Result]] = []
        try:
            with suppress(RuntimeError):  # the interpreter is about to end, and starts nothing any more
                for item in items[1:]:
                    later.append(_helpers().submit(function, item))
            first, last, left = function(items[0]), [], len(items) - 1
            # what nobody has begun with is done here, from the end: so none waits for a helper that itself waits
            while left and (left > len(later) or later[left - 1].cancel()):
                last.append(function(items[left]))
                left -= 1
            return [first, *(future.result() for future in later[:left]), *reversed(last)]
        finally:
            wait([future for future in later if not future.cancel()])

    def beside(self, function: Callable[..., Result], *arguments: Any) -> Callable[[], Result]:
        """Begin with a function of host arrays on another core; what is given back waits for its result.

        Where nobody has begun with it by then, whoever asks does it.
        """
        if CORES > 1:
            with suppress(RuntimeError):  # as in `each`
                future = _helpers().submit(function, *arguments)
                return lambda: function(*arguments) if future.cancel() else future.result()
        return partial(function, *arguments)

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Zeros from the beginning of a cache line on, so that a row of as many bytes is one line and not two.

        (Pages of megabytes for large arrays were tried: what they save when rows are read, making them costs when a
        segment is memorised anew.)
        """
        kind = np.dtype(dtype)
        nbytes = math.prod(shape) * kind.itemsize
        room = np.zeros(nbytes + _LINE, dtype=np.uint8)
        begin = -room.ctypes.data % _LINE
        return room[begin : begin + nbytes].view(kind).reshape(shape)

    def to_device(self, array: np.ndarray) -> Array:
        """A device copy of a host array (the array itself on the CPU)."""
        return array

    def to_host(self, array: Array) -> np.ndarray:
        """A host copy of a device array (the array itself on the CPU)."""
        return np.asarray(array)

    def available_bytes(self) -> int:
        """Bytes that can be allocated now without taking them from anybody."""
        import psutil

        return int(psutil.virtual_memory().available)

    def require_room(self, nbytes: int, what: str, advice: str = "choose a smaller dim, or fewer layers") -> None:
        """Refuse to allocate what there is no room for.

        Raises
        ------
        OutOfMemory
            Nothing was allocated.
        """
        free = self.available_bytes()
        if nbytes > free:
            raise OutOfMemory(
                f"{what} takes {nbytes / 2**20:,.0f} MiB of memory, and {free / 2**20:,.0f} MiB are left on this "
                f"{'machine' if self.name == 'cpu' else 'device'}: {advice}"
            )

    def scatter_add(self, target: Array, index: Array, values: Array) -> None:
        """``target[index] += values`` with repeated indices counted each time; wraps modulo the dtype's range."""
        self.xp.add.at(target, index, values)

    def ragged(self, counts: Array) -> tuple[Array, Array]:
        """Number the items of a ragged table.

        Parameters
        ----------
        counts : int64 (n,)
            Items of each of n rows.

        Returns
        -------
        row, place : int64 (counts.sum(),)
            For each item its row, and its place within the row, in row order.
        """
        xp = self.xp
        row = xp.repeat(xp.arange(counts.size), counts)
        place = xp.arange(row.size) - (xp.cumsum(counts) - counts)[row]
        return row, place


class FastBackend(Backend):
    """NumPy on the CPU, with kernels that numba compiles.

    They are imported when so much has been done without them that importing them would have taken no longer: a process
    that appends one document never does. What one backend has imported is there for all of a process.

    Parameters
    ----------
    worth : int
        Cells that are touched without them at first.
    """

    def __init__(self, worth: int = 1 << 23) -> None:
        super().__init__()
        self._left = worth
        self._kernels: ModuleType | None = None

    def kernels_for(self, work: int) -> ModuleType | None:
        if self._kernels is None:
            self._left -= work
            if self._left < 0 or _KERNELS in sys.modules:
                from memodb.memory import fast

                self._kernels = fast
        return self._kernels


class CudaBackend(Backend):
    """CuPy on one CUDA device."""

    name = "cuda"

    def each(self, function: Callable[[Item], Result], items: Sequence[Item], *, size: int) -> list[Result]:
        return [function(item) for item in items]  # the device works side by side by itself

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        return self.xp.zeros(shape, dtype=dtype)  # the device's own memory begins so

    def to_device(self, array: np.ndarray) -> Array:
        return self.xp.asarray(array)

    def to_host(self, array: Array) -> np.ndarray:
        host: np.ndarray = self.xp.asnumpy(array)
        return host

    def available_bytes(self) -> int:
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    def ragged(self, counts: Array) -> tuple[Array, Array]:
        # cupy.repeat takes no device array of counts; a search in the running total says the same.
        xp = self.xp
        ends = xp.cumsum(counts)
        total = int(ends[-1]) if counts.size else 0
        item = xp.arange(total)
        row = xp.searchsorted(ends, item, side="right")
        return row, item - (ends - counts)[row]


def _cupy() -> ModuleType | None:
    """CuPy where it is installed and finds a device, else None."""
    try:
        import cupy
    except ImportError:
        return None
    try:
        return cupy if cupy.cuda.runtime.getDeviceCount() > 0 else None
    except cupy.cuda.runtime.CUDARuntimeError:
        return None


def backend_for(device: str = "cpu", fast: bool | None = None) -> Backend:
    """The backend of a device name.

    Parameters
    ----------
    device : {"cpu", "cuda", "auto"}
        ``"auto"`` takes the GPU where CuPy is installed and finds one, else the CPU.
    fast : bool, optional
        On the CPU: whether to use the kernels that numba compiles; where it is installed, if it is not said.

    Raises
    ------
    InvalidConfiguration
        The name is none of these.
    BackendUnavailable
        ``"cuda"`` was asked for and CuPy or a CUDA device is missing; or ``fast`` and numba is.
    """
    if fast is not None and not isinstance(fast, bool):
        raise InvalidConfiguration(f"fast must be true, false or left out, not {fast!r}")
    if device not in DEVICES:
        raise InvalidConfiguration(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    if device == "cpu":
        return _on_cpu(fast)
    cupy = _cupy()
    if cupy is not None:
        return CudaBackend(cupy)
    if device == "auto":
        return _on_cpu(fast)
    raise BackendUnavailable(
        "device='cuda' needs CuPy and a CUDA device, and this machine lacks one of them: "
        "install memodb[cuda], or open the store with device='cpu' or 'auto'"
    )


def _on_cpu(fast: bool | None) -> Backend:
    if fast is False:
        return Backend()
    if importlib.util.find_spec("numba") is not None:
        return FastBackend()
    if fast:
        raise BackendUnavailable("fast=True needs numba: install memodb[fast], or leave fast out")
    return Backend()
