"""Who came last is found at once, however many wait

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
oldest_code = "0002"


def upgrade() -> None:
    op.create_index(op.f("ix_queue_since"), "queue", ["since"])


def downgrade() -> None:
    op.drop_index(op.f("ix_queue_since"), "queue")
