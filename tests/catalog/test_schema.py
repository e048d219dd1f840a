"""Migrations: the same schema as the models', all or nothing, and never a guess about the future."""

import logging
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from memodb.catalog import Catalog, documents, registry, schema
from memodb.catalog.models import Base
from memodb.errors import Conflict, CorruptStore, ReadOnlyStore, SchemaTooNew

NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0004", "0003"
def upgrade():
    op.create_table("extra", sa.Column("a", sa.Integer(), primary_key=True))
    op.execute("UPDATE setting SET value = '2' WHERE name = 'a'")
    op.execute({last!r})
"""


def schema_of(path: Path) -> list[tuple[Any, ...]]:
    raw = sqlite3.connect(path)
    try:
        return raw.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
    finally:
        raw.close()


def set_revision(path: Path, revision: str) -> None:
    raw = sqlite3.connect(path)
    raw.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    raw.commit()
    raw.close()


def test_migrations_build_what_the_models_say(house: Any) -> None:
    with house.catalog.read() as session:
        context = MigrationContext.configure(
            session.connection(), opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
    found = {name: sql for _, name, sql in schema_of(house.path)}
    for table in ("setting", "collection", "segment", "erasure", "hold", "suppression", "doomed_key", "backup"):
        assert "WITHOUT ROWID" in found[table]
    assert not any("AUTOINCREMENT" in (sql or "").upper() for sql in found.values())


def test_the_known_revisions_are_the_shipped_ones() -> None:
    script = ScriptDirectory(schema.SCRIPTS)
    assert tuple(revision.revision for revision in script.walk_revisions())[::-1] == schema.REVISIONS
    assert script.get_heads() == [schema.HEAD]


def test_create_prints_and_configures_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (logging.root.level, list(logging.root.handlers), logging.getLogger("alembic").level)
    Catalog.create(tmp_path / "c.db").close()
    assert capfd.readouterr() == ("", "")
    assert before == (logging.root.level, list(logging.root.handlers), logging.getLogger("alembic").level)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_schema_is_refused_by_name(house: Any, read_only: bool) -> None:
    house.catalog.close()
    set_revision(house.path, "9999")
    before = house.path.read_bytes()
    with pytest.raises(SchemaTooNew, match=r"9999.*0003.*upgrade memodb"):
        Catalog.open(house.path, read_only=read_only)
    assert house.path.read_bytes() == before


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A memodb that also knows revision 0004, whose last statement is given."""

    def install(last: str) -> str:
        scripts = tmp_path / "migrations"
        shutil.copytree(schema.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
        (scripts / "versions" / "rev_0004.py").write_text(NEXT.format(last=last))
        monkeypatch.setattr(schema, "REVISIONS", ("0001", "0002", "0003", "0004"))
        monkeypatch.setattr(schema, "HEAD", "0004")
        monkeypatch.setattr(schema.upgrade, "__kwdefaults__", {"scripts": str(scripts), "target": "head"})
        monkeypatch.setattr(Catalog._migrate, "__kwdefaults__", {"scripts": str(scripts)})
        return str(scripts)

    return install


def settle(house: Any) -> None:
    with house.catalog.write() as session:
        registry.put_setting(session, "a", 1)
        documents.insert_many(session, house.collection, [house.new("d")])
    house.catalog.close()


def test_open_upgrades_an_older_schema(house: Any, next_revision: Any) -> None:
    settle(house)
    next_revision("SELECT 1")
    with pytest.raises(ReadOnlyStore, match="open it once for writing"):
        house.fresh()
    with Catalog.open(house.path) as catalog, catalog.read() as session:
        assert registry.get_setting(session, "a") == 2
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1
    with house.fresh() as catalog, catalog.read() as session:
        assert documents.count(session, house.collection) == 1
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["0004"]


@pytest.mark.parametrize(
    ("last", "error"),
    [("no such statement", Exception), ("DELETE FROM segment", CorruptStore)],
)
def test_an_upgrade_that_fails_half_way_leaves_the_old_catalog(
    house: Any, next_revision: Any, last: str, error: type[Exception]
) -> None:
    settle(house)
    before = schema_of(house.path)
    next_revision(last)
    with pytest.raises(error):
        Catalog.open(house.path)
    assert schema_of(house.path) == before
    raw = sqlite3.connect(house.path)
    assert raw.execute("SELECT value FROM setting WHERE name = 'a'").fetchall() == [("1",)]
    assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("0003",)]
    assert raw.execute("SELECT count(*) FROM segment").fetchall() == [(1,)]
    raw.close()


FROZEN = {
    "document": {
        "place": 1,
        "collection_id": "'x'",
        "id": "'x'",
        "source": "'x'",
        "subject": "NULL",
        "writer": "'x'",
        "batch": "'x'",
        "metadata": "'{}'",
        "created_at": 1,
        "token_count": 3,
        "digest": "x'00'",
        "key": "x'00'",
        "tokens": "x'00'",
        "text": "NULL",
    },
    "collection": {"id": "'x'", "key": "x'00'", "created_at": 1},
    "segment": {"id": "'x'", "collection_id": "'x'"},
}


@pytest.mark.parametrize(("table", "column"), [(table, column) for table in FROZEN for column in FROZEN[table]])
def test_provenance_cannot_be_changed(house: Any, table: str, column: str) -> None:
    house.insert(house.new("d"))
    with pytest.raises(Conflict, match="cannot be changed once written"), house.catalog.write() as session:
        session.execute(text(f"UPDATE {table} SET {column} = {FROZEN[table][column]}"))
    with pytest.raises(Conflict), house.catalog.write() as session:
        session.execute(text(f"UPDATE {table} SET {column} = {column}"))


def test_every_column_of_a_document_is_frozen_or_meant_to_change(house: Any) -> None:
    columns = set(Base.metadata.tables["document"].columns.keys())
    assert columns - set(FROZEN["document"]) == {"segment_id", "state", "erasure_id", "expires_at", "seal"}
    house.insert(house.new("d"))
    with house.catalog.write() as session:
        session.execute(
            text("UPDATE document SET segment_id = segment_id, state = 'live', erasure_id = NULL, expires_at = 5")
        )
