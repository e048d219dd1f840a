"""What the kernels share: how they are compiled, and the few steps that several of them take."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic

from memodb.memory import codes

__all__ = [
    "LARGE",
    "LINE",
    "ONE",
    "appended",
    "borrowed",
    "bytes_at",
    "compiled",
    "count_of",
    "counted",
    "fetch",
    "finalise",
    "full",
    "lowest",
    "numbers_at",
    "ones_of",
    "select_rows",
    "words_at",
]

LARGE = 15
LINE = 64
"""Bytes that memory hands out at once."""
ONE = np.uint64(1)


def _sources() -> str:
    """Digest of every source that goes into the machine code."""
    room = files("memodb.memory")
    kernels = sorted(path.name for path in (room / "fast").iterdir() if path.name.endswith(".py"))
    paths = [*(room / "fast" / name for name in kernels), room / "codes.py", room / "willshaw.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


_SOURCES = _sources()


def compiled(function: Any) -> Any:
    """With machine code that is kept for other processes, and without the interpreter's lock.

    A function becomes part of those that call it: what is passed to it is counted as a reference each time otherwise,
    which takes longer than the work of most.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "forceinline": True}
    try:
        kernel = njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to keep the machine code: each process makes its own
        return njit(**options)(function)
    # numba looks whether the function's own file is another than it was, and these are made of several
    kernel._cache._cache_file._source_stamp = _SOURCES
    return kernel


finalise = compiled(codes.finalise)


@compiled
def count_of(cells: Any, cell: Any) -> Any:
    """The count of a cell, of four bits."""
    return np.int64(cells[cell >> 1]) >> ((cell & 1) << 2) & 15


@compiled
def select_rows(
    symbol: Any, selectors: Any, number: Any, band: Any, ones: Any, columns: Any, rows: Any, place: Any
) -> None:
    """:func:`memodb.memory.codes.select_rows` of one symbol, by the selector of this number: ``rows[place]`` becomes
    its ``ones`` rows and, behind them, its rotation."""
    words = ones // 2 + 1
    wide, behind = np.uint64(band), selectors[number, words]
    for word in range(words):
        drawn = finalise(symbol * selectors[number, word] + behind)
        for half in range(2):
            drew = drawn >> np.uint64(32) if half == 0 else drawn & np.uint64(0xFFFFFFFF)
            at = 2 * word + half
            if at < ones:
                rows[place, at] = np.int64((drew * wide) >> np.uint64(32)) + at * band
            elif at == ones:
                rows[place, at] = np.int64(drew & np.uint64(columns - 1))


@compiled
def appended(found: Any, count: Any, item: Any) -> Any:
    """One number more behind the first ``count``: the array, made longer where it is full, and how many there are."""
    if count == found.size:
        wider = np.empty(2 * count, dtype=np.int64)
        wider[:count] = found
        found = wider
    found[count] = item
    return found, count + 1


@compiled
def ones_of(word: Any) -> Any:
    """Bits of a word that are set. (LLVM knows this way of counting them and takes one instruction.)"""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def full(word: Any) -> Any:
    """Which of the sixteen counts of a word are 15, by the lowest bit of each."""
    word &= word >> np.uint64(1)
    return word & word >> np.uint64(2) & np.uint64(0x1111111111111111)


@compiled
def lowest(word: Any) -> Any:
    """Number of the lowest bit that is set: there are so many below it."""
    return ones_of(~word & (word - ONE))


def _typed(typing: Any, address: Any) -> Any:
    """What lies at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


_pointer: Any = intrinsic(_typed)


def _uncounted(typing: Any, arrays: Any) -> Any:
    """A tuple of arrays, as arrays whose references are not counted: whoever lent them has to hold them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lent = []
        for at, kind in enumerate(arrays):
            array = context.make_array(kind)(context, builder, builder.extract_value(arguments[0], at))
            array.meminfo = ir.Constant(array.meminfo.type, None)
            array.parent = ir.Constant(array.parent.type, None)
            lent.append(array._getvalue())
        return context.make_tuple(builder, arrays, lent)

    return arrays(arrays), generate


borrowed: Any = intrinsic(_uncounted)


def _fetched(typing: Any, address: Any) -> Any:
    """What lies at an address is about to be read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        takes = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [cgutils.voidptr_t], takes)
        to_read, for_long, data = number(0), number(3), number(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], cgutils.voidptr_t), to_read, for_long, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


fetch: Any = intrinsic(_fetched)


@compiled
def words_at(address: Any, rows: Any, words: Any) -> Any:
    """The uint64 (rows, words) that lie at an address: matrices of any number of segments are told so."""
    return carray(_pointer(address), (rows, words), np.uint64)


@compiled
def bytes_at(address: Any, size: Any) -> Any:
    """The uint8 (size,) that lie at an address."""
    return carray(_pointer(address), (size,), np.uint8)


@compiled
def numbers_at(address: Any, size: Any) -> Any:
    """The int64 (size,) that lie at an address."""
    return carray(_pointer(address), (size,), np.int64)


@compiled
def counted(word: Any) -> Any:
    """Which of the sixteen counts of a word are above zero, a bit each: in pairs, in fours, in eights, and all."""
    word = (word | word >> np.uint64(1) | word >> np.uint64(2) | word >> np.uint64(3)) & np.uint64(0x1111111111111111)
    word = (word | word >> np.uint64(3)) & np.uint64(0x0303030303030303)
    word = (word | word >> np.uint64(6)) & np.uint64(0x000F000F000F000F)
    word = (word | word >> np.uint64(12)) & np.uint64(0x000000FF000000FF)
    return (word | word >> np.uint64(24)) & np.uint64(0xFFFF)
