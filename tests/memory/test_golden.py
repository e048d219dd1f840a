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
    (4, 2, 512, 4): "384bff486e36daf39d6da984de85e933c9bba4a901fa9c2f487766656582e898",
    (2, 3, 256, 2): "866e636266e33807648e5f00d0fb3f72ac1b139d4fd06437c862509323837f80",
}


@pytest.mark.parametrize("shape", GOLDEN, ids=str)
def test_the_digest_of_a_fixed_segment(oracle: Any, shape: tuple[int, int, int, int]) -> None:
    """Where this fails, tiles written before are memorised anew, and older receipts name other digests: to be told."""
    heads, layers, columns, ones = shape
    configuration = WillshawConfiguration(vocabulary=100, heads=heads, layers=layers, columns=columns, ones=ones)
    world = oracle.World(configuration, DOCUMENTS, (16,) * (layers + 2))
    assert world.segment().digest() == GOLDEN[shape]
