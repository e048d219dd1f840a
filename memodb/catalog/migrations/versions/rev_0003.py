"""Documents and tiles under keys of their own; erasures, holds, suppressions, the audit log, and backups taken."""

import sqlalchemy as sa
from alembic import context, op

from memodb.catalog.contents import lock_packed
from memodb.errors import CorruptStore, StoreError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_IMMUTABLE = (
    "place",
    "collection_id",
    "id",
    "source",
    "subject",
    "writer",
    "batch",
    "metadata",
    "created_at",
    "token_count",
    "digest",
    "key",
    "tokens",
    "text",
)
_SEALED = {
    "segment": ("id", "collection_id", "geometry", "tile", "tile_key"),
    "document": (
        "place",
        "collection_id",
        "id",
        "source",
        "subject",
        "writer",
        "batch",
        "metadata",
        "created_at",
        "expires_at",
        "token_count",
        "digest",
        "key",
        "tokens",
        "text",
    ),
}
_AT_A_TIME = 256


_SEALED_BEFORE = {
    "setting": ("name", "value"),
    "collection": ("id", "name", "key", "created_at"),
    "segment": ("id", "collection_id", "geometry", "tile"),
    "document": tuple(name for name in _SEALED["document"] if name not in ("batch", "key")),
}


def upgrade() -> None:
    _require_undamaged()
    _create_tables()
    op.execute("ALTER TABLE segment ADD COLUMN tile_key BLOB")
    op.execute("UPDATE segment SET tile = NULL")  # tiles were not encrypted; they are made again
    op.execute("ALTER TABLE document ADD COLUMN batch TEXT")
    op.execute("ALTER TABLE document ADD COLUMN key BLOB NOT NULL DEFAULT x''")
    op.execute(
        "ALTER TABLE document ADD COLUMN erasure_id TEXT CONSTRAINT fk_document_erasure_id REFERENCES erasure (id)"
    )
    op.create_index(
        "ix_document_collection_id_batch_id",
        "document",
        ["collection_id", "batch", "id"],
        sqlite_where=sa.text("batch IS NOT NULL"),
    )
    op.execute("DROP TRIGGER document_immutable")
    _encrypt()
    op.execute(
        f"CREATE TRIGGER document_immutable BEFORE UPDATE OF {', '.join(_IMMUTABLE)} ON document "
        "BEGIN SELECT RAISE(ABORT, 'the provenance of a document cannot be changed once written'); END"
    )
    for table, columns in _SEALED.items():
        op.execute(f"UPDATE {table} SET seal = memodb_seal({', '.join(columns)})")


def _require_undamaged() -> None:
    """Refuse rows that are not as they were written: sealed anew they would look sound."""
    bind = op.get_bind()
    for table, columns in _SEALED_BEFORE.items():
        damaged = f"SELECT count(*) FROM {table} WHERE seal IS NOT memodb_seal({', '.join(columns)})"
        if bind.execute(sa.text(damaged)).scalar():
            raise CorruptStore(
                f"a row of the table {table} is damaged: run `memodb check` of the memodb that made the store, and "
                "mend it or restore a backup, before it is upgraded"
            )


def _encrypt() -> None:
    bind = op.get_bind()
    keys = context.config.attributes["keys"]
    # All row keys first: a cursor must not walk a table that is being rewritten.
    places = bind.execute(sa.text("SELECT place FROM document")).scalars().all()
    if places and keys is None:
        raise StoreError("the catalog was opened without its keys: its documents cannot be encrypted")
    for at in range(0, len(places), _AT_A_TIME):
        part = places[at : at + _AT_A_TIME]
        packed = []
        for place in part:
            row = bind.execute(sa.text("SELECT tokens, text FROM document WHERE place = :place"), {"place": place})
            packed.append(tuple(row.one()))
        for place, values in zip(part, lock_packed(keys, part, packed), strict=True):
            bind.execute(
                sa.text("UPDATE document SET key = :key, tokens = :tokens, text = :text WHERE place = :place"),
                {**values, "place": place},
            )


def _create_tables() -> None:
    op.create_table(
        "erasure",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("collection_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("pseudonyms", sa.LargeBinary(), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=True),
        _seal(),
        sa.PrimaryKeyConstraint("id", name="pk_erasure"),
        sa.ForeignKeyConstraint(["collection_id"], ["collection.id"], name="fk_erasure_collection_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_erasure_unfinished", "erasure", ["collection_id"], sqlite_where=sa.text("state <> 'verified'"))
    op.create_table(
        "hold",
        sa.Column("collection_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        _seal(),
        sa.PrimaryKeyConstraint("collection_id", "name", "place", name="pk_hold"),
        sa.ForeignKeyConstraint(["collection_id"], ["collection.id"], name="fk_hold_collection_id"),
        sa.ForeignKeyConstraint(["place"], ["document.place"], name="fk_hold_place"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_hold_place", "hold", ["place"])
    op.create_table(
        "suppression",
        sa.Column("collection_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        _seal(),
        sa.PrimaryKeyConstraint("collection_id", "hash", name="pk_suppression"),
        sa.ForeignKeyConstraint(["collection_id"], ["collection.id"], name="fk_suppression_collection_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        _seal(),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_table(
        "doomed_key",
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_doomed_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "backup",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("keep_until", sa.BigInteger(), nullable=True),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        _seal(),
        sa.PrimaryKeyConstraint("id", name="pk_backup"),
        sqlite_with_rowid=False,
    )


def _seal() -> sa.Column[bytes]:
    return sa.Column("seal", sa.LargeBinary(), server_default=sa.text("x''"), nullable=False)
