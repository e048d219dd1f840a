"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import click

__all__ = [
    "ALL",
    "Settings",
    "filter_options",
    "json_value",
    "key_value",
    "metadata_of",
    "pass_settings",
    "provenance_options",
    "shared",
    "zoned_time",
]

Function = TypeVar("Function", bound=Callable[..., Any])

ALL: Final = ("path", "collection", "json", "quiet")


@dataclass
class Settings:
    """What the options of the root say, and those of the same names behind the command."""

    path: str | None = None
    collection: str = "default"
    json: bool = False
    quiet: bool = False


pass_settings = click.make_pass_decorator(Settings, ensure=True)


def shared(names: Iterable[str], *, environment: bool = False) -> list[click.Option]:
    """Fresh options of these names, which write what they are given into the Settings.

    Only the root reads the environment: a command's own option would let MEMODB_PATH overrule a ``-p`` before it.
    """
    flags: dict[str, tuple[list[str], dict[str, Any]]] = {
        "path": (
            ["-p", "--path"],
            {"metavar": "PATH", "envvar": "MEMODB_PATH", "help": "Directory of the store.  [env var: MEMODB_PATH]"},
        ),
        "collection": (
            ["-C", "--collection"],
            {
                "metavar": "NAME",
                "envvar": "MEMODB_COLLECTION",
                "help": "Collection of the store.  [env var: MEMODB_COLLECTION; default: default]",
            },
        ),
        "json": (["--json"], {"is_flag": True, "default": None, "help": "Print JSON, errors too."}),
        "quiet": (["-q", "--quiet"], {"is_flag": True, "default": None, "help": "Print errors only."}),
    }
    options = []
    for name in names:
        declarations, attributes = flags[name]
        if not environment:
            attributes.pop("envvar", None)
        options.append(click.Option([*declarations, name], expose_value=False, callback=_remember, **attributes))
    return options


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and parameter.name is not None:
        setattr(ctx.ensure_object(Settings), parameter.name, value)


def zoned_time(value: str) -> datetime:
    """The type of an option: an ISO 8601 time with its zone."""
    try:
        time = datetime.fromisoformat(value)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} is no ISO 8601 time, such as 2026-05-01T00:00Z") from exc
    if time.utcoffset() is None:
        # A guess at the zone would move a deletion's bound by hours.
        raise click.BadParameter(f"{value!r} has no time zone: write {time.isoformat()}Z for UTC, or an offset")
    return time


def key_value(value: str) -> tuple[str, Any]:
    """The type of an option: KEY=VALUE, where VALUE is JSON if it parses as such."""
    key, equals, text = value.partition("=")
    if not equals:
        raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE")
    return key, json_value(text)


def json_value(text: str) -> Any:
    """What a text means as JSON, or the text itself. NaN and Infinity are no JSON, whatever Python's reader says."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def metadata_of(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of a repeated --metadata; a key that comes twice is a usage error."""
    metadata: dict[str, Any] = {}
    for key, value in pairs:
        if key in metadata:
            raise click.UsageError(f"--metadata {key} is given twice")
        metadata[key] = value
    return metadata


_METADATA_HELP = "VALUE is JSON where it parses, else a text. Repeatable."
_FILTERS = (
    click.option("--source", metavar="TEXT", help="Documents of this source."),
    click.option("--subject", metavar="TEXT", help="Documents about this subject."),
    click.option("--writer", metavar="TEXT", help="Documents by this writer."),
    click.option("--created-before", type=zoned_time, metavar="TIME", help="Stored before this ISO 8601 time."),
    click.option("--created-after", type=zoned_time, metavar="TIME", help="Stored at this time or later."),
    click.option("--expires-before", type=zoned_time, metavar="TIME", help="With an expiry before this time."),
    click.option(
        "--metadata",
        type=key_value,
        multiple=True,
        metavar="KEY=VALUE",
        help=f"With this value in the metadata. {_METADATA_HELP}",
    ),
)
_PROVENANCE = (
    click.option("--source", metavar="TEXT", help="Where it comes from."),
    click.option("--subject", metavar="TEXT", help="Whom it is about."),
    click.option("--writer", metavar="TEXT", help="Who stores it."),
    click.option(
        "--metadata",
        type=key_value,
        multiple=True,
        metavar="KEY=VALUE",
        help=f"A member of its metadata. {_METADATA_HELP}",
    ),
    click.option("--expires-at", type=zoned_time, metavar="TIME", help="ISO 8601 time, recorded with it."),
)


def filter_options(function: Function) -> Callable[..., Any]:
    """The filters of `Store.documents` as options; the function gets those given as the mapping ``filters``."""
    return _gathered(function, _FILTERS, "filters")


def provenance_options(function: Function) -> Callable[..., Any]:
    """The provenance of a document as options; the function gets those given as the mapping ``provenance``."""
    return _gathered(function, _PROVENANCE, "provenance")


def _gathered(function: Function, options: Iterable[Callable[[Any], Any]], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def gathering(*args: Any, **values: Any) -> Any:
        named = ("source", "subject", "writer", "created_before", "created_after", "expires_before", "expires_at")
        given = {key: values.pop(key, None) for key in named}
        given["metadata"] = metadata_of(values.pop("metadata")) or None
        # not by truth: an empty --source is a mistake that the library names, never "no filter"
        return function(*args, **{name: {key: value for key, value in given.items() if value is not None}}, **values)

    wrapped: Callable[..., Any] = gathering
    for option in reversed(tuple(options)):
        wrapped = option(wrapped)
    return wrapped
