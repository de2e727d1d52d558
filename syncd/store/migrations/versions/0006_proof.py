"""Who was found to differ, and marks by which the log of decisions can be checked

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
oldest_code = "0002"


def upgrade() -> None:
    op.create_table(
        "divergences",
        sa.Column("crm_id", sa.String(), nullable=False),
        sa.Column("ion_id", sa.String(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("equal_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("crm_id", name=op.f("pk_divergences")),
    )
    with op.batch_alter_table("decisions") as decisions:
        decisions.add_column(sa.Column("digest", sa.Text(), nullable=False, server_default=""))
        decisions.add_column(sa.Column("mark", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("decisions") as decisions:
        decisions.drop_column("mark")
        decisions.drop_column("digest")
    op.drop_table("divergences")
