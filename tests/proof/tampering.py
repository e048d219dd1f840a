"""Every small change of a JSON document: edits, deletions, duplications and swaps of single fields, at every depth."""

import copy
import itertools
import json
from collections.abc import Iterator
from typing import Any

VALUES: list[Any] = [None, True, False, 0, 1, -7, 2.5, "", "x", "00" * 32, [], [1], {}, {"x": 1}]


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values, to which 1 and true are different."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document, containers before what they hold."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def nearly(value: Any) -> list[Any]:
    """Values like this one."""
    if isinstance(value, bool) or value is None:
        return [not value, int(bool(value))]
    if isinstance(value, int):
        return [value + 1, value - 1, str(value), float(value)]
    if isinstance(value, str):
        return [
            value + " ",
            " " + value,
            value + "\n",
            value.upper(),
            value.swapcase(),
            value[:-1],
            value[1:],
            value * 2,
        ]
    return []


def tampered(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was done, and the document it was done to."""
    for path in places(document):
        original = at(document, path)
        if path:
            for value in [*VALUES, *nearly(original)]:
                if not same(value, original):
                    yield from changed(
                        document, path[:-1], f"{path} = {value!r}", lambda o, v=value, k=path[-1]: put(o, k, v)
                    )
            yield from changed(document, path[:-1], f"{path} deleted", lambda o, k=path[-1]: o.pop(k))
        if isinstance(original, dict):
            yield from changed(document, path, f"{path} with another field", lambda o: put(o, "another", 1))
            for key in original:
                yield from changed(document, path, f"{path} {key} renamed", lambda o, k=key: put(o, k + "_", o.pop(k)))
            pairs = itertools.combinations(original, 2)
        elif isinstance(original, list):
            for index in range(len(original)):
                yield from changed(document, path, f"{path} {index} twice", lambda o, i=index: o.insert(i, o[i]))
            pairs = itertools.combinations(range(len(original)), 2)
        else:
            continue
        for one, other in pairs:
            if not same(original[one], original[other]):
                yield from changed(
                    document, path, f"{path} {one} and {other} swapped", lambda o, a=one, b=other: swap(o, a, b)
                )


def changed(document: Any, path: tuple[Any, ...], name: str, change: Any) -> Iterator[tuple[str, Any]]:
    other = copy.deepcopy(document)
    change(at(other, path))
    yield name, other


def put(container: Any, key: Any, value: Any) -> None:
    container[key] = value


def swap(container: Any, one: Any, other: Any) -> None:
    container[one], container[other] = container[other], container[one]


def doubled(document: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The document as JSON with one key standing twice, each with the same value: for every key at every depth."""
    for path in places(document):
        if isinstance(original := at(document, path), dict):
            for key in original:
                yield f"{path} {key}", written(document, path, key).encode()


def written(value: Any, path: tuple[Any, ...], key: str) -> str:
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(k)}:{written(v, path[1:] if path[:1] == (k,) else ('',), key)}" for k, v in value.items()
        ]
        if path == ():
            parts.append(f"{json.dumps(key)}:{json.dumps(value[key])}")
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list):
        return (
            "[" + ",".join(written(v, path[1:] if path[:1] == (i,) else ("",), key) for i, v in enumerate(value)) + "]"
        )
    return json.dumps(value)
