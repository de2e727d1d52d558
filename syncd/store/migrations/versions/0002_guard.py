"""Changes, guard, frozen fields; a customer can be held for more than one kind of reason

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
oldest_code = "0002"


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("crm_id", sa.String(), nullable=True),
        sa.Column("ion_id", sa.String(), nullable=True),
        sa.Column("context", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("creates", sa.Integer(), nullable=False),
        sa.Column("updates", sa.Integer(), nullable=False),
        sa.Column("cleared_fields", sa.Integer(), nullable=False),
        sa.Column("link_changes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
    )
    op.create_index(op.f("ix_changes_subject"), "changes", ["subject"])
    op.create_index(op.f("ix_changes_state_at"), "changes", ["state", "at"])
    op.create_table(
        "guard",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("held_since", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("paused_since", sa.BigInteger(), nullable=True),
        sa.Column("mapping", sa.String(), nullable=False),
        sa.Column("mapping_asked", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guard")),
    )
    op.add_column("records", sa.Column("created", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_records_created"), "records", ["created"])
    op.add_column("links", sa.Column("frozen", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("links", sa.Column("thawed_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("offsets", sa.Column("end_offset", sa.BigInteger(), nullable=False, server_default="0"))
    with op.batch_alter_table("holds") as holds:
        holds.drop_constraint("pk_holds", type_="primary")
        holds.create_primary_key("pk_holds", ["subject", "kind"])
