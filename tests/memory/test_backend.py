"""One contract for every backend: the same bytes and the same answers as plain NumPy."""

import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memodb.errors import BackendUnavailable, InvalidConfiguration
from memodb.memory import DEVICES, Backend, backend_for
from memodb.memory import backend as backend_module
from memodb.memory.backend import CudaBackend
from memodb.memory.decoding import CodeTable

quick = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


class TestContract:
    @given(st.data())
    @quick
    def test_nothing_is_missed_and_answers_are_the_same(self, backend: Backend, oracle: Any, data: Any) -> None:
        world = data.draw(oracle.worlds(most=5))
        parts = data.draw(oracle.split(world.documents))
        memory, plain = world.memory(parts, backend), world.memory(parts)
        assert memory.digest() == plain.digest()
        for level, counts in enumerate(oracle.counted(world.configuration, world.documents)):
            truth = oracle.by_context(counts)
            found = oracle.answered(memory, list(truth), deepest=level)
            assert found == oracle.answered(plain, list(truth), deepest=level)
            for candidates, continuations in zip(found, truth.values(), strict=True):
                assert all(candidates[token] >= count for token, count in continuations.items())
        for _, tokens in world.documents:
            query = np.array(tokens, dtype=np.int64)
            for ours, theirs in zip(memory.documents(query), plain.documents(query), strict=True):
                assert [a.tolist() for a in ours] == [a.tolist() for a in theirs]
                assert all(type(a) is np.ndarray for a in ours)

    @given(st.data())
    @quick
    def test_forgetting_is_exact(self, backend: Backend, oracle: Any, data: Any) -> None:
        world = data.draw(oracle.worlds(most=5))
        documents = list(world.documents)
        gone = documents[: data.draw(st.integers(0, len(documents)))]
        segment = world.segment(backend=backend)
        leaving = [segment.contribution(oracle.batch_of([document])) for document in gone]
        assert segment.pass_rates(leaving) == segment.pass_rates()
        for contribution in leaving:
            segment.subtract(contribution)
        survivors = world.segment(documents[len(gone) :])
        oracle.assert_same(segment, survivors)
        assert segment.fitted(2.0) == survivors.fitted(2.0)
        assert segment.pass_rates() == pytest.approx(survivors.pass_rates(), rel=1e-12, abs=0)
        for matrix in segment.matrices:
            oracle.assert_views(matrix)

    def test_counts_beyond_a_byte(self, backend: Backend, oracle: Any) -> None:
        from memodb.memory import WillshawConfiguration

        documents = tuple((number, (1, 2, 3)) for number in range(700))
        world = oracle.World(WillshawConfiguration(vocabulary=9, window=2), documents, (10,) * 4)
        memory = world.memory(backend=backend)
        assert oracle.answered(memory, [(1, 2)])[0][3] == 700
        segment = memory.segments["0"]
        for low, high in ((0, 445), (445, 446), (446, 600)):
            segment.subtract(segment.contribution(oracle.batch_of(documents[low:high])))
            oracle.assert_same(segment, world.segment(documents[high:]))
            for matrix in segment.matrices:
                oracle.assert_views(matrix)

    @given(st.integers(0, 2**32 - 1), st.sampled_from([0, 0.05, 0.5, 1]))
    @quick
    def test_decoding(self, backend: Backend, seed: int, density: float) -> None:
        rng = np.random.default_rng(seed)
        codes = rng.integers(0, 64, (80, 4)) + np.arange(4) * 64
        bits = rng.random((6, 4, 64)) < density
        words = (bits * (np.uint64(1) << np.arange(64, dtype=np.uint64))).sum(axis=2, dtype=np.uint64)
        table = CodeTable(backend, backend.to_device(codes), 256)
        found = [backend.to_host(a).tolist() for a in table.decode(backend.to_device(words))]
        assert found == [a.tolist() for a in CodeTable(Backend(), codes, 256).decode(words)]

    @given(st.lists(st.integers(0, 5), max_size=30))
    @quick
    def test_ragged(self, backend: Backend, counts: list[int]) -> None:
        row, place = backend.ragged(backend.to_device(np.array(counts, dtype=np.int64)))
        found = list(zip(backend.to_host(row).tolist(), backend.to_host(place).tolist(), strict=True))
        assert found == [(number, at) for number, count in enumerate(counts) for at in range(count)]

    @pytest.mark.parametrize("shape", [(1, 1), (3, 8), (70_000, 8)])
    def test_zeros_begin_with_a_line_of_the_cache(self, backend: Backend, shape: tuple[int, int]) -> None:
        for dtype in (np.uint64, np.uint8):
            held = [backend.zeros(shape, dtype) for _ in range(4)]
            for array in held:
                assert array.shape == shape
                assert array.dtype == dtype
                assert array.flags.c_contiguous
                assert not array.any()
                if backend.name == "cpu":
                    assert array.ctypes.data % 64 == 0
                array[...] = 7  # may be written to, and is nobody else's
            assert all((array == 7).all() for array in held)

    def test_scatter_add_counts_repeats_and_wraps(self, backend: Backend) -> None:
        target = backend.to_device(np.array([0, 2**64 - 1], dtype=np.uint64))
        backend.scatter_add(
            target, backend.to_device(np.array([0, 0, 1])), backend.to_device(np.array([5, 6, 3], dtype=np.uint64))
        )
        assert backend.to_host(target).tolist() == [11, 2]

    def test_arrays_go_there_and_back(self, backend: Backend) -> None:
        array = np.arange(5, dtype=np.uint64)
        back = backend.to_host(backend.to_device(array))
        assert type(back) is np.ndarray
        assert back.dtype == array.dtype
        assert back.tolist() == array.tolist()


@given(st.lists(st.integers(0, 9), max_size=40))
def test_both_numberings_of_a_ragged_table_agree(counts: list[int]) -> None:
    array = np.array(counts, dtype=np.int64)
    for ours, theirs in zip(CudaBackend(np).ragged(array), Backend(np).ragged(array), strict=True):
        assert ours.tolist() == theirs.tolist()


def test_the_subclass_adds_no_public_name() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(CudaBackend) == public(Backend)


def test_the_stand_in_refuses_what_a_device_refuses(device_rules: Any) -> None:
    xp, host = device_rules.RULES, np.arange(4)
    device = xp.asarray(host)
    for refused in (
        lambda: device + host,
        lambda: host + device,
        lambda: device[host],
        lambda: xp.sort(host),
        lambda: np.sort(device),
        lambda: xp.repeat(device, device),
        lambda: xp.unpackbits(device.astype(np.uint8), axis=0),
        lambda: xp.lexsort((device, device)),
        lambda: xp.argsort(device, kind="stable"),
        lambda: xp.asnumpy(host),
    ):
        with pytest.raises(TypeError):
            refused()
    with pytest.raises(ValueError, match="bincount"):
        xp.bincount(device[:0], minlength=3)


class TestBackendFor:
    @pytest.mark.parametrize("name", ["gpu", "", "CPU", "cuda:0"])
    def test_unknown_names(self, name: str) -> None:
        with pytest.raises(InvalidConfiguration, match="cpu, cuda, auto"):
            backend_for(name)

    def test_the_cpu_is_always_there(self) -> None:
        assert DEVICES == ("cpu", "cuda", "auto")
        assert backend_for().name == backend_for("cpu").name == "cpu"
        assert backend_for("cpu").xp is np

    @pytest.mark.parametrize("devices", [None, 0, "no driver", 1])
    def test_the_gpu_where_it_is_there(self, monkeypatch: pytest.MonkeyPatch, devices: Any) -> None:
        class CUDARuntimeError(RuntimeError):
            pass

        def count() -> int:
            if devices == "no driver":
                raise CUDARuntimeError
            return int(devices)

        runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
        cupy = None if devices is None else SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        if devices == 1:
            assert backend_for("cuda").name == backend_for("auto").name == "cuda"
            assert backend_for("cuda").xp is cupy
        else:
            assert backend_for("auto").name == "cpu"
            with pytest.raises(BackendUnavailable, match=r"memodb\[cuda\]"):
                backend_for("cuda")


class TestSideBySide:
    """What :meth:`Backend.each` and :meth:`Backend.beside` promise, on several threads, whatever cores there are."""

    @pytest.fixture(autouse=True)
    def _two_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backend_module, "CORES", max(2, backend_module.CORES))

    @given(items=st.lists(st.integers(0, 9), max_size=9))
    @quick
    def test_results_are_in_order_also_where_one_asks_again(self, items: list[int]) -> None:
        backend = Backend()

        def powers(base: int) -> list[int]:
            return backend.each(lambda exponent: base**exponent, range(4), size=1 << 20)

        assert backend.each(powers, items, size=1 << 20) == [[1, n, n**2, n**3] for n in items]

    @given(failing=st.integers(0, 5))
    @quick
    def test_an_error_waits_for_what_was_begun(self, failing: int) -> None:
        begun, ended = [], []

        def work(number: int) -> None:
            begun.append(number)
            time.sleep(0.002 if number != failing else 0)
            ended.append(number)
            if number == failing:
                raise LookupError(str(number))

        with pytest.raises(LookupError, match=str(failing)):
            Backend().each(work, range(6), size=1 << 20)
        seen = list(begun)
        assert sorted(seen) == sorted(ended)
        time.sleep(0.005)
        assert begun == seen, "what was not begun with is not begun later"

    def test_two_are_at_work_at_a_time(self) -> None:
        both = threading.Barrier(2, timeout=30)
        assert sorted(Backend().each(lambda _: both.wait(), range(2), size=1 << 20)) == [0, 1]

    def test_what_is_begun_beside_is_at_work_before_it_is_asked_for(self) -> None:
        both = threading.Barrier(2, timeout=30)
        result = Backend().beside(lambda number: (both.wait(), number)[1], 7)
        both.wait()
        assert result() == 7

    def test_what_nobody_has_begun_with_is_done_by_who_asks(self) -> None:
        until = threading.Event()
        held = [Backend().beside(until.wait, 30) for _ in range(backend_module.CORES - 1)]
        assert Backend().beside(threading.get_ident)() == threading.get_ident()
        until.set()
        assert all(result() for result in held)

    def test_an_error_beside_is_raised_where_it_is_asked_for(self) -> None:
        result = Backend().beside(int, "seven")
        with pytest.raises(ValueError, match="seven"):
            result()

    @pytest.mark.parametrize("where", ["in a forked child", "at the interpreter's end"])
    def test_it_goes_on_where_threads_are_gone(self, where: str) -> None:
        script = """
import atexit, os, sys, threading
from memodb.memory import Backend, backend

both = threading.Barrier(2, timeout=30)

def ask():
    if backend.CORES > 1 and sys.argv[1] == "in a forked child":
        Backend().each(lambda _: both.wait(), range(2), size=1 << 20)
    assert Backend().each(str, range(5), size=1 << 20) == ["0", "1", "2", "3", "4"]
    assert Backend().beside(str, 5)() == "5"
    print("asked", flush=True)

ask()
if sys.argv[1] == "in a forked child":
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    ask()
else:
    atexit.register(ask)
"""
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr, done.returncode) == ("asked\nasked\n", "", 0)
