"""The lock between readers and the instant of a commit."""

import threading
import time
from collections.abc import Callable

import pytest

from memodb.collection.locks import SharedLock


def soon(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("never happened")


def test_readers_share() -> None:
    lock, both = SharedLock(), threading.Barrier(2)

    def read() -> None:
        with lock.shared():
            both.wait(10)

    thread = threading.Thread(target=read)
    thread.start()
    read()
    thread.join(10)
    assert not both.broken


def test_a_publisher_is_alone_and_goes_before_new_readers() -> None:
    lock, order = SharedLock(), list[str]()

    def publish() -> None:
        with lock.exclusive():
            order.append("publish")

    def read() -> None:
        with lock.shared():
            order.append("read")

    with lock.shared():
        publisher = threading.Thread(target=publish)
        publisher.start()
        soon(lambda: lock._waiting == 1)
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.05)
        assert order == []
    publisher.join(10)
    reader.join(10)
    assert order == ["publish", "read"]


def test_an_error_gives_the_lock_back() -> None:
    lock = SharedLock()
    for enter in (lock.shared, lock.exclusive, lock.shared, lock.exclusive):
        with pytest.raises(RuntimeError), enter():
            raise RuntimeError
    assert (lock._readers, lock._publishing, lock._waiting) == (0, False, 0)


def test_an_interrupted_wait_leaves_no_publisher_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = SharedLock()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lock._condition, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt), lock.exclusive():
            raise AssertionError("never entered")
    with lock.shared(), lock.shared():
        pass
    with lock.exclusive():
        pass


def test_two_halves_are_never_seen_apart() -> None:
    lock, state, torn, done = SharedLock(), [0, 0], list[object](), threading.Event()

    def read() -> None:
        while not done.is_set():
            with lock.shared():
                first = state[0]
                time.sleep(0)
                if first != state[1]:
                    torn.append((first, state[1]))

    def publish() -> None:
        for _ in range(150):
            with lock.exclusive():
                state[0] += 1
                time.sleep(0)
                state[1] += 1

    readers = [threading.Thread(target=read) for _ in range(3)]
    writers = [threading.Thread(target=publish) for _ in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join(30)
    done.set()
    for thread in readers:
        thread.join(10)
    assert state == [300, 300]
    assert torn == []
