"""The audit log's lines, and the backups that were taken."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from memodb.catalog import check, history
from memodb.catalog.history import BackupRow
from memodb.errors import Conflict, NotFound

T0 = datetime(2024, 5, 17, tzinfo=UTC)
HOUR = timedelta(hours=1)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.tuples(st.lists(st.binary(max_size=9), max_size=4), st.booleans()), max_size=5))
def test_lines_are_numbered_without_a_gap(house: Any, batches: list[tuple[list[bytes], bool]]) -> None:
    with house.catalog.write() as session:
        session.execute(text("DELETE FROM audit"))
    expected: list[bytes] = []
    for batch, kept in batches:
        try:
            with house.catalog.write() as session:
                history.append_lines(session, iter(batch))
                assert history.line_count(session) == len(expected) + len(batch)
                if not kept:
                    raise InterruptedError
            expected += batch
        except InterruptedError:
            pass
    with house.fresh() as catalog, catalog.read() as session:
        assert history.line_count(session) == len(expected)
        assert list(history.lines(session)) == expected
        for start in range(len(expected) + 2):
            assert list(history.lines(session, start)) == expected[start:]
        assert session.execute(text("SELECT seq FROM audit ORDER BY seq")).scalars().all() == list(range(len(expected)))
        assert check(session, house.collection) == []


def test_many_lines_are_streamed(house: Any) -> None:
    every = [b"line %d" % number for number in range(2500)]
    with house.catalog.write() as session:
        history.append_lines(session, every[:1])
        history.append_lines(session, every[1:])
        stream = history.lines(session)
        assert next(stream) == b"line 0"
        assert list(stream) == every[1:]


def test_two_lines_cannot_have_one_number(house: Any) -> None:
    with house.catalog.write() as session:
        history.append_lines(session, [b"a"])
    with pytest.raises(Conflict), house.catalog.write() as session:
        session.execute(text("INSERT INTO audit (seq, entry) VALUES (0, x'00')"))


def test_backups_are_listed_by_age_and_those_still_kept_before_a_time(house: Any) -> None:
    rows = {
        name: BackupRow(name, T0 + hours * HOUR, keep)
        for name, hours, keep in (("b", 0, None), ("c", 2, T0 + 9 * HOUR), ("a", 2, None), ("d", 1, T0))
    }
    with house.catalog.write() as session:
        for row in rows.values():
            history.add_backup(session, row)
    with house.fresh() as catalog, catalog.read() as session:
        assert history.backups(session) == [rows[name] for name in "bdac"]
        for hours, expected in ((0, ""), (1, "b"), (2, "bd"), (3, "bdac")):
            assert history.backups(session, before=T0 + hours * HOUR) == [rows[name] for name in expected]
    with house.catalog.write() as session:
        history.destroy_backup(session, "b", T0 + 5 * HOUR)
        for gone in ("b", "none"):
            with pytest.raises(NotFound, match=gone):
                history.destroy_backup(session, gone, T0 + 6 * HOUR)
    with house.fresh() as catalog, catalog.read() as session:
        assert history.backups(session)[0] == BackupRow("b", T0, None, T0 + 5 * HOUR)
        assert [row.id for row in history.backups(session, before=T0 + 9 * HOUR)] == ["d", "a", "c"]
        assert check(session, house.collection) == []
    with pytest.raises(Conflict), house.catalog.write() as session:
        history.add_backup(session, rows["b"])
