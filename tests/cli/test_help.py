"""Help: complete, true (its examples run), light, and the same in docs/cli.md."""

import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

import memodb
from memodb import proof
from memodb.cli import main
from memodb.cli.command import Command, Group, named
from memodb.cli.failures import EXIT_CODES
from memodb.cli.program import TOPICS
from memodb.proof.page import page

ROOT = Path(__file__).parents[2]
COMMANDS = {name: command for name, command in named(main.commands.values()) if isinstance(command, Command)}
GROUPS = {name: command for name, command in main.commands.items() if isinstance(command, Group)}
ERASURE, BACKUP = "9f2c4e61d0b85a7394e1c6f20a8b7d35", "1b7d35e6c2f04a8995d3a1c8e4f60b72"
"""Ids in the examples: the tests put real ones in their places."""
EXAMPLES = [line for command in COMMANDS.values() for line in command.examples]


def test_every_command_is_a_command_with_a_topic() -> None:
    assert COMMANDS.keys() == dict(named(main.commands.values())).keys()
    assert [c for commands in TOPICS.values() for c in commands] == list(main.commands.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_and_shows(name: str, call: Callable[..., Result]) -> None:
    said = call(*name.split(), "--help").stdout
    command = COMMANDS[name]
    assert "--json" in said
    assert command.examples
    assert command.short_help
    assert len((command.help or "").split()) >= 9
    assert "\n\n" not in (command.help or "").strip(), "one paragraph"
    assert said.endswith("Examples:\n" + "".join(f"  {line}\n" for line in command.examples))
    assert all(f"memodb {name}" in line or name in line.split() for line in command.examples)
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert [p.name for p in options if not p.help] == []


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"completion", "init"}))
def test_json_may_stand_before_and_behind(name: str, store: Path, call: Callable[..., Result]) -> None:
    # no arguments: most commands succeed, the others complain, all in JSON
    arguments = {
        "append": ["x", "--id", "x"], "import": ["nowhere"], "delete": ["sky", "--dry-run"], "get": ["sky"],
        "next": ["The"], "complete": ["The"], "score": ["The"], "trace": ["The"], "scan": ["--for", "The"],
        "backup": [str(store.parent / "there")], "restore": ["nowhere"], "sweep": ["--dry-run"],
        "expire": ["never", "sky"], "suppress": ["A text that nobody may store."], "subject export": ["alice"],
        "hold place": ["case-1", "sky"], "hold release": ["none", "--yes"], "hold export": ["none"],
        "quarantine add": ["none"], "quarantine release": ["none"], "receipt get": ["none"],
        "audit export": [str(store.parent / "log.jsonl")],
        "receipt verify": ["nowhere"], "receipt page": ["nowhere"], "audit verify": ["nowhere"],
    }.get(name, [])  # fmt: skip
    for line in (["--json", *name.split(), *arguments], [*name.split(), *arguments, "--json"]):
        result = CliRunner().invoke(main, line)
        said = (result.stdout or result.stderr).splitlines()
        assert [json.loads(one) for one in said], line
        assert "memodb:" not in result.stderr


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_lists_its_commands(name: str, call: Callable[..., Result]) -> None:
    said = call(name, "--help").stdout
    group = GROUPS[name]
    assert group.short_help
    assert len((group.help or "").split()) >= 9
    for own, command in group.commands.items():
        assert f"  {own} " in said
        assert (command.short_help or "").split()[0] in said
    assert call(name, code=2).stderr == said
    assert call(name, code=2).stdout == ""
    assert f"  {name} " in call("--help").stdout
    assert "No such command" in call(name, "nothing", code=2).stderr


@pytest.fixture(scope="session")
def _furnished(_made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A directory with all that the examples mention, and the real ids for those in them."""
    folder = tmp_path_factory.mktemp("furnished")
    shutil.copytree(_made, folder / "store")
    (folder / "notes").mkdir()
    (folder / "forgotten.txt").write_text("A text that nobody ever stored anywhere near this store.")
    (folder / "refused.txt").write_text("A text that is refused already.")
    (folder / "prompt.txt").write_text("The sky over the\n")
    (folder / "corpus.jsonl").write_text('{"text": "A line.", "id": "line"}\n')
    with memodb.connect(folder / "store") as db:
        (folder / "notes" / "harbour.txt").write_text(db.text("sky") + "\n")
        (folder / "tokenizer.json").write_bytes(db.tokenizer.json)
        db.collection("letters")
        backup = db.backup(folder / "sunday.backup").id
    with memodb.connect(folder / "store", read_only=True) as db:  # which cannot remember it
        db.backup(folder / "saturday.backup")
    with memodb.connect(folder / "store") as db:
        db.suppress((folder / "refused.txt").read_text())
        soon = datetime.now(UTC) + timedelta(seconds=0.5)
        db.append("What the tide left on the stairs.", id="old", expires_at=soon)
        db.append("What the gauge said at noon.", id="aside", source="sensor")
        db.append("What the court wants to see.", id="wanted")
        db.append("What nobody wants to see.", id="unwanted")
        db.quarantine("aside")
        db.hold("case-9", "wanted")
        db.delete("wanted")
        erasure = db.delete("unwanted")
        (folder / "receipt-17.json").write_text(json.dumps(erasure.signed))
    with memodb.connect(folder / "copy.memodb"):
        pass
    _write_proofs(folder)
    time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()))
    return folder, {ERASURE: erasure.id, BACKUP: backup}


@pytest.fixture
def real_ids(_furnished: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """The ids of what is there, by those in the examples."""
    return _furnished[1]


@pytest.fixture
def examples(_furnished: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory, the test's own; MEMODB_PATH names the store in it."""
    shutil.copytree(_furnished[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("MEMODB_PATH", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_proofs(folder: Path) -> None:
    """What somebody who checks an erasure was given: a receipt, its page, the log, an earlier head, the key."""
    signer = proof.Signer(proof.new_key())
    times = [datetime(2026, 5, 1, 8, 0, second, tzinfo=UTC) for second in range(3)]
    entries = [
        proof.Entry(0, times[0], "requested", id="ab" * 16, collection="cd" * 16),
        proof.Entry(1, times[1], "erased", id="ab" * 16, collection="cd" * 16),
    ]
    leaves = [entry.leaf() for entry in entries]
    heads = [proof.Head("ef" * 16, n, proof.Tree(leaves[:n]).root, times[2]).signed(signer) for n in (1, 2)]
    statement = {"id": "ab" * 16, "store": "ef" * 16, "collection": "cd" * 16, "documents": ["01" * 16],
                 "completed_at": proof.timestamp(times[1]), "verified": True}  # fmt: skip
    path = proof.inclusion_proof(leaves, 1)
    receipt = proof.signed(statement, signer, entry=entries[1], proof=path, head=heads[1])
    (folder / "public.pem").write_bytes(signer.public_pem)
    (folder / "head.json").write_text(json.dumps(heads[0]))
    (folder / "receipt.json").write_text(json.dumps(receipt, indent=1))
    (folder / "receipt.html").write_text(page(receipt), encoding="utf-8")
    with (folder / "audit.jsonl").open("wb") as file:
        proof.write_log(file, heads[1], entries)


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_runs(line: str, examples: Path, real_ids: dict[str, str]) -> None:
    for shown, real in real_ids.items():
        line = line.replace(shown, real)
    before, _, target = line.partition(" > ")
    data = b""
    for words in map(shlex.split, before.split(" | ")):
        if words[0] == "memodb":
            result = CliRunner().invoke(main, words[1:], input=data)
            assert result.exit_code == 0, result.stderr
            data = result.stdout_bytes
        else:
            data = subprocess.run(words, input=data, capture_output=True, check=True).stdout
    if target:
        (examples / target).write_bytes(data)
    assert data or "--output" in line


def test_the_examples_say_something(examples: Path, call: Callable[..., Result]) -> None:
    # a typo in a filter of an example would still exit with 0
    for line in EXAMPLES:
        if line.startswith(("memodb list --source", "memodb complete", "memodb trace", "memodb next")):
            assert len(call(*shlex.split(line)[1:]).stdout) > 3, line


def test_the_group_tells_the_exit_codes(call: Callable[..., Result]) -> None:
    said = call("--help").stdout
    for code, meaning in EXIT_CODES:
        assert f"  {code} " in said
        assert meaning.split()[0] in said
    assert call(code=2).stderr == said


def test_help_is_light() -> None:
    source = (
        "import sys\nfrom memodb.cli import main\n"
        "try:\n    main(sys.argv[1:], prog_name='memodb')\n"
        "finally:\n"
        "    heavy = {'numpy', 'scipy', 'sqlalchemy', 'tokenizers', 'alembic', 'cryptography', 'memodb.store'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    for arguments in (
        ["--help"],
        ["import", "--help"],
        ["receipt", "verify", "--help"],
        ["completion", "zsh"],
        ["list"],
        ["--version"],
    ):
        done = subprocess.run([sys.executable, "-c", source, *arguments], capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1] == "[]", arguments


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_cli_reference", ROOT / "tools" / "build_cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(generator: ModuleType) -> None:
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page()


def test_the_generator_sees_a_difference(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "PAGE", tmp_path / "cli.md")
    assert generator.run(["--check"]) == 1
    assert "build_cli_reference.py" in capsys.readouterr().err
    assert generator.run([]) == 0
    assert generator.run(["--check"]) == 0
    (tmp_path / "cli.md").write_text("old")
    assert generator.run(["--check"]) == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, call: Callable[..., Result], told: Callable[..., object]) -> None:
    script = call("completion", shell).stdout
    assert f"_MEMODB_COMPLETE={shell}_complete" in script
    assert told("completion", shell) == {"shell": shell, "script": script.removesuffix("\n")}
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(("words", "found"), [("memodb li", "list"), ("memodb receipt v", "verify")])
def test_completion_completes(words: str, found: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from memodb.cli import main; main(prog_name='memodb')"],
        env={"_MEMODB_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [f"plain,{found}"]
