"""What the tests of processes and threads share: workers beside them, sizes, and figures that can be quoted."""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(name: str) -> ModuleType:
    """A module beside this file: under ``--import-mode=importlib`` tests cannot import their neighbours."""
    qualified = f"processes_{name}"
    if qualified not in sys.modules:
        spec = importlib.util.spec_from_file_location(qualified, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[qualified] = module
        spec.loader.exec_module(module)
    return sys.modules[qualified]


@pytest.fixture(scope="session")
def beside() -> Callable[[str], ModuleType]:
    """Import a module of this folder by its name."""
    return _load


@pytest.fixture(scope="session")
def seconds() -> Callable[..., float]:
    """How long a test runs: 3 s in the ordinary suite; 60 s times MEMODB_STRESS (default 1.0) under ``stress``."""

    def of(*, long: bool) -> float:
        return 60 * float(os.environ.get("MEMODB_STRESS", "1.0")) if long else 3.0

    return of


@pytest.fixture
def covered(record_property: Callable[[str, Any], None], request: pytest.FixtureRequest) -> Callable[..., None]:
    """Say how much a test covered: in its report, and on stdout (``pytest -rP`` shows it)."""

    def say(**figures: Any) -> None:
        for name, figure in figures.items():
            record_property(name, figure)
        print(request.node.name, ", ".join(f"{name} {figure}" for name, figure in figures.items()))  # noqa: T201

    return say
