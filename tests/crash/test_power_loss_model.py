"""The model of a disk, on traces written by hand: it can lose what POSIX lets a power loss lose, and no more."""

import itertools
import random
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pytest

ROOT = "/disk"
MANY = 400
"""Crashes drawn at one moment: enough to see every combination of a few changes."""


@pytest.fixture(scope="session")
def model(beside: Callable[[str], ModuleType]) -> Any:
    return beside("powerloss")


@pytest.fixture
def disk(model: Any) -> Callable[..., Any]:
    """A disk after these records, each (operation, name, ...), which began with some durable files."""

    def replay(*records: tuple[Any, ...], image: dict[str, bytes | None] | None = None) -> Any:
        made = model.Disk(ROOT, image)
        for op, *rest in records:
            made.apply(record(model, op, *rest))
        return made

    return replay


def record(model: Any, op: str, name: str = "", *rest: Any) -> Any:
    path = f"{ROOT}/{name}".rstrip("/")
    number = getattr(model, op)
    if op == "RENAME":
        return model.Record(number, path, f"{ROOT}/{rest[0]}")
    if op == "WRITE":
        return model.Record(number, path, offset=rest[0], data=rest[1])
    return model.Record(number, path, offset=rest[0] if rest else 0)


def images(model: Any, disk: Any, ways: str = "") -> list[dict[str, bytes | None]]:
    """What a crash may leave, each disk once; with ``ways``, of crashes whose name ends so."""
    drawn = itertools.islice(model.crashes(disk.pending(), random.Random(1)), MANY)
    found = {
        model.image_digest(image): image for way, kept in drawn if way.endswith(ways) for image in [disk.image(kept)]
    }
    return list(found.values())


def values(images: Iterable[dict[str, bytes | None]], name: str) -> set[bytes | None]:
    return {image.get(name) for image in images}


def test_the_first_crashes_keep_nothing_and_everything(model: Any, disk: Callable[..., Any]) -> None:
    made = disk(("CREATE", "a"), ("WRITE", "a", 0, b"1"), image={"old": b"x"})
    first, second = itertools.islice(model.crashes(made.pending(), random.Random(0)), 2)
    assert (first[0], made.image(first[1])) == ("nothing", {"old": b"x"})
    assert (second[0], made.image(second[1])) == ("everything", {"old": b"x", "a": b"1"})


def test_a_write_may_be_lost_until_its_file_is_synced(model: Any, disk: Callable[..., Any]) -> None:
    write = ("WRITE", "a", 1, b"X")
    assert values(images(model, disk(write, image={"a": b"abc"})), "a") == {b"abc", b"aXc"}
    assert images(model, disk(write, ("SYNC", "a"), image={"a": b"abc"})) == [{"a": b"aXc"}]


def test_a_sync_covers_one_file_and_no_name(model: Any, disk: Callable[..., Any]) -> None:
    made = disk(("CREATE", "a"), ("WRITE", "a", 0, b"1"), ("SYNC", "a"), ("WRITE", "b", 0, b"2"), image={"b": b"0"})
    assert values(images(model, made), "a") == {None, b"1"}
    assert values(images(model, made), "b") == {b"0", b"2"}


def test_a_name_is_durable_after_a_sync_of_its_directory_and_its_data_are_not(
    model: Any, disk: Callable[..., Any]
) -> None:
    made = disk(("CREATE", "a"), ("WRITE", "a", 0, b"1"), ("SYNC_DIRECTORY", ""))
    found = values(images(model, made), "a")
    assert {b"", b"1"} <= found
    assert None not in found


def test_writes_survive_in_any_subset(model: Any, disk: Callable[..., Any]) -> None:
    made = disk(*(("WRITE", "a", at, bytes([49 + at])) for at in range(3)), image={"a": b"000"})
    assert len(values(images(model, made), "a")) == 8


def test_a_write_is_torn_at_sectors_of_the_file(model: Any, disk: Callable[..., Any]) -> None:
    made = disk(("WRITE", "a", 256, b"X" * 1024), image={"a": b"o" * 2048})
    found = {
        "".join(chr(data[at]) for at in (255, 256, 511, 512, 1023, 1024, 1279, 1280))
        for data in values(images(model, made), "a")
        if data is not None
    }
    assert found == {"o" + a * 2 + b * 2 + c * 2 + "o" for a in "oX" for b in "oX" for c in "oX"}


def test_a_length_may_arrive_without_its_bytes(model: Any, disk: Callable[..., Any]) -> None:
    found = values(images(model, disk(("WRITE", "a", 3, b"XYZ"), image={"a": b"abc"})), "a")
    assert {b"abc", b"abcXYZ", b"abc\0\0\0"} <= found
    garbage = found - {b"abc", b"abcXYZ", b"abc\0\0\0"}
    assert garbage
    assert all(data is not None and data.startswith(b"abc") and len(data) == 6 for data in garbage)


def test_a_truncation_may_be_lost_and_reads_as_zeros_beyond(model: Any, disk: Callable[..., Any]) -> None:
    assert values(images(model, disk(("TRUNCATE", "a", 1), image={"a": b"abc"})), "a") == {b"abc", b"a"}
    assert values(images(model, disk(("TRUNCATE", "a", 5), image={"a": b"abc"})), "a") == {b"abc", b"abc\0\0"}


def test_a_rename_is_atomic_and_may_be_lost(model: Any, disk: Callable[..., Any]) -> None:
    made = disk(("RENAME", "a", "b"), image={"a": b"new", "b": b"old"})
    found = images(model, made)
    assert sorted(map(sorted, (image.items() for image in found))) == [[("a", b"new"), ("b", b"old")], [("b", b"new")]]


def test_a_removed_file_may_be_back_with_what_it_held(model: Any, disk: Callable[..., Any]) -> None:
    made = disk(("UNLINK", "a"), ("CREATE", "a"), ("WRITE", "a", 0, b"new"), ("SYNC", "a"), image={"a": b"old"})
    assert values(images(model, made), "a") == {b"old", None, b"new"}
    assert values(images(model, disk(("UNLINK", "a"), ("SYNC_DIRECTORY", ""), image={"a": b"old"})), "a") == {None}


def test_a_lost_directory_takes_along_what_is_durable_in_it(model: Any, disk: Callable[..., Any]) -> None:
    inside = (("MKDIR", "d"), ("CREATE", "d/a"), ("WRITE", "d/a", 0, b"1"), ("SYNC", "d/a"), ("SYNC_DIRECTORY", "d"))
    found = images(model, disk(*inside))
    assert sorted(map(sorted, found)) == [[], ["d", "d/a"]]
    assert sorted(map(sorted, images(model, disk(*inside, ("SYNC_DIRECTORY", ""))))) == [["d", "d/a"]]


def test_names_of_a_directory_survive_in_order_or_in_any_subset(model: Any, disk: Callable[..., Any]) -> None:
    made = disk(("CREATE", "a"), ("CREATE", "b"), ("CREATE", "c"))
    ordered = {"".join(sorted(image)) for image in images(model, made, "names ordered")}
    assert ordered == {"", "a", "ab", "abc"}
    assert {"".join(sorted(image)) for image in images(model, made, "names any")} > ordered
    other = disk(("MKDIR", "d"), ("SYNC_DIRECTORY", ""), ("CREATE", "d/a"), ("CREATE", "b"))
    found = {"".join(sorted(image)) for image in images(model, other, "names ordered")}
    assert found == {"d", "dd/a", "bd", "bdd/a"}, "each directory for itself"


SAFELY = (
    ("CREATE", "tmp"),
    ("WRITE", "tmp", 0, b"n" * 700),
    ("SYNC", "tmp"),
    ("RENAME", "tmp", "a"),
    ("SYNC_DIRECTORY", ""),
)


@pytest.mark.parametrize("left_out", [None, 2, 4, "rename first"])
def test_it_tells_a_safe_replacement_from_each_that_lacks_a_step(
    model: Any, disk: Callable[..., Any], left_out: int | str | None
) -> None:
    """While it runs a reader finds the old file or the new one; after it, and before the next is begun, the new one."""
    if left_out == "rename first":
        steps = (*SAFELY[:2], SAFELY[3], ("SYNC", "a"), SAFELY[4])
    else:
        steps = tuple(step for number, step in enumerate(SAFELY) if number != left_out)
    new, old = b"n" * 700, b"old"
    during = set().union(
        *(values(images(model, disk(*steps[:n], image={"a": old})), "a") for n in range(len(steps) + 1))
    )
    after = values(images(model, disk(*steps, image={"a": old})), "a")
    assert (during <= {old, new} and after == {new}) == (left_out is None)


def test_a_recovery_begins_with_what_the_first_power_loss_left(model: Any, disk: Callable[..., Any]) -> None:
    image = {"d": None, "d/a": b"1", "b": b"2"}
    made = disk(image=image)
    assert made.pending().count == 0
    assert images(model, made) == [image]


def test_a_trace_is_read_as_written_and_never_cut_off_in_silence(model: Any) -> None:
    records = [
        model.Record(model.WRITE, "/disk/é", offset=2**40, data=b"\0\1"),
        model.Record(model.RENAME, "/disk/a", "/disk/b"),
        model.Record(model.MARK, "ack 1"),
    ]
    data = model.write_trace(records)
    assert model.read_trace(data) == records
    for end in (len(data) - 1, len(data) - 30, 10):
        with pytest.raises(ValueError, match="cut off"):
            model.read_trace(data[:end])


@pytest.mark.parametrize(
    ("journal", "first", "later"),
    [
        ("j-journal", [("WRITE", 512)], [("TRUNCATE", 0)]),
        ("j-wal", [("WRITE", 0)], [("WRITE", 4096)]),
    ],
)
def test_the_syncs_of_directories_that_sqlite_does_can_be_left_out(
    model: Any, journal: str, first: list[Any], later: list[Any]
) -> None:
    """Of a journal it just made, and no other: the one after a commit is the program's own."""

    def records(changes: list[Any]) -> list[Any]:
        given = [model.Record(getattr(model, op), journal, offset=offset) for op, offset in changes]
        return [*given, model.Record(model.SYNC, journal), model.Record(model.SYNC_DIRECTORY, "")]

    assert model.without_swallowed_syncs(records(first)) == records(first)[:-1]
    assert model.without_swallowed_syncs(records(later)) == records(later)
    assert model.without_swallowed_syncs(records([])) == records([])


@pytest.mark.parametrize(
    "bad", [("WRITE", "nowhere", 0, b""), ("RENAME", "a", "d/a"), ("UNLINK", "nowhere"), ("CREATE", "nowhere/a")]
)
def test_what_it_has_no_words_for_is_an_error(model: Any, disk: Callable[..., Any], bad: tuple[Any, ...]) -> None:
    with pytest.raises(model.NotModelledError):
        disk(bad, image={"a": b"", "d": None})


def test_an_image_is_materialised_exactly(model: Any, tmp_path: Any) -> None:
    image = {"d": None, "d/a": b"1", "b": b""}
    model.materialise({"stale": b"x"}, tmp_path / "state")
    model.materialise(image, tmp_path / "state")
    held = {p.relative_to(tmp_path / "state").as_posix(): p for p in (tmp_path / "state").rglob("*")}
    assert {name: None if path.is_dir() else path.read_bytes() for name, path in held.items()} == image
