"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

__all__ = [
    "ALL",
    "READS",
    "RECORDS",
    "WRITES",
    "Settings",
    "chosen_documents",
    "confirmation",
    "filter_options",
    "json_value",
    "key_value",
    "metadata_of",
    "output_file",
    "pass_settings",
    "provenance_options",
    "shared",
    "zoned_time",
]

Function = TypeVar("Function", bound=Callable[..., Any])

ALL: Final = ("path", "collection", "ledger", "actor", "json", "quiet")
READS: Final = ("path", "collection", "ledger", "json")
"""What a command takes that reads a collection."""
WRITES: Final = ("path", "collection", "ledger", "json", "quiet")
"""What a command takes that writes to one and prints a line about it."""
RECORDS: Final = ("path", "collection", "ledger", "actor", "json")
"""What a command takes whose doing stands in the audit log, with who did it."""


@dataclass
class Settings:
    """What the options of the root say, and those of the same names behind the command."""

    path: str | None = None
    collection: str = "default"
    json: bool = False
    quiet: bool = False
    ledger: str | None = None
    actor: str | None = None


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
        "ledger": (
            ["--ledger"],
            {
                "metavar": "PATH",
                "envvar": "MEMODB_LEDGER",
                "help": "Directory of the store's ledger, where it is not in the store.  [env var: MEMODB_LEDGER]",
            },
        ),
        "actor": (
            ["--actor"],
            {
                "metavar": "CODE",
                "envvar": "MEMODB_ACTOR",
                "help": "Your pseudonym for the audit log, such as dpo-2.  [env var: MEMODB_ACTOR]",
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


_TIMES: Final = ("created_before", "created_after", "expires_before", "expires_at")
_METADATA_HELP = "VALUE is JSON where it parses, else a text. Repeatable."
_FILTERS = (
    click.option("--source", metavar="TEXT", help="Documents of this source."),
    click.option("--subject", metavar="TEXT", help="Documents about this subject."),
    click.option("--writer", metavar="TEXT", help="Documents by this writer."),
    click.option("--batch", metavar="TEXT", help="Documents of this delivery."),
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
    click.option("--batch", metavar="TEXT", help="Which delivery it comes with.  [default: a random one]"),
    click.option(
        "--metadata",
        type=key_value,
        multiple=True,
        metavar="KEY=VALUE",
        help=f"A member of its metadata. {_METADATA_HELP}",
    ),
    click.option("--expires-at", type=zoned_time, metavar="TIME", help="ISO 8601 time from which it is gone."),
)


def filter_options(function: Function) -> Callable[..., Any]:
    """The filters of `Store.documents` as options; the function gets those given as the mapping ``filters``."""
    return _gathered(function, _FILTERS, "filters")


def provenance_options(function: Function) -> Callable[..., Any]:
    """The provenance of a document as options; the function gets those given as the mapping ``provenance``."""
    return _gathered(function, _PROVENANCE, "provenance")


def chosen_documents(function: Function) -> Callable[..., Any]:
    """Ids or filters, of which something must be given; the function gets the tuple ``ids`` and ``filters``."""

    @functools.wraps(function)
    def choosing(*args: Any, ids: tuple[str, ...], filters: dict[str, Any], **values: Any) -> Any:
        if not ids and not filters:
            raise click.UsageError("name documents by id, or choose them with filters")
        return function(*args, ids=ids, filters=filters, **values)

    return click.argument("ids", metavar="[ID]...", nargs=-1)(filter_options(choosing))


def output_file(function: Function) -> Function:
    """The option --output; the function gets the path, or None, as ``output``."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write to this file, which is replaced when all is written.",
    )(function)


def confirmation(function: Function) -> Function:
    """The option --yes; the function gets ``yes``."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def _gathered(function: Function, options: Iterable[Callable[[Any], Any]], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def gathering(*args: Any, **values: Any) -> Any:
        named = ("source", "subject", "writer", "batch", *_TIMES)
        given = {key: values.pop(key, None) for key in named}
        given["metadata"] = metadata_of(values.pop("metadata")) or None
        # not by truth: an empty --source is a mistake that the library names, never "no filter"
        return function(*args, **{name: {key: value for key, value in given.items() if value is not None}}, **values)

    wrapped: Callable[..., Any] = gathering
    for option in reversed(tuple(options)):
        wrapped = option(wrapped)
    return wrapped
