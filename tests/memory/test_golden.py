"""The bytes of a memory are a format: what a store holds today must be what it holds tomorrow, on any machine."""

from typing import Any

import pytest

from memodb.memory import WillshawConfiguration

DOCUMENTS = (
    (1, (5, 3, 99, 3, 5, 3, 99, 3, 5, 0, 1, 2)),
    (2**64 - 1, (5, 3, 99)),
    (2**40, ()),
    *((1000 + number, (7, 7, 7)) for number in range(300)),
)

GOLDEN = {
    (4, 2, 512, 4): "fe625bd61ab20bff09106fafbc07939551cae2e73781e8a44d517dc482bcd28b",
    (2, 3, 256, 2): "77c81e1851d362adba19b848d701d762f4acba9cbfb43f1c7bddee21476beb1e",
}


@pytest.mark.parametrize("shape", GOLDEN, ids=str)
def test_the_digest_of_a_fixed_segment(oracle: Any, shape: tuple[int, int, int, int]) -> None:
    """Where this fails, stores written before no longer match what is memorised now: a migration, not a new value."""
    heads, layers, columns, ones = shape
    configuration = WillshawConfiguration(vocabulary=100, heads=heads, layers=layers, columns=columns, ones=ones)
    world = oracle.World(configuration, DOCUMENTS, (16,) * (layers + 2))
    assert world.segment().digest() == GOLDEN[shape]
