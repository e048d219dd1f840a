"""What the hostile tests share: modules beside them, a small store to damage, and figures that can be quoted."""

import importlib.util
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(name: str) -> ModuleType:
    """A module beside this file: under ``--import-mode=importlib`` tests cannot import their neighbours."""
    qualified = f"hostile_{name}"
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
def size() -> Callable[..., int]:
    """Cases to run: see sizes.py."""
    return _load("sizes").size  # type: ignore[no-any-return]


@pytest.fixture
def covered(record_property: Callable[[str, Any], None], request: pytest.FixtureRequest) -> Callable[..., None]:
    """Say how much a test covered: in its report, and on stdout (``pytest -rP`` shows it)."""

    def say(**figures: Any) -> None:
        for name, figure in figures.items():
            record_property(name, figure)
        print(request.node.name, ", ".join(f"{name} {figure}" for name, figure in figures.items()))  # noqa: T201

    return say


@pytest.fixture(scope="session")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small store of every kind of file, and what it holds: see specimen.py."""
    return _load("specimen").Specimen.make(tmp_path_factory.mktemp("specimen"))


@pytest.fixture(scope="session")
def update() -> Callable[..., None]:
    """Change rows under seals that are right: see rows.py."""
    return _load("rows").update  # type: ignore[no-any-return]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Four GiB more than this process has: a claim that is believed ends in a MemoryError, not in the OOM killer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform != "linux":
        pytest.skip("RLIMIT_AS is not kept everywhere")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 30), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
