"""The tokenizer: nothing lost, nothing added, and every refusal names its reason."""

import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

import memodb.text
from memodb.errors import InvalidConfiguration, InvalidInput, InvalidText
from memodb.text import MAX_TEXT_CHARACTERS, Tokenizer, check_text
from memodb.text.tokenizer import _cut

SHIPPED = Tokenizer.shipped()

# Hypothesis seldom joins what matters here, so fragments of it are mixed with arbitrary characters.
FRAGMENTS = [
    "The cat's whiskers don't lie. ",
    "def f(self, x):\n        return self.snake_case[0:12] == 0x1F\n\n\n",
    "\t\t\tif x:\r\n\t\t\t\tpass\r\n",
    "naïve cafe\u0301 A\u030a\u0327 Å Å ﬁ ½",
    "日本語のテキスト。中文，没有空格。한국어",
    "עברית مع العربية \u202eabc\u202c",
    "हिन्दी क्\u200dष ไทยไม่มีช่องว่าง தமிழ்",
    "👩\u200d👩\u200d👧\u200d👦🏳️\u200d🌈👍🏽",
    "\x00\x01\x7f\x85\u2028\u2029\ufeff\ufffd\ufffe\uffff\U0010ffff",
    "<|endoftext|><s>[MASK]</s>",
    "Ġ Ċ ĠĠ â€™",
    "   \u00a0\u3000\u2003 x",
    "=" * 70,
    " " * 200,
    "a" * 200,
    "9" * 100,
]
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(CHARACTERS, max_size=12)), max_size=6).map("".join)


def lower_casing() -> bytes:
    """A word tokenizer that lower-cases, drops blanks and has an unknown token."""
    words = {"[UNK]": 0, "the": 1, "cat": 2, "sat": 3, "##s": 5}  # 4 is a hole
    engine = tokenizers.Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    engine.normalizer = normalizers.Lowercase()
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.decoder = decoders.WordPiece()
    return engine.to_str().encode()


# --- round trip ----------------------------------------------------------------------------------------------------


@given(TEXTS)
@example("")
@example(" ")
@example("".join(FRAGMENTS))
def test_any_text_comes_back_character_for_character(text: str) -> None:
    ids = SHIPPED.encode(text)
    assert ids.dtype == np.int32
    assert ids.shape == (len(ids),)
    assert SHIPPED.decode(ids) == text
    assert SHIPPED.reproduces(text, ids)


def test_every_character_of_unicode_comes_back() -> None:
    planes = [range(start, min(start + 0x1000, 0x110000)) for start in range(0, 0x110000, 0x1000)]
    texts = ["".join(chr(c) for c in plane if not 0xD800 <= c <= 0xDFFF) for plane in planes]
    for text, ids in zip(texts, SHIPPED.encode_many(texts), strict=True):
        assert SHIPPED.decode(ids) == text


@given(st.lists(TEXTS, max_size=8))
def test_many_texts_are_encoded_as_each(texts: list[str]) -> None:
    many = SHIPPED.encode_many(texts)
    assert len(many) == len(texts)
    for text, ids in zip(texts, many, strict=True):
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, SHIPPED.encode(text))


def test_many_texts_are_encoded_as_each_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memodb.text.tokenizer._BATCH_CHARACTERS", 7)
    texts = ["", "a", "bb cc", "a longer text than a batch", "", "x" * 6, "y", "last", ""]
    for text, ids in zip(texts, SHIPPED.encode_many(iter(texts)), strict=True):
        assert SHIPPED.decode(ids) == text


@given(st.binary(max_size=40).map(list))
def test_any_ids_decode_even_halves_of_characters(ids: list[int]) -> None:
    """The 256 byte tokens come first in the vocabulary."""
    assert isinstance(SHIPPED.decode(ids), str)
    assert SHIPPED.pieces(ids) == [SHIPPED.piece(i) for i in ids]


def test_a_piece_of_a_character_is_a_replacement_character() -> None:
    ids = SHIPPED.encode("\U0002a6b2")  # a rare ideograph: no token of its own
    assert len(ids) > 1
    assert "\ufffd" in SHIPPED.piece(int(ids[0]))
    assert SHIPPED.decode(ids) == "\U0002a6b2"


def test_what_is_no_id_is_refused_also_where_its_number_was_asked_before() -> None:
    assert SHIPPED.piece(1) == SHIPPED.decode([1])
    for wrong in (True, 1.0, "1", None, [1]):
        with pytest.raises(InvalidInput):
            SHIPPED.piece(wrong)  # type: ignore[arg-type]
    assert SHIPPED.piece(np.int64(1)) == SHIPPED.piece(1)  # type: ignore[arg-type]


# --- offsets -------------------------------------------------------------------------------------------------------


@given(TEXTS)
def test_offsets_cover_the_text_in_order(text: str) -> None:
    ids, offsets = SHIPPED.encode_with_offsets(text)
    np.testing.assert_array_equal(ids, SHIPPED.encode(text))
    assert ids.dtype == np.int32
    assert offsets.dtype == np.int64
    assert offsets.shape == (len(ids), 2)
    assert (offsets[:, 0] < offsets[:, 1]).all()
    assert (np.diff(offsets, axis=0) >= 0).all()
    if text:
        assert offsets[0, 0] == 0
        assert offsets[-1, 1] == len(text)
    # Each token begins where its predecessor ended, or inside the one character that both share.
    following, before = offsets[1:, 0], offsets[:-1, 1]
    assert ((following == before) | (following == before - 1)).all()


@given(TEXTS, st.data())
def test_a_range_of_offsets_holds_what_its_tokens_say(text: str, data: st.DataObject) -> None:
    ids, offsets = SHIPPED.encode_with_offsets(text)
    if not len(ids):
        return
    first = data.draw(st.integers(0, len(ids) - 1))
    last = data.draw(st.integers(first, len(ids) - 1))
    covered = text[offsets[first, 0] : offsets[last, 1]]
    said = SHIPPED.decode(ids[first : last + 1])
    assert said.strip("\ufffd") in covered
    if "\ufffd" not in said:
        assert said == covered


def byte_level_of_a_kind(kind: str) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """The shipped one with something that sets tokens and the text's bytes apart, or seems to."""
    engine = tokenizers.Tokenizer.from_str(SHIPPED.json.decode())
    split, byte_level = pre_tokenizers.Split(tokenizers.Regex(r" ?\w+|."), "isolated"), pre_tokenizers.ByteLevel
    if kind == "prefix":
        engine.pre_tokenizer = byte_level(add_prefix_space=True)
    elif kind == "removing":
        engine.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(".", "removed"), byte_level(add_prefix_space=True)]
        )
    elif kind == "normalising":
        engine.normalizer = normalizers.NFC()
        engine.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level(add_prefix_space=False)])
    elif kind == "trimming":
        engine.post_processor = tokenizers.processors.ByteLevel(trim_offsets=True)
    elif kind == "adding":
        added = ("é", "日本", "a\ufffdb", "ab ", "\na")
        engine.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in added])
    engine.encode_special_tokens = True
    return Tokenizer.from_bytes(engine.to_str().encode()), engine


KINDS = {
    kind: byte_level_of_a_kind(kind) for kind in ("none", "prefix", "removing", "normalising", "trimming", "adding")
}


@given(st.one_of(TEXTS, st.text(st.sampled_from("ab. é日本\u0301\ufffd"))), st.sampled_from(sorted(KINDS)))
@example("a. b", "removing")
@example(" a b", "trimming")
def test_offsets_are_those_of_the_library(text: str, kind: str) -> None:
    bound, engine = KINDS[kind]
    wanted = engine.encode(text, add_special_tokens=False)
    ids, offsets = bound.encode_with_offsets(text)
    assert ids.tolist() == wanted.ids
    assert [tuple(pair) for pair in offsets.tolist()] == wanted.offsets


LINES = st.one_of(TEXTS, st.text(st.sampled_from("a1 \t\r\n\u2028'’.")))


@given(LINES, st.integers(1, 40), st.sampled_from(["none", "adding"]))
@example("a \n\n b", 1, "none")
@example("a1\na2", 1, "adding")
def test_a_long_text_is_encoded_in_parts_as_it_is_whole(text: str, size: int, kind: str) -> None:
    """Also by one that was bound, of which nobody knows whether lines are apart."""
    _, library = KINDS[kind]
    tokenizer = SHIPPED if kind == "none" else KINDS[kind][0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memodb.text.tokenizer._PART_CHARACTERS", size)
        whole = library.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text).tolist() == whole
        assert [ids.tolist() for ids in tokenizer.encode_many([text, "", text])] == [whole, [], whole]
        assert "".join(_cut(text)) == text


def test_a_text_is_cut_behind_lines() -> None:
    """So that its parts can be encoded side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memodb.text.tokenizer._PART_CHARACTERS", 3)
        assert list(_cut("abcdef\nghi\r\n\nj\nk")) == ["abcdef\n", "ghi\r\n\n", "j\nk"]


@given(st.sampled_from(sorted(KINDS)), st.lists(st.integers(0, SHIPPED.vocabulary_size - 1), max_size=6))
def test_bytes_of_tokens_are_what_is_decoded(kind: str, ids: list[int]) -> None:
    bound, _ = KINDS[kind]
    chosen = [*ids, *range(SHIPPED.vocabulary_size, bound.vocabulary_size)]
    assert b"".join(bound.spelled(chosen)).decode(errors="replace") == bound.decode(chosen)
    with pytest.raises(InvalidInput, match="vocabulary"):
        bound.spelled([bound.vocabulary_size])
    assert not Tokenizer.from_bytes(lower_casing()).byte_level


# --- prompts -------------------------------------------------------------------------------------------------------


@given(TEXTS.filter(lambda text: "_" not in text and "'" not in text and "’" not in text), st.data())
def test_a_prompt_that_ends_with_a_line_or_before_a_blank_holds_the_tokens_of_the_text(
    text: str, data: st.DataObject
) -> None:
    """A memory finds a prompt's tokens in a document only if the document was cut in the same places."""
    cuts = [m.end() for m in re.finditer(r"\w\n(?=\S)|\w(?= \w)|\((?=\w)", text, re.ASCII)]
    if not cuts:
        return
    prompt = SHIPPED.encode(text[: data.draw(st.sampled_from(cuts))])
    np.testing.assert_array_equal(SHIPPED.encode(text)[: len(prompt)], prompt)


def test_prompts_of_code_hold_the_tokens_of_the_code() -> None:
    code = Path(subprocess.__file__).read_text("utf-8")
    whole = SHIPPED.encode(code)
    for cut in [m.end() for m in re.finditer(r"[.(:=\[]|\n(?=\w)|\w(?=\W)", code)][:3000:7]:
        if code[cut] in "_\n" or not (code[cut].isalnum() or code[cut - 1].isalnum()):
            continue
        prompt = SHIPPED.encode(code[:cut])
        np.testing.assert_array_equal(whole[: len(prompt)], prompt, err_msg=repr(code[cut - 20 : cut + 5]))


# --- refusals ------------------------------------------------------------------------------------------------------

ENCODERS = [
    check_text,
    SHIPPED.encode,
    SHIPPED.encode_with_offsets,
    pytest.param(lambda text: SHIPPED.encode_many(["fine", text]), id="encode_many"),
]


@pytest.mark.parametrize("encode", ENCODERS)
@pytest.mark.parametrize("value", [None, 3, b"bytes", bytearray(b"b"), ["list"], np.str_])
def test_a_text_that_is_no_str_is_refused_by_its_type(encode, value) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidText, match=type(value).__name__):
        encode(value)


@pytest.mark.parametrize("encode", ENCODERS)
@pytest.mark.parametrize(("text", "position"), [("\ud800", 0), ("ok \udfff!", 3), ("\U0001f600\udc80", 1)])
def test_a_lone_surrogate_is_refused_with_its_position(encode, text: str, position: int) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidText, match=rf"surrogate.* character {position}\b"):
        encode(text)


@pytest.mark.parametrize("encode", ENCODERS)
def test_a_text_over_the_limit_is_refused(encode) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidText, match="split"):
        encode("a" * (MAX_TEXT_CHARACTERS + 1))


def test_a_text_of_the_limit_passes_the_check() -> None:
    text = "a" * MAX_TEXT_CHARACTERS
    assert check_text(text) is text


def test_many_texts_name_the_one_refused() -> None:
    with pytest.raises(InvalidText, match=r"^text 2: "):
        SHIPPED.encode_many(["a", "b", "\ud800"])
    with pytest.raises(InvalidText, match="one str"):
        SHIPPED.encode_many("abc")


@pytest.mark.parametrize("wrong", [-1, 16_000, 2**31, 2**40, -(2**40)])
def test_an_id_outside_the_vocabulary_is_named(wrong: int) -> None:
    for call in (SHIPPED.decode, SHIPPED.pieces, lambda ids: SHIPPED.reproduces("", ids)):
        with pytest.raises(InvalidInput, match=str(wrong)):
            call([1, wrong, 2])
        with pytest.raises(InvalidInput, match=str(wrong)):
            call(np.array([wrong]))
    with pytest.raises(InvalidInput, match=str(wrong)):
        SHIPPED.piece(wrong)


@pytest.mark.parametrize("ids", [["1"], [1.5], [None], 3, [[1, 2]], np.array([1.0]), [2**70], "12"])
def test_ids_that_are_no_integers_are_refused(ids) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput, match="integers"):
        SHIPPED.decode(ids)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64, np.uint64])
def test_ids_of_any_integer_type_decode(dtype: type) -> None:
    ids = SHIPPED.encode("Any integers will do.")
    assert SHIPPED.decode(ids.astype(dtype)) == "Any integers will do."
    assert SHIPPED.decode(ids.tolist()) == "Any integers will do."


# --- bound tokenizers ----------------------------------------------------------------------------------------------


def test_a_bound_tokenizer_keeps_its_bytes() -> None:
    data = lower_casing()
    bound = Tokenizer.from_bytes(data)
    assert bound.json == data
    assert bound.digest == hashlib.sha256(data).hexdigest()
    assert bound.vocabulary_size == 6
    assert Tokenizer.from_bytes(SHIPPED.json).digest == SHIPPED.digest


def test_a_tokenizer_that_changes_the_text_says_so() -> None:
    bound = Tokenizer.from_bytes(lower_casing())
    assert bound.reproduces("the cats", bound.encode("the cats"))
    for text in ("The cat", "the  cat", "the dog", "the cat ", "\nthe cat"):
        assert not bound.reproduces(text, bound.encode(text))


def test_offsets_of_a_bound_tokenizer_point_into_the_original() -> None:
    text = "THE   Cats SAT"
    ids, offsets = Tokenizer.from_bytes(lower_casing()).encode_with_offsets(text)
    assert ids.tolist() == [1, 2, 5, 3]
    assert [text[start:end] for start, end in offsets] == ["THE", "Cat", "s", "SAT"]


def test_a_hole_in_the_vocabulary_is_refused() -> None:
    with pytest.raises(InvalidInput, match="token id 4 "):
        Tokenizer.from_bytes(lower_casing()).decode([1, 4])


def test_truncation_and_padding_of_a_file_are_switched_off(tmp_path: Path) -> None:
    engine = tokenizers.Tokenizer.from_str(lower_casing().decode())
    engine.enable_truncation(2)
    engine.enable_padding(length=8)
    engine.save(str(tmp_path / "t.json"))
    bound = Tokenizer.from_file(tmp_path / "t.json")
    assert bound.encode("the cat sat").tolist() == [1, 2, 3]
    assert [ids.tolist() for ids in bound.encode_many(["the", "the cat sat"])] == [[1], [1, 2, 3]]
    assert bound.encode_with_offsets("the cat sat")[0].tolist() == [1, 2, 3]
    assert bound.json == (tmp_path / "t.json").read_bytes()


def test_special_tokens_are_neither_added_nor_found_nor_dropped() -> None:
    engine = tokenizers.Tokenizer.from_str(SHIPPED.json.decode())
    engine.add_special_tokens(["<|end|>"])
    engine.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", 16_000)]
    )
    bound = Tokenizer.from_bytes(engine.to_str().encode())
    assert bound.vocabulary_size == 16_001
    for text in ("stop", "say <|end|> here"):
        for ids in (bound.encode(text), bound.encode_many([text])[0], bound.encode_with_offsets(text)[0]):
            assert 16_000 not in ids
            assert bound.decode(ids) == text
    assert bound.piece(16_000) == "<|end|>"
    assert bound.pieces([16_000]) == ["<|end|>"]


def test_a_text_a_bound_tokenizer_has_no_token_for_is_refused() -> None:
    engine = tokenizers.Tokenizer(models.WordLevel({"the": 0}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    bound = Tokenizer.from_bytes(engine.to_str().encode())
    calls = [bound.encode, bound.encode_with_offsets, lambda text: bound.encode_many(["the", text])]
    for call in calls:
        with pytest.raises(InvalidText, match="cannot encode") as raised:
            call("the dog")
        assert raised.value.__cause__ is not None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not UTF-8 JSON"),
        (b"\xff\xfe", "not UTF-8 JSON"),
        (b"{", "not UTF-8 JSON"),
        (b"[" * 200_000, "not UTF-8 JSON"),
        (b"null", "not a tokenizer"),
        (b'{"model": {"type": "Nonsense"}}', "not a tokenizer"),
        (tokenizers.Tokenizer(models.BPE()).to_str().encode(), "vocabulary is empty"),
        # By hand: the library would walk through all ids below to write it.
        (b'{"model": {"type": "WordLevel", "vocab": {"a": 2147483645}, "unk_token": "a"}}', "2147483645 is too large"),
    ],
)
def test_bytes_that_are_no_tokenizer_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(InvalidConfiguration, match=reason):
        Tokenizer.from_bytes(data)
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    with pytest.raises(InvalidConfiguration, match=rf"bad\.json.*{reason}"):
        Tokenizer.from_file(path)


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"nowhere\.json.*give the path") as raised:
        Tokenizer.from_file(tmp_path / "nowhere.json")
    assert isinstance(raised.value.__cause__, FileNotFoundError)
    with pytest.raises(InvalidConfiguration):
        Tokenizer.from_file(tmp_path)


# --- what ships ----------------------------------------------------------------------------------------------------


def test_the_shipped_data_is_what_its_provenance_says() -> None:
    notes = (Path(memodb.text.__file__).parent / "data" / "PROVENANCE.md").read_text("utf-8")
    assert f"sha256 of the JSON: `{SHIPPED.digest}`" in notes
    assert hashlib.sha256(SHIPPED.json).hexdigest() == SHIPPED.digest
    assert SHIPPED.vocabulary_size == 16_000


def test_the_shipped_vocabulary_has_every_byte_and_no_special_token() -> None:
    engine = tokenizers.Tokenizer.from_str(SHIPPED.json.decode())
    assert engine.get_vocab_size() == 16_000
    assert not engine.get_added_tokens_decoder()
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= set(engine.get_vocab())
    assert engine.normalizer is None
    assert engine.post_processor is None


@pytest.mark.parametrize("unit", ["a", "ab1", " ", "\n", "=", "7", "\u0301", "字", "'", "\t ", "\r\n", "_x", "\x00"])
def test_a_long_run_is_cut_into_bounded_pieces(unit: str) -> None:
    """Linear time follows: a piece is 64 characters and their blank at most, however long the run."""
    engine = tokenizers.Tokenizer.from_str(SHIPPED.json.decode())
    assert engine.pre_tokenizer is not None
    pieces = engine.pre_tokenizer.pre_tokenize_str(unit * 2_000)
    assert max(end - start for _, (start, end) in pieces) <= 65


def test_the_shipped_tokenizer_is_loaded_once() -> None:
    """Also by threads that all come first, in a process where nobody has asked for it yet."""
    code = (
        "import threading; from concurrent.futures import ThreadPoolExecutor; from memodb.text import Tokenizer\n"
        "barrier = threading.Barrier(8)\n"
        "def load(_): barrier.wait(); return Tokenizer.shipped()\n"
        "with ThreadPoolExecutor(8) as pool: print(len(set(map(id, list(pool.map(load, range(8)))))))"
    )
    assert run(code).strip() == "1"
    assert Tokenizer.shipped() is SHIPPED


def test_threads_share_a_tokenizer() -> None:
    texts = ["".join(FRAGMENTS[i % 7 :]) + str(i) for i in range(64)]
    expected = [ids.tolist() for ids in map(SHIPPED.encode, texts)]
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(SHIPPED.encode_many, [texts] * 16):
            assert [ids.tolist() for ids in got] == expected
        assert list(pool.map(SHIPPED.decode, expected)) == texts


def run(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    assert done.stderr == ""
    return done.stdout


def test_importing_the_room_reads_no_data_and_loads_no_engine() -> None:
    code = (
        "import sys, os; before = dict(os.environ); import memodb.text\n"
        "assert dict(os.environ) == before\n"
        "from memodb.text import tokenizer\n"
        "print(tokenizer._shipped.cache_info().currsize, sorted({'tokenizers', 'zstandard'} & set(sys.modules)))"
    )
    assert run(code).strip() == "0 []"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_fork_after_encoding_says_nothing() -> None:
    """Also with many texts, which the library encodes on threads: a child process must not warn or hang."""
    code = (
        "import os; from memodb.text import Tokenizer; t = Tokenizer.shipped(); t.encode_many(['a b'] * 100)\n"
        "child = os.fork()\n"
        "if not child: t.encode_many(['c d'] * 100); os._exit(0)\n"
        "print(os.waitpid(child, 0)[1])"
    )
    assert run(code).strip() == "0"


def test_the_public_names_are_these() -> None:
    assert memodb.text.__all__ == ["MAX_TEXT_CHARACTERS", "Tokenizer", "check_text"]
