"""Statements that all rows need: inserted or else updated, and asked for in chunks.

SQLAlchemy compiles an upsert each time that it is executed, which costs more than its execution: these are compiled
once, to text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Table, TextClause, text
from sqlalchemy.dialects import postgresql, sqlite

IN_CHUNK = 10_000
"""Ids in one IN list; below the parameter limits of both databases."""


def chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + IN_CHUNK] for start in range(0, len(ids), IN_CHUNK)]


def insert_into(dialect: str, table: Table) -> Any:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def compiled(dialect: str, statement: Any, columns: Collection[str]) -> TextClause:
    """The statement with a parameter for each of the columns that are inserted."""
    plain = postgresql.dialect if dialect == "postgresql" else sqlite.dialect
    return text(str(statement.compile(dialect=plain(paramstyle="named"), column_keys=list(columns))))


@cache
def upsert(dialect: str, table: Table, columns: tuple[str, ...], kept: tuple[str, ...] = ()) -> TextClause:
    """``kept``: columns that stay as they are where the row is there already."""
    keys = [column.name for column in table.primary_key]
    statement = insert_into(dialect, table)
    rest = {name: statement.excluded[name] for name in columns if name not in {*keys, *kept}}
    if rest:
        statement = statement.on_conflict_do_update(index_elements=keys, set_=rest)
    else:
        statement = statement.on_conflict_do_nothing()
    return compiled(dialect, statement, columns)
