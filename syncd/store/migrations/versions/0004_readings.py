"""Readings that a page of a listing leaves for those who wait for a call, so that any replica may use them

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
oldest_code = "0002"


def upgrade() -> None:
    op.create_table(
        "readings",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("ion_id", sa.Text(), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_readings"),
    )
    op.create_index("ix_readings_asked", "readings", ["asked"])
    with op.batch_alter_table("sweeps") as sweeps:
        sweeps.add_column(sa.Column("is_early", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table("sweeps") as sweeps:
        sweeps.drop_column("is_early")
    op.drop_table("readings")
