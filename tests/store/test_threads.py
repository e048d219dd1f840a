"""Readers answer while a writer appends and deletes: every answer is one of the committed states."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import memodb

TEXT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen end"


@pytest.mark.parametrize("shared", [True, False])
def test_no_answer_is_torn(fresh: Callable[..., memodb.Store], tmp_path: Path, shared: bool) -> None:
    """Documents of the same text come and go in pairs: an odd count, or layers that disagree, was never committed."""
    with fresh(tmp_path / "s", false_recall=1e-9) as db, memodb.connect(tmp_path / "s", read_only=True) as other:
        handle = db if shared else other
        db.append(TEXT, id="0")
        prompt = TEXT[: TEXT.index(" end")]
        context = [db.tokenizer.encode(f" {prompt}").tolist()]
        context = [db.tokenizer.encode(prompt).tolist(), *context]
        digests, torn = {db.digest()}, list[object]()
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                found = handle.next_tokens(prompt)
                supports = {c.support for c in found if c.text == " end"}
                if len(supports) != 1 or not all(support % 2 for support in supports):
                    torn.append(found)
                if handle.score(TEXT).known != 1:
                    torn.append("score")
                if handle.lookup(context).context_length[0] != 16:
                    torn.append("lookup")
                seen.append(handle.digest())

        seen: list[str] = []
        readers = [threading.Thread(target=read) for _ in range(3)]
        for thread in readers:
            thread.start()
        try:
            for number in range(12):
                with db.transaction():
                    db.append(TEXT, id=f"a{number}")
                    db.append(TEXT, id=f"b{number}")
                digests.add(db.digest())
                if number % 3 == 2:
                    with db.transaction():
                        db.delete(f"a{number}", f"b{number}")
                        db.delete(f"a{number - 1}", f"b{number - 1}")
                    digests.add(db.digest())
                if number == 7:
                    db.compact()
                    digests.add(db.digest())
        finally:
            done.set()
            for thread in readers:
                thread.join(30)
        assert torn == []
        assert seen
        assert set(seen) <= digests
        assert handle.digest() == db.digest()
        assert db.check().ok


def test_many_first_questions_load_a_memory_once_and_whole(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    with fresh(tmp_path / "s") as db:
        db.append(TEXT, id="a")
        digest = db.digest()
    for read_only in (True, False):
        with memodb.connect(tmp_path / "s", read_only=read_only) as db:
            seen: list[str] = []
            threads = [threading.Thread(target=lambda db=db, seen=seen: seen.append(db.digest())) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            assert seen == [digest] * 6
