"""What a crash test makes a store do, and what must be there afterwards: steps as data, and a model that is a dict.

The process that is killed and the one that looks afterwards both make the steps from the same seed, so that nothing but
"step 3 was acknowledged" has to be told between them. Nothing of memodb is imported here: the model must not share its
errors.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = [
    "BY_NAME",
    "DEFAULT",
    "OTHER",
    "SAMPLE",
    "SCENARIOS",
    "Scenario",
    "State",
    "Step",
    "after",
    "every_text",
    "random_steps",
    "seed_of",
    "source_of",
    "text_of",
]

DEFAULT, OTHER = "default", "other"
"""The two collections of a workload."""

State = frozenset[tuple[str, str, str]]
"""Every stored document as (collection, id, text)."""

_SOURCES = 3
_letters = random.Random(7)
_WORDS = ["".join(_letters.choices("abcdefghiklmnoprstu", k=_letters.randint(2, 8))) for _ in range(200)]


@dataclass(frozen=True)
class Step:
    """One call, or one transaction of calls.

    Parameters
    ----------
    do : str
        ``open``, ``append``, ``append_many``, ``transaction``, ``delete``, ``delete_source``, ``checkpoint``,
        ``compact``, ``reopen``, ``backup`` or ``restore``.
    collection : str
    drop : tuple of str
        Ids that are deleted, before anything is appended.
    put : tuple of (id, text)
        Documents that are appended; of ``restore``: what the store holds afterwards.
    source : str
        Of ``delete_source``: documents of this source go.
    verify : bool
        Whether a deletion is asked to prove itself.
    """

    do: str
    collection: str = DEFAULT
    drop: tuple[str, ...] = ()
    put: tuple[tuple[str, str], ...] = ()
    source: str = ""
    verify: bool = True


@dataclass(frozen=True)
class Scenario:
    """A store that was made and closed in peace, and the steps during which it is hurt."""

    name: str
    before: tuple[Step, ...]
    steps: tuple[Step, ...]


def source_of(document_id: str) -> str:
    """The source that a document is stored with: a function of its id, so that the model need not keep it."""
    return f"source {sum(document_id.encode()) % _SOURCES}"


def seed_of(collection: str) -> bytes:
    """The seed of a collection, known so that its memory can be compared with a new one's."""
    return hashlib.sha256(collection.encode()).digest()


def marker(document_id: str, version: int) -> str:
    """How a text begins: words that no other text has."""
    return f"Record {document_id} in its version {version}, signed {sum(document_id.encode()) * 7919 + version}:"


def text_of(document_id: str, version: int, words: int) -> str:
    """A text that begins with its own words and goes on with common ones."""
    chance = random.Random(f"{document_id} {version} {words}")
    return f"{marker(document_id, version)} {' '.join(chance.choices(_WORDS, k=words))}."


def after(state: State, step: Step) -> State | None:
    """The state that a step makes of another; None where the store must refuse it (no such document, id taken)."""
    if step.do == "restore":
        return frozenset((step.collection, document_id, text) for document_id, text in step.put)
    held = {document_id: text for collection, document_id, text in state if collection == step.collection}
    if step.do == "delete_source":
        drop = tuple(document_id for document_id in held if source_of(document_id) == step.source)
        if not drop:
            return None
    else:
        drop = step.drop
    for document_id in drop:
        if document_id not in held:
            return None
        del held[document_id]
    for document_id, text in step.put:
        if held.setdefault(document_id, text) != text:
            return None
    elsewhere = {found for found in state if found[0] != step.collection}
    return frozenset(elsewhere | {(step.collection, document_id, text) for document_id, text in held.items()})


def every_text(steps: Iterable[Step]) -> set[tuple[str, str, str]]:
    """All documents that steps ever append, as (collection, id, text)."""
    return {(step.collection, document_id, text) for step in steps for document_id, text in step.put}


def random_steps(seed: str, state: State = frozenset(), *, prefix: str = "d") -> Iterator[Step]:
    """Steps without end, each of which can be done if all before it were."""
    chance = random.Random(seed)
    serial = 0
    while True:
        collection = OTHER if chance.random() < 0.2 else DEFAULT
        held = sorted(document_id for name, document_id, _ in state if name == collection)
        kinds = ["append"] * 4 + ["append_many"] * 2 + ["transaction"] * 3 + ["checkpoint", "compact", "reopen"]
        if held:
            kinds += ["delete"] * 3 + ["delete_source"]
        do = chance.choice(kinds)
        count = {"append": 1, "append_many": chance.randint(2, 6), "transaction": chance.randint(0, 3)}.get(do, 0)
        drop: tuple[str, ...] = ()
        if held and do in ("delete", "transaction"):
            drop = tuple(chance.sample(held, min(len(held), chance.randint(1, 2))))
        put = []
        for _ in range(count):
            serial += 1
            words = chance.choice((8, 20, 20, 20, 40, 40, 150, 700))
            put.append((f"{prefix}{serial}", text_of(f"{prefix}{serial}", serial, words)))
        if do == "transaction" and drop and chance.random() < 0.6:
            put.append((drop[0], text_of(drop[0], serial + 1000, 20)))  # replaces a document
        if do == "transaction" and not drop and not put:
            continue
        source = source_of(chance.choice(held)) if do == "delete_source" else ""
        step = Step(do, collection, drop, tuple(put), source, verify=chance.random() < 0.5)
        becomes = after(state, step)
        assert becomes is not None
        state = becomes
        yield step


def _documents(prefix: str, count: int, words: int = 20, version: int = 1) -> tuple[tuple[str, str], ...]:
    return tuple((f"{prefix}{n}", text_of(f"{prefix}{n}", version, words)) for n in range(count))


_OPEN = Step("open")
_STOCK = (
    _OPEN,
    Step("append_many", put=_documents("a", 12)),
    Step("append_many", OTHER, put=_documents("b", 5)),
    Step("checkpoint"),
    Step("append", put=_documents("c", 1)),
)


def _mixed(seed: int, count: int = 6) -> Scenario:
    def take(name: str, state: State, many: int) -> tuple[tuple[Step, ...], State]:
        steps = []
        for step, _ in zip(
            random_steps(f"{name} {seed}", state, prefix=f"{name[0]}{seed}."), range(many), strict=False
        ):
            steps.append(step)
            state = after(state, step) or frozenset()
        return tuple(steps), state

    before, state = take("before", frozenset(), 8)
    steps, _ = take("mixed", state, count)
    return Scenario(f"mixed {seed}", (_OPEN, *before), (_OPEN, *steps))


SCENARIOS = (
    Scenario(
        "create", (), (_OPEN, Step("append", put=_documents("d", 1)), Step("append", OTHER, put=_documents("e", 1)))
    ),
    Scenario(
        "append",
        _STOCK,
        (
            _OPEN,
            Step("append", put=_documents("d", 1)),
            Step("append_many", put=_documents("e", 7, words=60)),
            Step("append", OTHER, put=_documents("f", 1, words=300)),
            Step("reopen"),
            Step("append", put=_documents("g", 1)),
        ),
    ),
    Scenario(
        "transaction",
        _STOCK,
        (
            _OPEN,
            Step("transaction", drop=("a1", "a4"), put=_documents("d", 2)),
            Step("transaction", drop=("a2",), put=(("a2", text_of("a2", 2, 30)),)),
            Step("checkpoint"),
            Step("transaction", drop=("a2",), put=(("a2", text_of("a2", 3, 30)), *_documents("e", 1))),
        ),
    ),
    Scenario(
        "checkpoint",
        _STOCK,
        (_OPEN, Step("checkpoint"), Step("append", put=_documents("d", 1)), Step("checkpoint")),
    ),
    Scenario(
        "delete",
        _STOCK,
        (
            _OPEN,
            Step("delete", drop=("a3",)),
            Step("delete", drop=("a5", "a6"), verify=False),
            Step("delete_source", source="source 1", verify=False),
            Step("checkpoint"),
            Step("delete_source", OTHER, source="source 0"),
            Step("append", put=(("a3", text_of("a3", 2, 20)),)),
        ),
    ),
    Scenario(
        "delete all",
        _STOCK,
        (
            _OPEN,
            Step("delete", OTHER, drop=tuple(f"b{n}" for n in range(5))),
            Step("append", OTHER, put=_documents("d", 1)),
        ),
    ),
    Scenario(
        "compact",
        (*_STOCK, Step("append", put=_documents("d", 1, words=400)), Step("delete", drop=("d0",))),
        (_OPEN, Step("compact"), Step("checkpoint"), Step("delete", drop=("a0",)), Step("compact")),
    ),
    Scenario(
        "grow",
        _STOCK,
        (
            _OPEN,
            Step("append", put=_documents("d", 1, words=1200)),
            Step("append", put=_documents("e", 1, words=2500)),
            Step("delete", drop=("d0",), verify=False),
            Step("reopen"),
            Step("transaction", drop=("e0",), put=_documents("f", 2)),
        ),
    ),
    Scenario(
        "backup",
        _STOCK,
        (_OPEN, Step("append", put=_documents("d", 1)), Step("backup"), Step("delete", drop=("d0",))),
    ),
    Scenario(
        "restore",
        (
            _OPEN,
            Step("append_many", put=_documents("a", 6)),
            Step("checkpoint"),
            Step("backup"),
            Step("transaction", drop=("a2",), put=_documents("d", 1)),
        ),
        # what was erased after the backup is erased again: the ledger tells
        (
            _OPEN,
            Step("restore", put=tuple(each for each in _documents("a", 6) if each[0] != "a2")),
            Step("delete", drop=("a3",)),
        ),
    ),
    *(_mixed(seed) for seed in range(8)),
)
"""Each kind of change by itself, then mixtures."""
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
SAMPLE = tuple(BY_NAME[name] for name in ("create", "checkpoint", "transaction", "delete"))
"""What the short samples of the ordinary suite are taken from."""
