"""The schema's version: bringing a database up to date, and telling one that is newer than the code.

A migration first only expands: it names in ``oldest_code`` the oldest schema whose code can run on
what it leaves, and that is kept in the database. So while replicas are replaced one by one, the old
ones go on, and may even start anew, on the schema of the new ones; what they no longer need is
taken away a release later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from syncd.core.errors import BadConfiguration, StoreAway, UserError
from syncd.store.sql import NOTES

USABLE = "schema_usable"
"""The note that says ``SCHEMA by OLDEST_CODE``; it counts for just that schema."""
AWAY = ("08", "57P", "53300")
"""PostgreSQL's states for: no connection, starting up or shutting down, too many connections."""
LOCK = 0x73796E6364
"""``syncd`` in ASCII: the advisory lock under which the schema is changed."""


def alembic_config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """The revision that this code is made for."""
    return _scripts().get_current_head() or ""


async def current(engine: AsyncEngine) -> str | None:
    """The revision of the database; ``None`` for an empty one."""
    async with _said_plainly(), engine.connect() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def upgrade(engine: AsyncEngine) -> str:
    """Bring the database to this code's revision, or leave a newer one that this code can use as it is.

    Raises ``BadConfiguration`` for one that it can't use. Replicas that start at once do it one by one.
    """
    if await is_newer(engine):
        return await current(engine) or ""
    async with _said_plainly(), engine.begin() as connection:
        await connection.run_sync(_upgrade)
    return newest()


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    command.upgrade(alembic_config(connection), "head")
    usable = f"{newest()} by {_scripts().get_revision(newest()).module.oldest_code}"
    connection.execute(delete(NOTES).where(NOTES.c.name == USABLE))
    connection.execute(insert(NOTES), {"name": USABLE, "text": usable})


async def require_current(engine: AsyncEngine) -> None:
    """For commands that only look: they change nothing, the schema least of all."""
    if await is_newer(engine):
        return
    revision = await current(engine)
    if revision != newest():
        found = "is empty" if revision is None else f"is at schema {revision}"
        raise UserError(f"the database {found}: `syncd run` or `syncd db upgrade` brings it to schema {newest()}")


@asynccontextmanager
async def _said_plainly() -> AsyncIterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        is_away = isinstance(cause, OSError) or str(getattr(cause, "sqlstate", "")).startswith(AWAY)
        kind = StoreAway if is_away else UserError
        raise kind(f"the database can't be used: {str(cause).splitlines()[0]}") from None


async def is_newer(engine: AsyncEngine) -> bool:
    """A newer version of syncd has upgraded the database, in a way that this one can live with."""
    revision = await current(engine)
    if revision is None or revision in {script.revision for script in _scripts().walk_revisions()}:
        return False
    async with _said_plainly(), engine.connect() as connection:
        usable = (await connection.execute(select(NOTES.c.text).where(NOTES.c.name == USABLE))).scalar() or ""
    schema, _, oldest_code = usable.partition(" by ")
    if schema != revision or oldest_code > newest():
        raise BadConfiguration(
            f"the database is at schema {revision}, which this version of syncd (schema {newest()})"
            " does not know: it was made by a newer one. Run that version, or restore a backup"
        )
    return True


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())
