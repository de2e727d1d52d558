"""Blocks, by which customers without a link are found by likeness; what speaks for a candidate, and who is none

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from syncd.core.likeness import blocks_of
from syncd.core.values import Side
from syncd.store import codec

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
oldest_code = "0002"

HELD = {"records": ("side", "customer_id", "registers"), "links": ("crm_id", "ion_id")}
"""What is read here of the tables as they were."""


def upgrade() -> None:
    blocks = op.create_table(
        "blocks",
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("block", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("side", "block", "customer_id", name=op.f("pk_blocks")),
    )
    op.create_index(op.f("ix_blocks_side_customer_id"), "blocks", ["side", "customer_id"])
    op.create_table(
        "rejections",
        sa.Column("crm_id", sa.String(), nullable=False),
        sa.Column("ion_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("crm_id", "ion_id", name=op.f("pk_rejections")),
    )
    op.create_index(op.f("ix_rejections_ion_id"), "rejections", ["ion_id"])
    with op.batch_alter_table("candidates") as candidates:
        candidates.add_column(sa.Column("evidence", sa.Text(), nullable=False, server_default="[]"))
    records, links = (sa.table(name, *map(sa.column, columns)) for name, columns in HELD.items())
    for side, linked in ((Side.CRM, links.c.crm_id), (Side.ION, links.c.ion_id)):
        unlinked = sa.select(records.c.customer_id, records.c.registers).where(
            records.c.side == side.value, records.c.customer_id.not_in(sa.select(linked))
        )
        after = ""
        while (
            rows := op.get_bind()
            .execute(unlinked.where(records.c.customer_id > after).order_by(records.c.customer_id).limit(1_000))
            .all()
        ):
            after = rows[-1].customer_id
            found = [
                {"side": side.value, "block": block, "customer_id": row.customer_id}
                for row in rows
                for block in blocks_of(codec.bare_record(side, row.customer_id, row.registers))
            ]
            if found:
                op.bulk_insert(blocks, found)


def downgrade() -> None:
    with op.batch_alter_table("candidates") as candidates:
        candidates.drop_column("evidence")
    op.drop_index(op.f("ix_rejections_ion_id"), table_name="rejections")
    op.drop_table("rejections")
    op.drop_index(op.f("ix_blocks_side_customer_id"), table_name="blocks")
    op.drop_table("blocks")
