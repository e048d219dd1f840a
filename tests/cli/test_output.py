"""Tables, escapes and whole files."""

import io
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memodb.cli.output import json_line, pairs, plain, replacing, table, write_bytes


def test_columns_are_aligned_by_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    table(("NAME", "N", "LAST"), [("漢字", 1000, None), ("e\u0301", 7, "x"), ("long name", 12, "")])
    assert capsys.readouterr().out.splitlines() == [
        "NAME           N  LAST",
        "漢字       1,000  -",
        "e\u0301              7  x",
        "long name     12",
    ]
    table(("A",), [])
    assert capsys.readouterr().out == ""
    pairs([("a", 1), ("long", None)])
    assert capsys.readouterr().out == "a     1\nlong  -\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("\x1b[2J\x07", "\\x1b[2J\\x07"), ("a\nb\tc", "a\\nb\\tc"), ("\u202egnp", "\\u202egnp"), ("\udcff", "\\udcff"),
        ("Über 漢字", "Über 漢字"), (True, "yes"), (False, "no"), (12345, "12,345"), (0.123456, "0.1235"),
        ({"a": "é"}, '{"a": "é"}'), (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05+00:00"),
    ],
)  # fmt: skip
def test_cells_are_plain(value: object, shown: str) -> None:
    assert plain(value) == shown


def test_json_is_utf8_on_one_line() -> None:
    assert json_line({"a": "é\n\udcff"}) == b'{"a": "\xc3\xa9\\n\\udcff"}\n'


def test_a_file_is_replaced_or_left(tmp_path: Path) -> None:
    target = tmp_path / "out"
    link = tmp_path / "link"
    link.symlink_to("out")
    target.write_bytes(b"old")

    def fail() -> None:
        with replacing(link) as file:
            file.write(b"half")
            file.flush()
            assert target.read_bytes() == b"old"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_bytes() == b"old"
    with replacing(link) as file:
        file.write(b"new")
    assert (target.read_bytes(), link.is_symlink()) == (b"new", True)
    assert sorted(os.listdir(tmp_path)) == ["link", "out"]  # noqa: PTH208
    with replacing(Path(os.devnull)) as file:
        file.write(b"gone")
    assert not Path(os.devnull).is_file()


def test_all_is_written_where_a_file_takes_parts() -> None:
    class Slow(io.BytesIO):
        def write(self, data: object) -> int:
            return super().write(bytes(data)[:3])  # type: ignore[call-overload]

    slow = Slow()
    write_bytes(slow, b"0123456789")
    assert slow.getvalue() == b"0123456789"
