"""Licences: subscriptions, how their seats moved, snapshots, contracts

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
oldest_code = "0002"


def upgrade() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("distributor", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("ion_customer", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("known_since", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("distributor", "id", name=op.f("pk_subscriptions")),
    )
    op.create_table(
        "licence_drift",
        sa.Column("distributor", sa.String(), nullable=False),
        sa.Column("subscription", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("was", sa.Integer(), nullable=False),
        sa.Column("ion_customer", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("distributor", "subscription", "at", name=op.f("pk_licence_drift")),
    )
    op.create_index(op.f("ix_licence_drift_at"), "licence_drift", ["at"])
    op.create_table(
        "snapshots",
        sa.Column("at", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_snapshots")),
    )
    op.create_table(
        "contracts",
        sa.Column("customer", sa.String(), nullable=False),
        sa.Column("sku", sa.String(), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("customer", "sku", name=op.f("pk_contracts")),
    )


def downgrade() -> None:
    for table in ("contracts", "snapshots", "licence_drift", "subscriptions"):
        op.drop_table(table)
