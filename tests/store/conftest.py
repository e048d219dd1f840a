"""What the tests of stores share."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import tokenizers


@pytest.fixture(scope="session")
def tokenizer_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[str]], Path]:
    """Train a byte-level tokenizer on texts: a token for most of their words, and a code for each to be drawn.

    A linear memory compares what it recalls with the code of every token, so a vocabulary of hundreds is answered from
    many times as fast as the shipped one.
    """

    def train(texts: Iterable[str]) -> Path:
        engine = tokenizers.Tokenizer(tokenizers.models.BPE())
        engine.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        engine.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False)
        engine.train_from_iterator(texts, trainer)
        path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
        engine.save(str(path))
        return path

    return train
