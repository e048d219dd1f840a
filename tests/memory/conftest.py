"""The oracle, and a device that can be had everywhere."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from memodb.memory import backend_for
from memodb.memory.backend import Backend, CudaBackend, FastBackend


def _load(name: str) -> ModuleType:
    """A module beside this file: under ``--import-mode=importlib`` tests cannot import their neighbours."""
    qualified = f"memory_{name}"
    if qualified not in sys.modules:
        spec = importlib.util.spec_from_file_location(qualified, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[qualified] = module
        spec.loader.exec_module(module)
    return sys.modules[qualified]


@pytest.fixture(scope="session")
def oracle() -> Any:
    """The module oracle.py."""
    return _load("oracle")


@pytest.fixture(scope="session")
def device_rules() -> Any:
    """The module device.py: NumPy that keeps CuPy's rules."""
    return _load("device")


@pytest.fixture(scope="session", params=["cpu", "fast", "cuda rules", "cuda"])
def backend(request: pytest.FixtureRequest, device_rules: Any) -> Backend:
    """Every backend that can be had: NumPy, compiled, CuPy's spelling on CuPy's rules, and CuPy on a device."""
    if request.param == "cpu":
        return Backend(np)
    if request.param == "fast":
        pytest.importorskip("numba", reason="numba is not installed")
        return FastBackend(worth=0)
    if request.param == "cuda rules":
        return CudaBackend(device_rules.RULES)
    chosen = backend_for("auto")
    if chosen.name != "cuda":
        pytest.skip("CuPy or a CUDA device is missing")
    return chosen
