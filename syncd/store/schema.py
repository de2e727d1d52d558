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

from sqlalchemy import Connection, delete, func, insert, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from syncd.core.errors import BadConfiguration, StoreAway, UserError
from syncd.store.tables import NOTES

USABLE = "schema_usable"
"""The note that says ``SCHEMA by OLDEST_CODE``; it counts for just that schema."""
AWAY = ("08", "57P", "53300")
"""PostgreSQL's states for: no connection, starting up or shutting down, too many connections."""
LOCK = 0x73796E6364
"""``syncd`` in ASCII: the advisory lock under which the schema is changed."""


MIGRATIONS = Path(__file__).parent / "migrations"


def known() -> list[str]:
    """The revisions of this code, oldest first: their files begin with them."""
    return sorted(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def newest() -> str:
    """The revision that this code is made for."""
    return known()[-1]


async def current(engine: AsyncEngine) -> str | None:
    """The revision of the database; ``None`` for an empty one."""
    async with _said_plainly(), engine.connect() as connection:
        if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
            return None
        return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()


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
    from alembic import command  # slow to import, and seldom needed
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    command.upgrade(config, "head")
    head = ScriptDirectory.from_config(config).get_revision("head")
    usable = f"{newest()} by {head.module.oldest_code}"
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
    except Exception as error:
        cause = getattr(error, "orig", None) or error
        # What PostgreSQL says to a new connection comes as the driver's own exception.
        if not isinstance(error, SQLAlchemyError | OSError) and not hasattr(cause, "sqlstate"):
            raise
        is_away = isinstance(cause, OSError) or str(getattr(cause, "sqlstate", "")).startswith(AWAY)
        kind = StoreAway if is_away else UserError
        raise kind(f"the database can't be used: {str(cause).splitlines()[0]}") from None


async def is_newer(engine: AsyncEngine) -> bool:
    """A newer version of syncd has upgraded the database, in a way that this one can live with."""
    revision = await current(engine)
    if revision is None or revision in known():
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
