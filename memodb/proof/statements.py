"""What the statement of a receipt may not say at once: contradictions that a signature does not rule out.

A statement is signed as it is, so a field that is missing is missing in truth; only what is there is judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from memodb.proof.encoding import moment

__all__ = ["LAYERS", "STATES", "contradictions", "mapping"]

STATES: Final = (
    "requested",
    "hidden",
    "subtracted",
    "rows_purged",
    "wal_truncated",
    "tiles_destroyed",
    "key_destroyed",
    "verified",
)
"""What a deletion goes through, in this order."""

LAYERS: Final = ("memory", "catalog", "journal", "tiles", "keys", "backups", "scan")
"""Where something of a document may be, in the order of a report."""

_LEFT: Final = (("catalog", "rows_left"), ("tiles", "files_left"), ("keys", "readable"), ("scan", "hits"))


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one: statements are read as found."""
    return value if isinstance(value, dict) else {}


def contradictions(statement: Mapping[str, Any]) -> Iterator[str]:
    """Everything in a statement that contradicts something else in it, in words."""
    yield from _disorder(statement)
    verified = statement.get("verified")
    if verified is not None and not isinstance(verified, bool):
        yield "the statement's verified is neither true nor false"
    if verified is not True:
        return
    layers = mapping(statement.get("layers"))
    for name in LAYERS:
        if mapping(layers.get(name)).get("result") == "failed":
            yield f"the statement says verified, and that the layer {name} failed"
    for layer, name in _LEFT:
        left = mapping(layers.get(layer)).get(name)
        if left is not None and (type(left) is not int or left != 0):
            yield f"the statement says verified, and {name} of the layer {layer} is not 0"
    scan = mapping(layers.get("scan"))
    control = scan.get("control")
    if control is not None and (type(control) is not int or control < 1):
        yield "the statement says verified, and its scan did not find the text that was planted for it"
    yield from _unequal(layers)


def _unequal(layers: Mapping[str, Any]) -> Iterator[str]:
    segments = mapping(layers.get("memory")).get("segments")
    if segments is not None and not isinstance(segments, list):
        yield "the statement's segments are no list"
        return
    for number, segment in enumerate(segments or []):
        said = mapping(segment)
        compared = said.get("compared") is True or None not in (said.get("digest"), said.get("rebuilt_digest"))
        if compared and said.get("digest") != said.get("rebuilt_digest"):
            yield f"the statement says verified, and segment {number} of the memory differs from its rebuild"
            return  # one says it; there may be thousands


def _disorder(statement: Mapping[str, Any]) -> Iterator[str]:
    states = mapping(statement.get("states"))
    named = [(f"states.{name}", states.get(name)) for name in STATES]
    ends = [(name, statement.get(name)) for name in ("requested_at", "completed_at")]
    for times in (named, ends):
        known = []
        for name, value in times:
            time = moment(value)
            if time is not None:
                known.append((name, time))
            elif value is not None:
                yield f"the statement's {name} is no time with a zone"
        for (earlier, before), (later, after) in pairwise(known):
            if after < before:
                yield f"the statement's {later} is before {earlier}"
