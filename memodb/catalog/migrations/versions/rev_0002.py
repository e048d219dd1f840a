"""Seals in every row, and an index of the documents that are not live."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEALED = {
    "setting": ("name", "value"),
    "collection": ("id", "name", "key", "created_at"),
    "segment": ("id", "collection_id", "geometry", "tile"),
    "document": (
        "place",
        "collection_id",
        "id",
        "source",
        "subject",
        "writer",
        "metadata",
        "created_at",
        "expires_at",
        "token_count",
        "digest",
        "tokens",
        "text",
    ),
}


def upgrade() -> None:
    for table, columns in _SEALED.items():
        op.add_column(table, sa.Column("seal", sa.LargeBinary(), server_default=sa.text("x''"), nullable=False))
        op.execute(f"UPDATE {table} SET seal = memodb_seal({', '.join(columns)})")
    op.create_index(
        "ix_document_unfinished",
        "document",
        ["collection_id", "segment_id", "id"],
        sqlite_where=sa.text("state <> 'live'"),
    )
