"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_IMMUTABLE = {
    "collection": ("id", "key", "created_at"),
    "segment": ("id", "collection_id"),
    "document": (
        "place",
        "collection_id",
        "id",
        "source",
        "subject",
        "writer",
        "metadata",
        "created_at",
        "token_count",
        "digest",
        "tokens",
        "text",
    ),
}


def upgrade() -> None:
    op.create_table(
        "setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_setting"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "collection",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_collection"),
        sa.UniqueConstraint("name", name="uq_collection_name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "segment",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("collection_id", sa.Text(), nullable=False),
        sa.Column("geometry", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("tile", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_segment"),
        sa.ForeignKeyConstraint(["collection_id"], ["collection.id"], name="fk_segment_collection_id"),
        sa.UniqueConstraint("collection_id", "id", name="uq_segment_collection_id_id"),
        sqlite_with_rowid=False,
    )
    _create_document()
    for table, columns in _IMMUTABLE.items():
        op.execute(
            f"CREATE TRIGGER {table}_immutable BEFORE UPDATE OF {', '.join(columns)} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'the provenance of a {table} cannot be changed once written'); END"
        )


def _create_document() -> None:
    op.create_table(
        "document",
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("collection_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("segment_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("writer", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("token_count", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("place", name="pk_document"),
        sa.ForeignKeyConstraint(
            ["collection_id", "segment_id"],
            ["segment.collection_id", "segment.id"],
            name="fk_document_collection_id_segment_id",
        ),
        sa.UniqueConstraint("collection_id", "id", name="uq_document_collection_id_id"),
    )
    for column, nullable in (
        ("source", True),
        ("subject", True),
        ("writer", True),
        ("created_at", False),
        ("expires_at", True),
        ("segment_id", False),
    ):
        op.create_index(
            f"ix_document_collection_id_{column}_id",
            "document",
            ["collection_id", column, "id"],
            sqlite_where=sa.text(f"{column} IS NOT NULL") if nullable else None,
        )
