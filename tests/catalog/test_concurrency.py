"""Several processes and threads at one catalog."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memodb.catalog import Catalog, Filters, documents, erasing, pragmas, registry
from memodb.errors import StoreLocked

HOLD = """
import sys
from memodb.catalog import Catalog, registry
with Catalog.open(sys.argv[1]) as catalog, getattr(catalog, sys.argv[2])() as session:
    registry.get_setting(session, "a")
    if sys.argv[2] == "write":
        registry.put_setting(session, "a", "theirs")
    print("held", flush=True)
    sys.stdin.readline()
print("done", flush=True)
"""


@contextmanager
def holder(path: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """Another process inside a session of this kind, until a line is written to it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.communicate("\n", timeout=30)
    assert process.returncode == 0


def test_a_second_writer_is_told_after_the_timeout(house: Any) -> None:
    with holder(house.path, "write"):
        started = time.monotonic()
        with pytest.raises(StoreLocked, match=r"catalog\.db") as caught, house.catalog.write():
            pytest.fail("the block was entered")
        assert 0.25 < time.monotonic() - started < 5
        assert caught.value.__cause__ is not None
        with house.catalog.read() as session:  # readers see the state before
            assert registry.get_setting(session, "a") is None
    with house.catalog.write() as session:
        assert registry.get_setting(session, "a") == "theirs"


def test_a_reader_sees_one_state_while_a_writer_commits(house: Any) -> None:
    with house.catalog.write() as session:
        registry.put_setting(session, "a", 1)
    with house.fresh() as reader, reader.read() as reading:
        assert registry.get_setting(reading, "a") == 1
        try:
            with house.catalog.write() as session:
                registry.put_setting(session, "a", 2)
                registry.put_setting(session, "b", 2)
        except StoreLocked:
            assert pragmas.journal_mode() != "wal"  # a rollback journal cannot commit under a reader
        else:
            assert pragmas.journal_mode() == "wal"
        assert (registry.get_setting(reading, "a"), registry.get_setting(reading, "b")) == (1, None)
    with house.catalog.write() as session:  # and the writer is none the worse
        registry.put_setting(session, "a", 3)
    with house.fresh() as reader, reader.read() as reading:
        assert registry.get_setting(reading, "a") == 3


def test_a_commit_of_another_process_changes_the_data_version(house: Any) -> None:
    before = house.catalog.data_version()
    with holder(house.path, "write"):
        assert house.catalog.data_version() == before
    assert house.catalog.data_version() != before


def hammer(catalog: Catalog, house: Any, writers: int, readers: int, rounds: int) -> None:
    """Writers move pairs of documents in and out; readers must never see half a pair."""
    problems: list[object] = []
    stop = threading.Event()

    def write(number: int) -> None:
        try:
            for turn in range(rounds):
                pair = [f"w{number}-{turn}-{side}" for side in "ab"]
                with catalog.write() as session:
                    documents.insert_many(session, house.collection, [house.new(name) for name in pair])
                if turn % 2:
                    with catalog.write() as session:
                        assert erasing.delete_many(session, house.collection, pair) == 2
        except BaseException as exc:
            problems.append(exc)

    def read() -> None:
        try:
            while not stop.is_set():
                with catalog.read() as session:
                    found = documents.select_ids(session, house.collection)
                    listed = documents.count(session, house.collection, Filters(source=None))
                    if len(found) % 2 or listed != len(found):
                        problems.append(found)
                time.sleep(0.002)
        except BaseException as exc:
            problems.append(exc)

    working = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    watching = [threading.Thread(target=read) for _ in range(readers)]
    for thread in working + watching:
        thread.start()
    for thread in working:
        thread.join()
    stop.set()
    for thread in watching:
        thread.join()
    assert problems == []
    with catalog.read() as session:
        assert documents.count(session, house.collection) == writers * rounds


@pytest.mark.parametrize("rounds", [10])
def test_threads_share_a_file(house: Any, rounds: int) -> None:
    with Catalog.open(house.path, keys=house.keys, timeout=30) as catalog:
        hammer(catalog, house, writers=3, readers=3, rounds=rounds)


def test_threads_share_a_catalog_in_memory(house: Any) -> None:
    with Catalog.create(":memory:", keys=house.keys, timeout=30) as catalog:
        with catalog.write() as session:
            house.collection = registry.add_collection(session, "default").id
            house.segment = registry.add_segment(session, house.collection, {}).id
        hammer(catalog, house, writers=3, readers=3, rounds=20)
        assert catalog.integrity() == []
