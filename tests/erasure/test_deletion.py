"""Deleting: exactly what was named, gone from every answer, with a receipt that says no more than was looked at."""

import importlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb.memory import Segment

verification = importlib.import_module("memodb.erasure.verification")
T0 = datetime(2031, 1, 1, tzinfo=UTC)
SECRET = "the password of the harbour master is swordfish and he told nobody but the cat about it"


def fill(db: memodb.Store) -> None:
    db.append(SECRET, id="a", source="x", subject="me", writer="w1", metadata={"page": 1}, expires_at=T0)
    db.append("another text of the harbour master", id="b", source="x", subject="you", metadata={"page": 2})
    db.append("the third one", id="c", source="y", writer="w1", expires_at=T0 + timedelta(days=9))


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"source": "x"}, ["a", "b"]),
    ({"subject": "me"}, ["a"]),
    ({"writer": "w1"}, ["a", "c"]),
    ({"metadata": {"page": 2}}, ["b"]),
    ({"ids": ["c", "a", "c"]}, ["a", "c"]),
    ({"expires_before": T0 + timedelta(days=1)}, ["a"]),
    ({"created_before": T0 + timedelta(days=9999)}, ["a", "b", "c"]),
    ({"created_after": datetime(2020, 1, 1, tzinfo=UTC)}, ["a", "b", "c"]),
    ({"source": "x", "metadata": {"page": 1}}, ["a"]),
]


@pytest.mark.parametrize(("filters", "gone"), FILTERS, ids=repr)
def test_a_filter_deletes_what_it_selects(
    fresh: Callable[..., memodb.Store], contents: Callable[..., Any], filters: dict[str, Any], gone: list[str]
) -> None:
    with fresh() as db:
        fill(db)
        before = contents(db)
        listed = db.delete(dry_run=True, **filters)
        assert (listed.documents, listed.dry_run, listed.committed, listed.verified) == (
            tuple(gone),
            True,
            False,
            False,
        )
        assert listed.tokens == sum(db.get(name).token_count for name in gone)
        assert contents(db) == before
        assert [d.id for d in db.documents(order="id", **filters)] == gone
        receipt = db.delete(reason="asked", **filters)
        assert sorted(receipt.documents) == gone
        assert receipt.tokens == listed.tokens
        assert (receipt.reason, receipt.collection, receipt.rows_left) == ("asked", "default", 0)
        assert receipt.committed
        assert receipt.verified
        assert receipt.requested_at <= receipt.completed_at
        assert sorted(d.id for d in db.documents()) == sorted({"a", "b", "c"} - set(gone))
        with pytest.raises(memodb.EmptySelection):
            db.delete(**filters)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("ids", "filters", "error"),
    [
        ((), {}, memodb.EmptySelection),
        ((), {"state": "live"}, memodb.InvalidInput),
        ((), {"metadata": {}}, memodb.EmptySelection),
        ((), {"ids": []}, memodb.EmptySelection),
        ((), {"source": "nobody"}, memodb.EmptySelection),
        (("a",), {"source": "x"}, memodb.InvalidInput),
        (("a", "zz"), {}, memodb.DocumentNotFound),
        (("zz",), {}, memodb.DocumentNotFound),
        (("a", ""), {}, memodb.InvalidInput),
        (("a", 5), {}, memodb.InvalidInput),
        ((["a"],), {}, memodb.InvalidInput),
        ((), {"colour": "x"}, memodb.InvalidInput),
        ((), {"source": 5}, memodb.InvalidInput),
        ((), {"ids": "a"}, memodb.InvalidInput),
        ((), {"created_before": datetime(2031, 1, 1)}, memodb.InvalidInput),
        (("a",), {"reason": 5}, memodb.InvalidInput),
    ],
)
def test_a_refused_deletion_deletes_nothing(
    fresh: Callable[..., memodb.Store],
    contents: Callable[..., Any],
    dry_run: bool,
    ids: Any,
    filters: Any,
    error: type[Exception],
) -> None:
    with fresh() as db:
        fill(db)
        before = contents(db)
        with pytest.raises(error):
            db.delete(*ids, dry_run=dry_run, **filters)
        assert contents(db) == before
        if not dry_run:
            with db.transaction(), pytest.raises(error):
                db.delete(*ids, **filters)
            assert contents(db) == before


def test_an_id_named_twice_is_deleted_once(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        fill(db)
        tokens = db.get("a").token_count
        receipt = db.delete("a", "a")
        assert (receipt.documents, receipt.tokens) == (("a",), tokens)


READS = """
import json, sys, memodb
db = memodb.connect(sys.argv[1], read_only=True)
secret = sys.argv[2]
def answers():
    words = secret.split()
    prompts = [" " + " ".join(words[:n]) for n in (1, 3, 6)] + [secret[: secret.index("swordfish")].rstrip()]
    context = db.tokenizer.encode(secret).tolist()
    return [
        [c.text for p in prompts for c in db.next_tokens(p)],
        [db.complete(p).text for p in prompts],
        db.score(secret).known,
        [s.text for s in db.trace(secret)],
        db.lookup([context[:n] for n in range(1, len(context))]).context_length.tolist(),
        [r["text"] for r in db.export()],
        [d.id for d in db.documents()],
        "a" in db, len(db), db.digest(),
    ]
"""


def test_what_is_deleted_is_in_no_answer_of_any_handle(
    fresh: Callable[..., memodb.Store], tmp_path: Path, in_process: Callable[..., str]
) -> None:
    """This handle, one that was open in this process, and one of another process that answered before and after."""
    with fresh(tmp_path / "s", false_recall=1e-9) as db:
        fill(db)
        with memodb.connect(tmp_path / "s", read_only=True) as reader:
            spaces: list[dict[str, Any]] = [{"db": handle, "sys": __import__("sys")} for handle in (db, reader)]
            source = READS.replace("db = memodb.connect(sys.argv[1], read_only=True)\n", "").replace(
                "secret = sys.argv[2]", f"secret = {SECRET!r}"
            )
            for space in spaces:
                exec(source, space)
            before = [json.dumps(space["answers"]()) for space in spaces]
            assert before[0] == before[1]
            assert "swordfish" in before[0]
            # the other process deletes nothing: it answers, waits for this one, and answers again
            other = READS + (
                "print(json.dumps(answers()), flush=True)\n"
                "from pathlib import Path\nimport time\n"
                "Path(sys.argv[3]).touch()\n"
                "while not Path(sys.argv[4]).exists(): time.sleep(0.01)\n"
                "print(json.dumps(answers()))\ndb.close()"
            )
            said: list[str] = []
            thread = threading.Thread(
                target=lambda: said.append(in_process(other, tmp_path / "s", SECRET, tmp_path / "1", tmp_path / "2"))
            )
            thread.start()
            while not (tmp_path / "1").exists():
                thread.join(0.01)
                assert thread.is_alive()
            assert db.delete("a").verified
            (tmp_path / "2").touch()
            thread.join(60)
            first, then = said[0].splitlines()
            after = [json.dumps(space["answers"]()) for space in spaces]
            assert first == before[0]
            assert after[0] == after[1] == then
            assert "swordfish" not in then
            for handle in (db, reader):
                for read in (handle.get, handle.text, handle.tokens):
                    with pytest.raises(memodb.DocumentNotFound):
                        read("a")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40)), min_size=1, max_size=12), st.data())
@settings(max_examples=5, deadline=None)
def test_a_deletion_leaves_the_memory_of_the_others(
    fresh: Callable[..., memodb.Store], prose: Callable[..., str], documents: Any, data: Any
) -> None:
    with fresh() as db, fresh() as never:
        texts = {f"{name}{i}": prose(words, i) for i, (name, words) in enumerate(documents)}
        gone = data.draw(st.lists(st.sampled_from(sorted(texts)), unique=True, max_size=len(texts)))
        for name, text in texts.items():
            db.append(text, id=name)
            if name not in gone:
                never.append(text, id=name)
        if gone:
            receipt = db.delete(*gone)
            assert receipt.verified
            assert set(receipt.documents) == set(gone)
            assert receipt.tokens == sum(len(db.tokenizer.encode(texts[name])) for name in gone)
        assert db.check().ok
        # one segment that never had to grow: the very bytes, without any compaction
        assert db.digest() == never.digest()


# -- receipts ------------------------------------------------------------------------------------------------------


def test_a_receipt_is_json_and_says_what_it_does_not_cover(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        fill(db)
        receipts = [db.delete("a", dry_run=True), db.delete("a", reason="r"), db.delete("b", "c", verify=False)]
        for receipt in receipts:
            told = json.loads(json.dumps(receipt.to_dict()))
            assert told["id"] == receipt.id
            assert told["verified"] == receipt.verified
            assert "backups" in told["limits"]
            assert SECRET not in json.dumps(told)
        assert len({receipt.id for receipt in receipts}) == 3
        assert [receipt.verified for receipt in receipts] == [False, True, False]
        (proof,) = receipts[1].segments
        assert proof.digest == proof.rebuilt_digest is not None
        assert receipts[2].rows_left == 0
        assert receipts[2].committed
        # the last documents: no memory is left, and none was made anew to compare it with
        (proof,) = receipts[2].segments
        assert (proof.digest, proof.rebuilt_digest, proof.compared, proof.verified) == (None, None, False, False)


def test_the_last_document_leaves_no_segment(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        empty = db.digest()
        fill(db)
        receipt = db.delete(source="x")
        assert receipt.verified
        receipt = db.delete("c")
        assert receipt.verified
        assert [(proof.digest, proof.rebuilt_digest) for proof in receipt.segments] == [(None, None)]
        assert db.digest() == empty
        assert db.stats().segments == ()


def test_in_a_transaction_a_receipt_claims_nothing(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        fill(db)
        with db.transaction():
            receipt = db.delete("a")
            assert (receipt.documents, receipt.committed, receipt.verified) == (("a",), False, False)
            assert receipt.segments == ()
        assert "a" not in db


def test_a_memory_that_kept_the_document_is_not_verified(
    fresh: Callable[..., memodb.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh() as db:
        fill(db)
        with monkeypatch.context() as patch:
            patch.setattr(Segment, "subtract", lambda self, contribution: None)
            receipt = db.delete("a")
        assert receipt.committed
        assert receipt.rows_left == 0
        assert not receipt.verified
        assert not receipt.to_dict()["verified"]
        assert db.score(SECRET).known > 0.9
        assert not db.check().ok
        assert db.check(fix=True).fixed
        assert db.check().ok
        assert db.score(SECRET).known < 0.9


@pytest.mark.parametrize("matrix", range(4))
def test_one_wrong_count_is_seen(fresh: Callable[..., memodb.Store], matrix: int) -> None:
    with fresh() as db:
        fill(db)
        (segment,) = db._collection._memory.segments.values()
        cells = segment.matrices[matrix].cells
        cells[cells.nonzero()[0][0]] += 1
        receipt = db.delete("a")
        assert not receipt.verified
        assert receipt.segments[0].compared


def test_a_damaged_codebook_cannot_vouch_for_itself(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        db._collection._memory.codebook.tokens.codes[:, 0] ^= 1
        fill(db)
        assert not db.delete("a").verified


def test_another_threads_commit_does_not_spoil_a_proof(
    fresh: Callable[..., memodb.Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with fresh(tmp_path / "s") as db:
        fill(db)
        other = threading.Thread(target=lambda: db.append("meanwhile", id="a"))
        rebuilt = verification.rebuilt

        def slow(*arguments: Any) -> Any:
            other.start()
            other.join(0.3)
            return rebuilt(*arguments)

        monkeypatch.setattr(verification, "rebuilt", slow)
        assert db.delete("a").verified
        other.join(10)
        assert db.text("a") == "meanwhile"
