"""The catalogue: products, and the history of their prices

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
oldest_code = "0002"


def upgrade() -> None:
    op.create_table(
        "products",
        sa.Column("distributor", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("known_since", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("distributor", "id", name=op.f("pk_products")),
    )
    op.create_table(
        "prices",
        sa.Column("distributor", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("sku", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.String(), nullable=True),
        sa.Column("currency", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("distributor", "product", "sku", "plan", "phase", "since", name=op.f("pk_prices")),
    )


def downgrade() -> None:
    op.drop_table("prices")
    op.drop_table("products")
