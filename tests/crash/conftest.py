"""What the crash tests share: the compiled shim, the process that forks those who die, and a place for their stores.

Modules of this folder are imported as ``crash.<name>``: under ``--import-mode=importlib`` tests cannot import their
neighbours otherwise.
"""

import contextlib
import importlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
SHARED_MEMORY = Path("/dev/shm")

if "crash" not in sys.modules:
    _package = ModuleType("crash")
    _package.__path__ = [str(HERE)]
    sys.modules["crash"] = _package


@pytest.fixture(scope="session")
def beside() -> Callable[[str], ModuleType]:
    """Import a module of this folder by its name."""
    return lambda name: importlib.import_module(f"crash.{name}")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled shim.c, for LD_PRELOAD; skips where it cannot be built or preloaded."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the shim interposes glibc's functions: Linux only")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang) to build tests/crash/shim.c")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(library)]
    built = subprocess.run([*command, str(HERE / "shim.c"), "-ldl"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return library


@pytest.fixture(scope="session")
def zygote(shim: Path) -> Iterator[Any]:
    """A process that has memodb imported and forks a child a case."""
    with importlib.import_module("crash.harness").Zygote(shim) as process:
        yield process


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="memodb-crash-", dir=base, ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A fresh directory, in shared memory where there is some: thousands of stores are written to it."""
    with _directory() as made:
        yield made


@pytest.fixture(scope="session")
def stock(zygote: Any) -> Iterator[Any]:
    """The stores of the scenarios, each made when it is first asked for; and one copy at a time, to be hurt."""
    with _directory() as made:
        yield importlib.import_module("crash.harness").Stock(zygote, made)


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Record what a test covered: for the JUnit report, and for the summary at the end of the run."""

    def record(**counts: object) -> None:
        for name, value in counts.items():
            record_property(name, value)

    return record


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say the figures of the tests that passed, so that docs/reliability.md can quote them."""
    for report in terminalreporter.getreports("passed"):
        if "tests/crash/" in report.nodeid and report.user_properties:
            told = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in report.user_properties)
            terminalreporter.write_line(f"{report.nodeid.rsplit('/', 1)[-1]}: {told} ({report.duration:.1f} s)")
