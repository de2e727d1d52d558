"""Opening the store: for the daemon, and for the commands that need nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from syncd.core.errors import UserError
from syncd.settings import Settings, ensure_secret_key
from syncd.store import schema
from syncd.store.seal import Seal
from syncd.store.sql import SqlStore, make_engine


@asynccontextmanager
async def open_store(settings: Settings, *, migrate: bool = True) -> AsyncIterator[SqlStore]:
    """The store at this code's schema; raises a ``UserError`` where it can't be used.

    Without ``migrate`` nothing is made or changed: for commands that only look.
    """
    file = settings.sqlite_file
    if file is not None and not migrate and not file.exists():
        raise UserError(f"there is no database at {file}: `syncd run` makes it; check SYNCD_DATABASE__URL")
    if file is not None:
        make_room(file)
    seal = Seal(ensure_secret_key(settings))
    engine = make_engine(settings.database.url)
    try:
        if migrate:
            await schema.upgrade(engine)
        else:
            await schema.require_current(engine)
        yield SqlStore(engine, seal)
    finally:
        await engine.dispose()


def make_room(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{file.parent} can't be made: {error.strerror}") from None
