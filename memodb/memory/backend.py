"""The array library the memories run on: one small object, passed, never looked up.

A memory is the same code on a CPU (NumPy) and on a GPU (CuPy): it calls ``backend.xp`` for what both libraries spell
the same way, and one of the methods below for the few things they do not. NumPy is the oracle of every property test.

Rejected: a global "current backend". Two collections of one process may live on different devices, and a function whose
result depends on hidden state cannot be tested against its twin.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from memodb.errors import BackendUnavailable, InvalidConfiguration, OutOfMemory

__all__ = ["DEVICES", "Array", "Backend", "backend_for"]

Array = Any
"""A device array: ``numpy.ndarray`` on the CPU, ``cupy.ndarray`` on the GPU."""

DEVICES = ("cpu", "cuda", "auto")


class Backend:
    """NumPy on the CPU; the subclass below replaces what CuPy spells differently.

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

    def require_room(self, nbytes: int, what: str) -> None:
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
                f"{'machine' if self.name == 'cpu' else 'device'}: choose a smaller dim, or fewer layers"
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


class CudaBackend(Backend):
    """CuPy on one CUDA device."""

    name = "cuda"

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


def backend_for(device: str = "cpu") -> Backend:
    """The backend of a device name.

    Parameters
    ----------
    device : {"cpu", "cuda", "auto"}
        ``"auto"`` takes the GPU where CuPy is installed and finds one, else the CPU.

    Raises
    ------
    InvalidConfiguration
        The name is none of these.
    BackendUnavailable
        ``"cuda"`` was asked for and CuPy or a CUDA device is missing.
    """
    if device not in DEVICES:
        raise InvalidConfiguration(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    if device == "cpu":
        return Backend()
    cupy = _cupy()
    if cupy is not None:
        return CudaBackend(cupy)
    if device == "auto":
        return Backend()
    raise BackendUnavailable(
        "device='cuda' needs CuPy and a CUDA device, and this machine lacks one of them: "
        "install memodb[cuda], or open the store with device='cpu' or 'auto'"
    )
