"""The page for a compliance file: says what the receipt says, shows hostile values as text, and cannot be altered."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb import proof
from memodb.errors import InvalidInput
from memodb.proof.page import page, receipt_of

SIGNER = proof.Signer(proof.new_key())
TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td",
    "ul", "li", "ol", "code", "pre",
}  # fmt: skip
VOID = {"meta"}


class Reader(HTMLParser):
    """What a browser would see: tags, attributes, text; complains where they do not close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.tags: list[str] = []
        self.said: list[str] = []
        self.inside: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)
        self.inside.setdefault(self.open[-1] if self.open else "", []).append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_says_it(receipt: dict[str, Any], signer: proof.Signer) -> None:
    text = page(receipt)
    reader = read(text)
    said = " ".join(" ".join(reader.said).split())
    assert "2 documents erased, completed 2026-05-01T08:00:09.000000+00:00" in said
    assert said.count("VERIFIED:") == 1
    assert "NOT VERIFIED" not in said
    for phrase in ("What a device remapped is not covered.", "Naïve copies", signer.fingerprint, "secure_delete",
                   "rows_left: 0", "equal to their rebuild: 2", "0a" * 16, "memodb receipt verify", "request 17",
                   "had 7 entries", "utf-8, utf-16", "source, subject"):  # fmt: skip
        assert phrase in said, phrase
    assert proof.verify("".join(reader.inside["pre"])).valid
    assert receipt_of(text.encode()) == receipt


def test_an_unverified_erasure_is_headlined_so(statement: dict[str, Any], signer: proof.Signer) -> None:
    for value in (False, None):
        said = " ".join(read(page(proof.signed({**statement, "verified": value}, signer))).said)
        assert "NOT VERIFIED" in said
        assert "No audit log vouches" in said


def test_nothing_is_loaded_and_nothing_runs(receipt: dict[str, Any]) -> None:
    text = page(receipt)
    reader = read(text)
    assert set(reader.tags) <= TAGS
    harmless = {"lang", "charset", "name", "content", "http-equiv", "scope", "id", "class"}
    assert {name for _, name, _ in reader.attributes} <= harmless
    assert not re.search(r"url\(|@import|https?:|javascript:|src=|href=", text)
    assert "default-src 'none'" in text


HOSTILE = st.sampled_from(
    ["<script>alert(1)</script>", "</pre><h1>VERIFIED", "</style>", "<!--", "&lt;", "&#60;", '"><img src=x>', "]]>",
     "'", "\x00\x1b[2J\u202e", "</title>", '<pre id="receipt">{}</pre>', "x" * 5000, "\u2028\n\t", "é" * 3000,
     "<![CDATA["]
) | st.text(st.characters(codec="utf-8"))  # fmt: skip
ANYTHING = st.recursive(
    HOSTILE | st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["id", "store", "collection", "documents", "tokens", "reason", "selected_by", "layers", "versions", "pragmas",
          "limits", "verified", "states", "completed_at"]  # fmt: skip
LAYERS = st.dictionaries(st.sampled_from(["memory", "scan", "keys"]) | HOSTILE, ANYTHING, max_size=3)


@given(st.dictionaries(st.sampled_from(FIELDS) | HOSTILE, ANYTHING, max_size=6), st.none() | LAYERS)
def test_hostile_values_are_text(statement: dict[str, Any], layers: Any) -> None:
    if layers is not None:
        statement["layers"] = layers
    document = proof.signed(statement, SIGNER)
    if not proof.verify(document).valid:
        return
    text = page(document)
    reader = read(text)
    assert set(reader.tags) <= TAGS
    assert reader.tags.count("pre") == reader.tags.count("h1") == reader.tags.count("title") == 1
    assert text.isprintable() or {c for c in text if not c.isprintable()} == {"\n"}
    assert json.loads("".join(reader.inside["pre"])) == document
    assert receipt_of(text.encode()) == document


def test_long_values_are_cut_and_said_to_be(statement: dict[str, Any], signer: proof.Signer) -> None:
    statement["documents"] = [f"{n:032x}" for n in range(1000)]
    statement["reason"] = "y" * 5000
    text = page(proof.signed(statement, signer))
    above, _, _ = text.partition('<pre id="receipt">')
    assert "and 800 more" in above
    assert "y" * 2001 not in above
    assert "5,000 characters, in full below" in above


@pytest.mark.parametrize(
    ("old", "new"),
    [("VERIFIED:", "VERIFIED :"), ("2 documents", "3 documents"), ("request 17", "request 18"), ("</body>", "</body> "),
     ("<h1>", "<h1 hidden>"), ("is not covered", "is covered"), ("</style>", ".outcome{display:none}</style>"),
     ("<!DOCTYPE html>", "<!DOCTYPE html>\n"), ("&quot;", '"')],
)  # fmt: skip
def test_a_page_that_says_something_else_is_refused(
    old: str, new: str, make: Callable[..., dict[str, Any]], statement: dict[str, Any]
) -> None:
    statement["limits"].append('"quoted"')
    text = page(make(statement))
    assert old in text
    with pytest.raises(InvalidInput, match="page is not the one"):
        receipt_of(text.replace(old, new, 1).encode())


def test_a_changed_receipt_in_a_page_is_refused(receipt: dict[str, Any]) -> None:
    text = page(receipt)
    above, marker, below = text.rpartition('<pre id="receipt">')
    with pytest.raises(InvalidInput, match="not valid"):
        receipt_of((above + marker + below.replace("request 17", "request 18")).encode())
    for rubbish in (b"", b"<html>", b"\xff", b'<pre id="receipt">[]</pre>', b'<pre id="receipt">{</pre>', b"</pre>",
                    b'<pre id="receipt">&#xd800;</pre>', b'<pre id="receipt">&#xd8',
                    b'<pre id="receipt">"\\ud800"</pre>',
                    b"x" * ((1 << 27) + 1)):  # fmt: skip
        with pytest.raises(InvalidInput):
            receipt_of(rubbish)


def test_there_is_no_page_of_what_is_not_valid(receipt: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="not valid"):
        page({**receipt, "audit": None})
