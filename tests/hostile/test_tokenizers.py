"""Hostile tokenizer files: InvalidConfiguration or InvalidText; no panic of the library, no gigabytes.

Each runs in a process of its own with little memory to take: a library in Rust that cannot allocate aborts.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memodb

WORDS: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "b": 2}, "unk_token": "[UNK]"},
}


def words(**changes: Any) -> str:
    return json.dumps({**WORDS, **changes})


def vocabulary(vocab: Any, **more: Any) -> str:
    return words(model={"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]", **more})


def charsmap(text: str) -> str:
    return words(normalizer={"type": "Precompiled", "precompiled_charsmap": text})


def inside(normalizer: Any) -> str:
    return words(normalizer={"type": "Sequence", "normalizers": [{"type": "Lowercase"}, normalizer]})


REFUSED = {
    "nothing": "",
    "null": "null",
    "a list": "[]",
    "a number": "1e999",
    "not UTF-8": "\udcff",
    "deep lists": "[" * 100_000,
    "deep objects": '{"a":' * 50_000,
    "no model": json.dumps({"version": "1.0"}),
    "unknown model": words(model={"type": "Exec", "vocab": {}}),
    "empty vocabulary": vocabulary({}),
    "vocabulary as list": vocabulary(["a"]),
    "negative id": vocabulary({"[UNK]": -1}),
    "id as text": vocabulary({"[UNK]": "0"}),
    "id of 2**31 - 5": vocabulary({"[UNK]": 2**31 - 5}),
    "id of 2**30": vocabulary({"[UNK]": 0, "a": 2**30}),
    "id of 2**32": vocabulary({"[UNK]": 2**32}),
    "id of 2**64": vocabulary({"[UNK]": 2**64}),
    "charsmap of three bytes": charsmap("AAAA"),
    "charsmap of none": charsmap(""),
    "charsmap of 4 GiB": charsmap("/////wAAAA=="),
    "charsmap in a sequence": inside({"type": "Precompiled", "precompiled_charsmap": "/////wAAAA=="}),
    "charsmap that is no base64": charsmap("!!!!"),
    "chunks of nothing": words(pre_tokenizer={"type": "FixedLength", "length": 0}),
    "no regular expression": words(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Removed", "invert": False}
    ),
    "merge of an unknown token": words(model={"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}),
    "dropout": words(model={"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": ["a a"], "dropout": 0.5}),
    "unigrams of nothing": words(model={"type": "Unigram", "vocab": [], "unk_id": 0}),
    "unknown beyond the vocabulary": words(model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}),
}
"""Each must be refused when a store is bound to it."""

HARMLESS = {
    "charsmap out of bounds": charsmap("BAAAAP////8AAAAA"),
    "truncation": words(truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}),
    "padding": words(
        padding={
            "strategy": {"Fixed": 1000},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 9,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        }
    ),
    "everything replaced": words(normalizer={"type": "Replace", "pattern": {"Regex": ".*"}, "content": "a"}),
    "longer than it was": words(normalizer={"type": "Prepend", "prepend": "a " * 1000}),
    "every id the same": vocabulary({"[UNK]": 0, "a": 0, "b": 0}),
    "decoder that strips": words(decoder={"type": "Strip", "content": "a", "start": 10**18, "stop": 0}),
    "template": words(
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "a", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        }
    ),
    "special token": words(
        added_tokens=[
            {
                "id": 1,
                "content": "a",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ]
    ),
    "no unknown token": vocabulary({"a": 0}, unk_token="[X]"),
}
"""Each may be bound; texts must come back as they were given, or be refused."""

CHILD = """
import json, os, resource, sys
import memodb, tokenizers

# All that is loaded lazily, once, and without starting the library's threads: each case is a fork of this process.
memodb.connect(":memory:").close()
limit = 4 << 30
folder = sys.argv[1]


def attempt(name):
    path, store = os.path.join(folder, name), os.path.join(folder, "s " + name)
    try:
        where = store if name in refused else ":memory:"
        with memodb.connect(where, tokenizer=path, segment_tokens=4096, layers=1) as db:
            for text in ["a b a b", "", "c \\u1234 d", "a" * 50]:
                try:
                    assert db.text(db.append(text).id) == text
                    db.next_tokens(text), db.score(text), db.trace(text), db.complete(text, 4)
                except memodb.InvalidText:
                    pass
            assert db.check().ok
        return "bound"
    except memodb.InvalidInput as exc:
        return "something was left behind" if os.path.exists(store) else type(exc).__name__
    except BaseException as exc:
        return f"UNTYPED {type(exc).__name__}: {str(exc)[:200]}"


refused, harmless = json.loads(sys.stdin.read())
for name in refused + harmless:
    sys.stdout.flush()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        sys.stdout.write(json.dumps([name, attempt(name)]) + "\\n")
        sys.stdout.flush()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        print(json.dumps([name, f"DIED of signal {os.WTERMSIG(status)}"]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of every case, each in a process of its own."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for name, text in {**REFUSED, **HARMLESS}.items():
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(folder)],
        input=json.dumps([[*REFUSED], [*HARMLESS]]),
        env={
            **os.environ,
            "PYTHONPATH": str(Path(memodb.__file__).parents[1]),
            "RUST_BACKTRACE": "0",
            "TOKENIZERS_PARALLELISM": "false",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_tokenizer_is_refused(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == "InvalidConfiguration"


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
@pytest.mark.parametrize("name", HARMLESS)
def test_a_strange_tokenizer_loses_nothing(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == "bound"
