"""A stand-in for CuPy that runs everywhere: NumPy behind the rules that CuPy keeps.

Host arrays and device arrays never meet in one call, nothing is converted silently, and the functions below take what
CuPy's take and no more (CuPy 13: ``repeat`` no array of counts, ``unpackbits`` no axis, ``lexsort`` one array,
``bincount`` nothing empty, sorts no kind). It does not prove that the GPU computes right; it shows that no call is
made that a GPU could not answer.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np


class DeviceArray(np.ndarray):
    """An array that refuses to be mixed with host arrays; NumPy scalars are welcome, as in CuPy."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        if "out" in keywords:
            keywords["out"] = tuple(_bare(out) for out in keywords["out"])
            getattr(ufunc, method)(*map(_bare, inputs), **keywords)
            return self if len(keywords["out"]) == 1 and keywords["out"][0].base is self else inputs[0]
        return _dressed(getattr(ufunc, method)(*map(_bare, inputs), **keywords))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called with a device array")

    def __getitem__(self, index: Any) -> Any:
        _refuse_host(index)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        _refuse_host((index, value))
        super().__setitem__(index, value)


def _refuse_host(value: Any) -> None:
    if isinstance(value, tuple | list):
        for part in value:
            _refuse_host(part)
    elif type(value) is np.ndarray and value.ndim:
        raise TypeError("a host array meets a device array")


def _bare(value: Any) -> Any:
    _refuse_host(value)
    if isinstance(value, tuple | list):
        return type(value)(_bare(part) for part in value)
    return value.view(np.ndarray) if isinstance(value, DeviceArray) else value


def _dressed(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_dressed(part) for part in value)
    return value.view(DeviceArray) if isinstance(value, np.ndarray) else value


class _Rules:
    """``xp`` of the stand-in."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if not callable(function) or isinstance(function, type | np.ufunc):
            return function
        return lambda *args, **keywords: _dressed(
            function(*map(_bare, args), **{key: _bare(value) for key, value in keywords.items()})
        )

    cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(memGetInfo=lambda: (1 << 34, 1 << 35)))

    @staticmethod
    def get_default_memory_pool() -> Any:
        return types.SimpleNamespace(free_bytes=lambda: 0)

    @staticmethod
    def asarray(array: Any) -> DeviceArray:
        return np.array(array).view(DeviceArray)

    @staticmethod
    def asnumpy(array: DeviceArray) -> np.ndarray:
        if not isinstance(array, DeviceArray):
            raise TypeError("a host array was asked back from the device")
        return np.array(array.view(np.ndarray))

    @staticmethod
    def repeat(array: Any, repeats: int, axis: int | None = None) -> Any:
        if not isinstance(repeats, int):
            raise TypeError("cupy.repeat takes no array of counts")
        return _dressed(np.repeat(_bare(array), repeats, axis))

    @staticmethod
    def unpackbits(array: Any, bitorder: str = "big") -> Any:
        return _dressed(np.unpackbits(_bare(array), bitorder=bitorder))

    @staticmethod
    def lexsort(keys: DeviceArray) -> Any:
        if not isinstance(keys, DeviceArray):
            raise TypeError("cupy.lexsort takes one array of keys")
        return _dressed(np.lexsort(_bare(keys)))

    @staticmethod
    def bincount(array: Any, weights: Any = None, minlength: int = 0) -> Any:
        if not array.size:
            raise ValueError("cupy.bincount takes the maximum of its argument: nothing empty")
        return _dressed(np.bincount(_bare(array), weights, minlength))

    @staticmethod
    def sort(array: Any, axis: int = -1) -> Any:
        return _dressed(np.sort(_bare(array), axis))

    @staticmethod
    def argsort(array: Any, axis: int = -1) -> Any:
        return _dressed(np.argsort(_bare(array), axis))


RULES: Any = _Rules()
