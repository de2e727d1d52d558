"""Alembic's entry: runs on a connection that ``schema.py`` hands over."""

from __future__ import annotations

from alembic import context

from syncd.store.tables import METADATA

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations are run by `syncd db upgrade`")

context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
