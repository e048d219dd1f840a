"""A command line in this process, a real one in another, and a store that both can be pointed at."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import memodb
from memodb.cli import asking, main

SKY = "The sky over the harbour was the colour of slate."
TOWN = "The sky over the town was the colour of milk."


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMODB_PATH", "MEMODB_COLLECTION", "MEMODB_LEDGER", "MEMODB_ACTOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "store"
    with memodb.connect(path, segment_tokens=4096) as db:
        db.append(SKY, id="sky", source="notebook", subject="alice", metadata={"year": 1987})
        db.append(TOWN, id="town", source="notebook", writer="bob", metadata={"year": "1987"}, batch="monday")
    return path


@pytest.fixture
def store(_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of two documents in MEMODB_PATH, the test's own."""
    path = tmp_path / "store"
    shutil.copytree(_made, path)
    monkeypatch.setenv("MEMODB_PATH", str(path))
    return path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions are asked: the answers come from the call's stdin."""
    monkeypatch.setattr(asking, "_can_ask", lambda: True)


@pytest.fixture
def call() -> Callable[..., Result]:
    """Run a command in this process; its exit code is checked, but for None."""

    def run(*arguments: object, code: int | None = 0, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
        assert code in (None, result.exit_code), (result.exit_code, result.output, result.stderr)
        return result

    return run


@pytest.fixture
def told(call: Callable[..., Result]) -> Callable[..., Any]:
    """Run a command with --json; what its stdout says."""

    def run(*arguments: object, **how: Any) -> Any:
        return json.loads(call(*arguments, "--json", **how).stdout)

    return run


@pytest.fixture
def error(call: Callable[..., Result]) -> Callable[..., Any]:
    """Run a command with --json that fails; what its stderr says, last line."""

    def run(*arguments: object, **how: Any) -> Any:
        result = call("--json", *arguments, **how)
        assert result.stdout == ""
        return json.loads(result.stderr.splitlines()[-1])["error"]

    return run


@pytest.fixture
def spawn() -> Callable[..., "subprocess.Popen[bytes]"]:
    """Start the command line in a process of its own, with warnings as errors."""

    def start(*arguments: object, **how: Any) -> "subprocess.Popen[bytes]":
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = {**os.environ, **how.pop("env", {})}
        command = [sys.executable, "-W", "error", "-m", "memodb", *map(str, arguments)]
        return subprocess.Popen(command, env=environment, **(pipes | how))

    return start


@pytest.fixture
def done(spawn: Callable[..., "subprocess.Popen[bytes]"]) -> Callable[..., tuple[int, bytes, bytes]]:
    """Run the command line in a process of its own: exit code, stdout, stderr."""

    def run(*arguments: object, stdin: bytes = b"", **how: Any) -> tuple[int, bytes, bytes]:
        with spawn(*arguments, **how) as process:
            out, err = process.communicate(stdin, timeout=60)
            return process.returncode, out, err

    return run
