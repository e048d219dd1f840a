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
    (4, 2, 512, 4): "cc3712d70e83a54ad5309825c4ab9812104198258e507cdb456678b2f644a860",
    (2, 3, 256, 2): "987885b3404e4e6bf87232e78294b3109208fa2fe8545ee904f62d019a329ce6",
}


@pytest.mark.parametrize("shape", GOLDEN, ids=str)
def test_the_digest_of_a_fixed_segment(oracle: Any, shape: tuple[int, int, int, int]) -> None:
    """Where this fails, tiles written before are memorised anew, and older receipts name other digests: to be told."""
    heads, layers, columns, ones = shape
    configuration = WillshawConfiguration(vocabulary=100, heads=heads, layers=layers, columns=columns, ones=ones)
    world = oracle.World(configuration, DOCUMENTS, (16,) * (layers + 2))
    assert world.segment().digest() == GOLDEN[shape]
