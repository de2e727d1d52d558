"""The schema's version: bringing a database up to date, and telling one that is newer than the code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from syncd.core.errors import BadConfiguration, UserError


def alembic_config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """The revision that this code is made for."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head() or ""


async def current(engine: AsyncEngine) -> str | None:
    """The revision of the database; ``None`` for an empty one."""
    async with _said_plainly(), engine.connect() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def upgrade(engine: AsyncEngine) -> str:
    """Bring the database to this code's revision; refuses one that is newer than the code."""
    await refuse_newer(engine)
    async with _said_plainly(), engine.begin() as connection:
        await connection.run_sync(lambda sync: command.upgrade(alembic_config(sync), "head"))
    return newest()


async def require_current(engine: AsyncEngine) -> None:
    """For commands that only look: they change nothing, the schema least of all."""
    await refuse_newer(engine)
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
        raise UserError(f"the database can't be used: {str(cause).splitlines()[0]}") from None


async def refuse_newer(engine: AsyncEngine) -> None:
    revision = await current(engine)
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise BadConfiguration(
            f"the database is at schema {revision}, which this version of syncd (schema {newest()})"
            " does not know: it was made by a newer one. Run that version, or restore a backup"
        )
