"""Whom a page of a listing has shown stands where he waits

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
oldest_code = "0002"


def upgrade() -> None:
    op.add_column("queue", sa.Column("shown", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index(op.f("ix_queue_stage_shown"), "queue", ["stage", "shown"])


def downgrade() -> None:
    op.drop_index(op.f("ix_queue_stage_shown"), "queue")
    with op.batch_alter_table("queue") as queue:
        queue.drop_column("shown")
