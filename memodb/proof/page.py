"""A receipt as one page of HTML for a compliance file: readable without memodb, and checkable with it.

The page holds the receipt itself, as text at its end, and is a function of it: :func:`receipt_of` takes the receipt out
and refuses a page that says anything else than the receipt does. No scripts, no other files, nothing of the reader's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape, unescape
from typing import Any, Final

from memodb.errors import InvalidInput
from memodb.proof.encoding import MAX_DOCUMENT_BYTES, parse
from memodb.proof.receipts import Verdict, verify
from memodb.proof.statements import LAYERS, STATES, mapping

__all__ = ["MAX_PAGE_BYTES", "page", "receipt_of"]

MAX_PAGE_BYTES: Final = 2 * MAX_DOCUMENT_BYTES
_FORMAT: Final = "memodb receipt page 1"
_OPEN: Final = '<pre id="receipt">'
_CLOSE: Final = "</pre>"
_SHOWN_ITEMS: Final = 200
_SHOWN_DEPTH: Final = 3
_SHOWN_CHARACTERS: Final = 2000

_STYLE: Final = """\
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; line-height: 1.25 }
h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { border: 1px solid currentColor; padding: .3rem .5rem; text-align: left; vertical-align: top }
td, li, code, pre, h1 { overflow-wrap: anywhere }
pre { white-space: pre-wrap; font-size: .75rem; border: 1px solid currentColor; padding: .5rem }
.outcome { border: .2rem solid currentColor; padding: .6rem 1rem; font-weight: bold }
@media print { body { margin: 0; max-width: none } tr { break-inside: avoid } }
"""

_NAMES: Final = {
    "memory": "Memory",
    "catalog": "Catalog (rows)",
    "journal": "Journal",
    "tiles": "Tiles (files of the memory)",
    "keys": "Keys",
    "backups": "Backups",
    "scan": "Scan of all bytes",
}


def page(document: Mapping[str, Any]) -> str:
    """The page of a receipt.

    Parameters
    ----------
    document : mapping
        As :func:`memodb.proof.receipts.signed` returns it.

    Raises
    ------
    InvalidInput
        The receipt does not verify: there is no page that makes one look as if it did.
    """
    verdict = verify(document)
    if not verdict.valid:
        raise InvalidInput(f"no page for a receipt that is not valid: {'; '.join(verdict.problems)}")
    said = verdict.statement
    documents = said.get("documents")
    erased = len(documents) if isinstance(documents, list) else None
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f'<meta name="generator" content="{_FORMAT}">',
        f"<title>Receipt of erasure {_shown(said.get('id'))}</title>",
        f"<style>\n{_STYLE}</style></head><body>",
        f"<h1>{_headline(erased, said)}</h1>",
        f'<p class="outcome">{_outcome(said)}</p>',
        _table(("", ""), _summary(said, erased)),
        "<h2>What was measured, layer by layer</h2>",
        _table(("Layer", "Result", "Method", "Measured"), _layers(mapping(said.get("layers")))),
        "<h2>When</h2>",
        _table(("State reached", "Time"), ((name, mapping(said.get("states")).get(name)) for name in STATES)),
        "<h2>What this receipt does not say</h2>",
        _list(said.get("limits")),
        "<h2>What was erased</h2>",
        _list(documents),
        "<h2>Software and settings</h2>",
        _table(("", ""), [("versions", said.get("versions")), ("pragmas", said.get("pragmas"))]),
        "<h2>How to check this page, offline</h2>",
        *_instructions(verdict),
        "<h2>The receipt</h2>",
        f"{_OPEN}{_text_of(document)}{_CLOSE}",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def receipt_of(data: bytes) -> dict[str, Any]:
    """The receipt that a page holds.

    Raises
    ------
    InvalidInput
        It is no page of this format, its receipt is not valid, or the page is not exactly the one that its receipt
        makes: what a person reads on it may then be something else than what was signed.
    """
    if len(data) > MAX_PAGE_BYTES:
        raise InvalidInput(f"the page has more than {MAX_PAGE_BYTES:,} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"the page is not UTF-8 at byte {exc.start:,}") from exc
    # the last of both: every value on the page is escaped, so the markers are the page's own
    _, opened, rest = text.rpartition(_OPEN)
    inside, closed, _ = rest.rpartition(_CLOSE)
    if not opened or not closed:
        raise InvalidInput("the page holds no receipt")
    document = parse(unescape(inside).encode("utf-8", "surrogatepass"))
    if not isinstance(document, dict):
        raise InvalidInput("the page holds no receipt")
    if page(document) != text:
        raise InvalidInput("the page is not the one that its receipt makes: it was changed, or made by another version")
    return document


def _text_of(document: Mapping[str, Any]) -> str:
    return escape(json.dumps(document, indent=1, ensure_ascii=True), quote=False)


def _shown(value: Any, depth: int = 0) -> str:
    """A value as text of the page: escaped, bounded, and without characters that steer what is shown around them."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        text = value
    elif depth == _SHOWN_DEPTH:
        text = json.dumps(value)
    else:
        return _container(value, depth + 1)
    cut = text[:_SHOWN_CHARACTERS]
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return escape(plain) + (f" ... ({len(text):,} characters, in full below)" if len(text) > len(cut) else "")


def _container(value: Any, depth: int) -> str:
    if isinstance(value, dict):
        said = "; ".join(f"{_shown(name)}: {_shown(item, depth)}" for name, item in _first(value.items()))
    else:
        said = ", ".join(_shown(item, depth) for item in _first(value))
    more = f" ... ({len(value):,} items, in full below)" if len(value) > _SHOWN_ITEMS else ""
    return f"{said or 'none'}{more}" if depth == 1 else f"[{said}{more}]"


def _first(values: Iterable[Any]) -> Iterator[Any]:
    for number, value in enumerate(values):
        if number == _SHOWN_ITEMS:
            return
        yield value


def _table(headers: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in headers)
    lines = [f"<table><thead><tr>{head}</tr></thead><tbody>"] if any(headers) else ["<table><tbody>"]
    for name, *cells in rows:
        columns = "".join(f"<td>{_shown(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{_shown(name)}</th>{columns}</tr>')
    return "\n".join([*lines, "</tbody></table>"])


def _list(values: Any) -> str:
    if not isinstance(values, list) or not values:
        return f"<p>{'Nothing is stated.' if values in (None, []) else _shown(values)}</p>"
    items = "\n".join(f"<li>{_shown(value)}</li>" for value in _first(values))
    more = len(values) - _SHOWN_ITEMS
    return f"<ul>\n{items}\n</ul>" + (f"\n<p>and {more:,} more, in the receipt below</p>" if more > 0 else "")


def _headline(erased: int | None, said: Mapping[str, Any]) -> str:
    what = "Documents" if erased is None else "1 document" if erased == 1 else f"{erased:,} documents"
    when = said.get("completed_at")
    return f"{what} erased" if when is None else f"{what} erased, completed {_shown(when)}"


def _outcome(said: Mapping[str, Any]) -> str:
    if said.get("verified") is True:
        return "VERIFIED: what was measured after the erasure is below, layer by layer."
    return "NOT VERIFIED: this erasure was not, or not wholly, shown to be complete."


def _summary(said: Mapping[str, Any], erased: int | None) -> Iterator[tuple[str, Any]]:
    yield "Receipt", said.get("id")
    yield "Store", said.get("store")
    yield "Collection", said.get("collection")
    yield "Documents", erased
    yield "Tokens", said.get("tokens")
    yield "Selected by", said.get("selected_by")
    yield "Reason", said.get("reason")
    yield "Requested", said.get("requested_at")
    yield "Completed", said.get("completed_at")


def _layers(layers: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    unknown = sorted(layers.keys() - set(LAYERS))
    for name in (*LAYERS, *unknown):
        layer = layers.get(name)
        if not isinstance(layer, dict):
            yield _NAMES.get(name, name), "not stated" if layer is None else layer, None, None
            continue
        measured = {key: value for key, value in layer.items() if key not in ("result", "method", "segments")}
        segments = layer.get("segments")
        if isinstance(segments, list):
            same = [
                s for s in map(mapping, segments) if s.get("compared") and s.get("digest") == s.get("rebuilt_digest")
            ]
            measured["segments"] = len(segments)
            measured["equal to their rebuild"] = len(same)
        yield _NAMES.get(name, name), layer.get("result"), layer.get("method"), measured


def _instructions(verdict: Verdict) -> Iterator[str]:
    yield (
        "<ol><li>Get the public key of whoever gave you this page in another way than with it, and compare: the "
        f"SHA-256 of the key that signed is <code>{_shown(verdict.fingerprint)}</code>.</li>"
    )
    yield "<li>Run <code>memodb receipt verify PAGE.html --key PUBLIC.pem</code>; without a store or a network.</li>"
    yield (
        "<li>Or without memodb: the Ed25519 signature is of the bytes <code>memodb receipt 1</code>, a zero byte, and "
        "the object of the receipt's <code>audit</code> and <code>statement</code> as JSON with sorted keys, without "
        "spaces, every character beyond ASCII as an escape.</li></ol>"
    )
    if verdict.in_log:
        yield f"<p>The erasure stands in the audit log of the store, which had {verdict.size:,} entries then.</p>"
    else:
        yield "<p>No audit log vouches for this receipt.</p>"
