"""All questions, asked of one store through its life and of some more for the cost; and the table of the answers."""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import memodb
from forgetting import cost, decoded, exactness, extraction, membership, residue
from forgetting.corpus import Canary, Split, canaries, docstrings, split
from forgetting.measures import Figure
from memodb.memory import CODES, Configuration, KohonenConfiguration, WillshawConfiguration

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
SEED = 2


@dataclass(frozen=True)
class Sizes:
    """How much is asked.

    Parameters
    ----------
    documents : int
        Forgotten, and never stored.
    pool : int or None
        Docstrings that are drawn; all by default.
    canaries : int
    attacked : int
        Texts of each group whose membership is inferred.
    some : int
        Texts of each group whose extraction strength is found, and on which the attacks are first tried.
    alone : int
        Documents deleted in a call each; the rest of the first third goes in one call.
    stores, lengths : tuple of int
        Tokens of the stores and of the documents deleted from them to measure the cost.
    repeats, verified : int
    batch : int
        Documents deleted in one call and in as many.
    """

    documents: int
    pool: int | None
    canaries: int
    attacked: int
    some: int
    alone: int
    stores: tuple[int, ...]
    lengths: tuple[int, ...]
    repeats: int
    verified: int
    batch: int


FULL = Sizes(500, None, 100, 200, 60, 50, (10_000, 100_000, 1_000_000), (100, 1000, 10_000), 3, 1, 100)
QUICK = Sizes(12, 48, 4, 12, 8, 2, (4_000, 8_000), (100, 1000), 1, 1, 5)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# -- one store through its life ----------------------------------------------------------------------------------------


def append(db: memodb.Store, groups: Split, secrets: list[Canary]) -> None:
    """Store what is kept and what will be forgotten, mixed; two thirds are in a checkpoint, the rest is not.

    A third of what will be forgotten is about one of ten subjects, to be deleted by them.
    """
    records = [{"id": name, "text": text} for name, text in groups.live.items()]
    for number, (name, text) in enumerate(groups.forgotten.items()):
        subject = {"subject": f"subject {number % 10}"} if number % 3 == 1 else {}
        records.append({"id": name, "text": text, **subject})
    records += [{"id": f"c{number}", "text": canary.text} for number, canary in enumerate(secrets)]
    random.Random(SEED).shuffle(records)
    cut = 2 * len(records) // 3
    db.append_many(records[:cut])
    db.checkpoint()
    db.append_many(records[cut:])


def delete(db: memodb.Store, groups: Split, secrets: list[Canary], alone: int) -> bool:
    """Delete by id, by subject, and in one call; whether every receipt that compared the memory verified it."""
    names = list(groups.forgotten)
    by_id, in_one_call = names[0::3], names[2::3]
    for name in by_id[:alone]:
        db.delete(name, verify=False)
    if by_id[alone:]:
        db.delete(*by_id[alone:], verify=False)
    subjects = sorted({document.subject for document in db.documents() if document.subject})
    for subject in subjects:
        db.delete(subject=subject, verify=False)
    receipt = db.delete(*in_one_call, *(f"c{number}" for number in range(len(secrets))))
    left = {document.id for document in db.documents()}
    if left != set(groups.live):
        raise SystemExit("the store does not hold the documents that were to stay, and no others")
    return receipt.verified


def life(place: Path, sizes: Sizes) -> list[Figure]:
    """Store, attack, delete, attack again, and search the files: all questions that one store answers."""
    groups = split(docstrings(SEED, sizes.pool), sizes.documents)
    secrets = canaries(sizes.canaries, SEED)
    forgotten, never = list(groups.forgotten.values()), list(groups.never.values())
    deleted = forgotten + [canary.text for canary in secrets]
    some = slice(0, sizes.some)
    store = place / "store"
    with memodb.connect(store, seed=random.Random(SEED).randbytes(32)) as db:
        append(db, groups, secrets)
        tokens = db.stats().tokens
        say(f"{len(db):,} documents, {tokens:,} tokens stored; attacking before the deletion")
        before = membership.attack(membership.measured(db, forgotten[some]), membership.measured(db, never[some]))
        stored = extraction.strengths(db, forgotten[some])
        told = {"stored": extraction.completed(db, secrets)}
        states = {"before the deletions": residue.snapshot(store, place / "before")}
        say(f"deleting {len(deleted):,} documents")
        verified = delete(db, groups, secrets, sizes.alone)
        states["after them, still open"] = residue.snapshot(store, place / "after")
        say("attacking after it")
        after = membership.attack(*(membership.measured(db, texts[: sizes.attacked]) for texts in (forgotten, never)))
        told["forgotten"] = extraction.completed(db, secrets)
        told["never stored"] = extraction.completed(db, canaries(sizes.canaries, SEED + 1))
        extracted = extraction.Extracted(
            stored, extraction.strengths(db, forgotten[some]), extraction.strengths(db, never[some]), told
        )
        say("asking for every context")
        kept = groups.live
        unknown = [
            [decoded.ask(db, texts, kept.values(), span) for span in decoded.SPANS] for texts in (deleted, never)
        ]
        traced = decoded.trace_all(db, deleted, kept), decoded.trace_all(db, never, kept)
        stats = db.stats()
        fields = [str(value) for record in db.export() for value in record.values()]
        tokenizer = db.tokenizer
    states["after them, closed"] = store
    say("searching every byte")
    left = residue.measure(deleted, fields, tokenizer, states)
    return [
        Figure("input", "documents, tokens stored at first", f"{len(kept) + len(deleted):,}, {tokens:,}"),
        *residue.figures(left),
        *decoded.figures(unknown[0], unknown[1], traced, stats.promised_false_recall or 1.0, stats.false_recall),
        *membership.figures(before, after),
        *extraction.figures(extracted),
        *_exactness(groups, tokenizer, verified),
    ]


def _exactness(groups: Split, tokenizer: memodb.Tokenizer, verified: bool) -> list[Figure]:
    first, second = groups.forgotten, groups.never
    tokens = sum(len(tokenizer.encode(text)) for text in (*first.values(), *second.values()))

    def left(configuration: Configuration) -> exactness.Residue:
        return exactness.measure(lambda: exactness.Stored(configuration, tokenizer, tokens, bytes(32)), first, second)

    words = tokenizer.vocabulary_size
    common = {span: exactness.shared(tokenizer, first, second, span) for span in (1, 4, 16)}
    return [
        *exactness.figures(left(WillshawConfiguration(words)), common, verified),
        *(
            exactness.beside(f"MeMo and {codes} codes", left(linear), exact=linear.exact)
            for codes in CODES
            for linear in [KohonenConfiguration(words, codes=codes, dim=256)]
        ),
    ]


def costs(place: Path, sizes: Sizes) -> list[Figure]:
    """Deletions from stores of their own."""
    found = []
    for tokens in sizes.stores:
        say(f"deleting from a store of {tokens:,} tokens")
        found += cost.measure(
            place / f"{tokens}", tokens, sizes.lengths, SEED, repeats=sizes.repeats, verified=sizes.verified
        )
    say("deleting many")
    batch = cost.many(place / "many", 3 * 100 * sizes.batch, sizes.batch, 100, SEED)
    return cost.figures(found, batch)


QUESTIONS: tuple[Callable[[Path, Sizes], list[Figure]], ...] = (life, costs)
"""Each gets an empty directory, and what it makes there goes with it."""


# -- the table ---------------------------------------------------------------------------------------------------------


def table(figures: list[Figure]) -> str:
    """Markdown of all figures."""
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}; "
        f"{time.strftime('%Y-%m-%d')}, commit {_commit()}, seed {SEED}.",
        "",
        "| question | figure | goal | reached | |",
        "| --- | --- | --- | --- | --- |",
    ]
    said = {True: "met", False: "missed", None: ""}
    lines += [f"| {f.question} | {f.label} | {f.goal} | {f.reached} | {said[f.held]} |" for f in figures]
    return "\n".join(lines)


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
        )
    except FileNotFoundError:  # the figures are worth more than their label
        return "unknown"
    return found.stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="What is left of a text that was deleted, measured on real text.")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="put the figures into DOCS/forgetting.md")
    parser.add_argument("--documents", type=int, metavar="N", help="documents to forget (500)")
    parser.add_argument("--quick", action="store_true", help="little text, in seconds; not with --write")
    given = parser.parse_args(arguments)
    if given.quick and given.write is not None:
        parser.error("--quick measures too little to be written down")
    sizes = QUICK if given.quick else FULL
    if given.documents is not None:
        if given.documents < 6:
            parser.error("--documents must be 6 or more: a third goes each way, and statistics need two of a group")
        sizes = Sizes(**{**vars(sizes), "documents": given.documents})
    figures: list[Figure] = []
    for ask in QUESTIONS:
        with tempfile.TemporaryDirectory() as place:
            figures += _timed(ask, Path(place), sizes)
    found = table(figures)
    print(found)
    if given.write is not None:
        page = given.write / "forgetting.md"
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}", "utf-8")
    return int(any(figure.held is False and not figure.timed for figure in figures))


def _timed(ask: Callable[[Path, Sizes], list[Figure]], place: Path, sizes: Sizes) -> list[Figure]:
    began = time.perf_counter()
    found = ask(place, sizes)
    say(f"{ask.__name__}: {time.perf_counter() - began:.0f} s")
    for figure in found:  # told at once: what comes after may take minutes
        say(f"   {figure.question}: {figure.label}: {figure.reached}")
    return found
