"""The main job on real input: memorise Python's documentation topics, ask, trace, forget, and prove it.

Run by ``make demo``. The topics are those of ``help()``: 79 or more pages of prose that every Python carries.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics

import memodb
from memodb.proof import verify

FORGOTTEN = "debugger"
PAGE = topics[FORGOTTEN]
SENTENCE = " ".join(next(part for part in PAGE.split("\n\n")[1:] if len(part) > 80).split())
OPENING = " ".join(SENTENCE.split()[:5])
PROMPTS = ("The following statement", "A class definition", OPENING)


def say(line: str = "") -> None:
    print(line, flush=True)


def headline(line: str) -> None:
    say(f"\n\033[1m{line}\033[0m" if sys.stdout.isatty() else f"\n== {line}")


def memorise(db: memodb.Store, pages: dict[str, str]) -> None:
    total = sum(map(len, pages.values()))
    began = time.perf_counter()

    def progress(so_far: memodb.AppendResult) -> None:
        share = so_far.characters / total
        say(f"   [{'#' * round(30 * share):30}] {share:4.0%}  {so_far.appended} documents, {so_far.tokens:,} tokens")

    records = [{"id": name, "text": text, "source": "pydoc_data.topics"} for name, text in pages.items()]
    result = db.append_many(records, progress=progress)
    seconds = time.perf_counter() - began
    say(f"   {total:,} characters in {seconds:.1f} s: {result.tokens / seconds:,.0f} tokens/s, durable")


def show_completion(db: memodb.Store, prompt: str, max_tokens: int = 28) -> memodb.Completion:
    completion = db.complete(prompt, max_tokens)
    text = " ".join(completion.text.split())
    rests = (
        f", each step on {min(s.chosen.context_length for s in completion.steps)}+ tokens" if completion.steps else ""
    )
    say(f"   {prompt!r} -> {text!r}")
    say(f"      stopped: {completion.stop_reason}{rests}")
    return completion


def show_trace(db: memodb.Store, text: str) -> list[memodb.Span]:
    spans = db.trace(text)
    for span in spans:
        where = ", ".join(f"{source.id} at {source.offset}" for source in span.documents)
        say(f"   characters {span.start}-{span.end} ({span.tokens} tokens) stand in: {where}")
    if not spans:
        say("   no stored document holds eight tokens of it in a row")
    return spans


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, memodb.connect(Path(folder) / "topics.memodb") as db:
        headline(f"Memorise {len(topics)} topics of Python's documentation")
        memorise(db, topics)

        headline("Complete: what is stored, and a stop where nothing is")
        show_completion(db, PROMPTS[0])
        after_last = ", ".join(f"{c.text!r} ({c.support} documents)" for c in db.next_tokens(PROMPTS[0], k=3))
        say(f"      no topic says these words; their last one alone is followed by {after_last}")
        known = [show_completion(db, prompt) for prompt in PROMPTS[1:]][-1]

        headline("Score: a stored sentence and the same words in another order")
        begin = PAGE.index(" ".join(OPENING.split()[:2]))
        quoted = PAGE[begin : PAGE.index(".", begin)]
        for text in (quoted, " ".join(reversed(quoted.split()))):
            score = db.score(text)
            say(f"   {score.known:4.0%} of tokens known, log probability {score.log_probability:8.1f}: {text!r}")

        headline(f"Trace: a quotation of {FORGOTTEN!r}, altered in the middle")
        quotation = f"{PAGE[300:520]}, or so they say, {PAGE[520:760]}"
        before = show_trace(db, quotation)

        headline(f"Delete {FORGOTTEN!r}")
        receipt = db.delete(FORGOTTEN, reason="demonstration", scan=True)
        say(
            f"   {len(receipt.documents)} document, {receipt.tokens:,} tokens; "
            f"rows left in the catalog: {receipt.rows_left}"
        )
        for proof in receipt.segments:
            same = "equal" if proof.verified else "DIFFERENT"
            say(f"   memory after     {(proof.digest or 'dropped')[:32]}...")
            say(f"   memory rebuilt   {(proof.rebuilt_digest or 'dropped')[:32]}...  {same}, byte for byte")
        signed = receipt.signed or {}
        for name in ("catalog", "journal", "tiles", "keys", "scan"):
            layer = signed["statement"]["layers"][name]
            say(f"   {name:<15}  {layer['result']}: {layer['method']}")
        verdict = verify(signed, public_key=db.public_key.encode())
        valid = "valid" if verdict.valid else "NOT VALID"
        say(f"   receipt          signed, {valid}, in a log of {verdict.size} entries")
        say("   the same questions again:")
        gone = show_completion(db, PROMPTS[2])
        after = show_trace(db, quotation)
        quiet = all(source.id != FORGOTTEN for span in after for source in span.documents)

        headline("Compare with a store that never saw it")
        db.compact()
        with memodb.connect(":memory:", seed=db.seed) as fresh:
            others = {name: text for name, text in reversed(topics.items()) if name != FORGOTTEN}
            fresh.append_many({"id": name, "text": text} for name, text in others.items())
            fresh.compact()
            same_digest = db.digest() == fresh.digest()
            say(f"   digest here      {db.digest()[:32]}...")
            say(f"   digest there     {fresh.digest()[:32]}...  {'equal' if same_digest else 'DIFFERENT'}")

        headline("Check everything against everything")
        report = db.check()
        say(
            f"   {report.documents} documents, {report.segments} segment(s): "
            f"{'sound' if report.ok else report.findings}"
        )
        stats = db.stats()
        cells = sum(s.layer_cells + s.provenance_cells for s in stats.segments) / stats.tokens
        say(f"   {cells:.0f} cells and {stats.memory_bytes / stats.tokens:.0f} bytes of memory a token, "
            f"{stats.disk_bytes / stats.tokens:.1f} on disk; "
            f"false recall at most {stats.false_recall:.2%} (promised {stats.promised_false_recall:.2%})")  # fmt: skip

    proven = receipt.verified and verdict.valid
    held = bool(before) and proven and quiet and gone.text != known.text and same_digest and report.ok
    say("\nEverything above was verified." if held else "\nSOMETHING DID NOT HOLD: see above.")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
