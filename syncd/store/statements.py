"""Statements that all rows need: many rows in one, one row inserted or else updated, rows asked for by their ids.

SQLAlchemy compiles an upsert each time that it is executed, which costs more than its execution: these are compiled
once, to text. PostgreSQL takes many rows fastest as one array a column; SQLite takes them one by one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Table,
    Text,
    TextClause,
    any_,
    bindparam,
    cast,
    column,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

POSTGRES = "postgresql"
NOTHING: Mapping[str, Any] = MappingProxyType({})


def insert_into(dialect: str, table: Table) -> Any:
    return postgresql.insert(table) if dialect == POSTGRES else sqlite.insert(table)


def insert_many(dialect: str, table: Table, columns: Sequence[str]) -> Any:
    """Of the rows that ``many`` hands over."""
    statement = insert_into(dialect, table)
    if dialect != POSTGRES:
        return statement
    return statement.from_select(columns, select(_arrays(table, columns)), include_defaults=False)


def many(dialect: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """The parameters of a statement over many rows, all of the same columns."""
    return {name: [row[name] for row in rows] for name in rows[0]} if dialect == POSTGRES else rows


def among(dialect: str, it: ColumnElement[Any]) -> ColumnElement[bool]:
    """It is one of ``ids``, of which there may be any number; ``ids_of`` hands them over."""
    if dialect == POSTGRES:
        return it == any_(cast(bindparam("ids"), postgresql.ARRAY(Text)))
    return it.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value))


def ids_of(dialect: str, ids: Collection[str]) -> dict[str, Any]:
    return {"ids": list(ids) if dialect == POSTGRES else json.dumps(list(ids))}


def compiled(dialect: str, statement: Any, columns: Collection[str]) -> TextClause:
    """The statement with a parameter for each of the columns that are inserted."""
    plain = postgresql.dialect if dialect == POSTGRES else sqlite.dialect
    return text(str(statement.compile(dialect=plain(paramstyle="named"), column_keys=list(columns))))


@cache
def insertion(dialect: str, table: Table, columns: tuple[str, ...]) -> TextClause:
    return compiled(dialect, insert_many(dialect, table, columns), columns)


@cache
def update_by_key(dialect: str, table: Table, columns: tuple[str, ...]) -> TextClause:
    """Each row holds the key, and what to set."""
    keys = [key.name for key in table.primary_key]
    rest = [name for name in columns if name not in keys]
    new = _arrays(table, columns).c if dialect == POSTGRES else {name: bindparam(f"new_{name}") for name in columns}
    statement = update(table).values({name: new[name] for name in rest})
    plain = compiled(dialect, statement.where(*(table.c[name] == new[name] for name in keys)), ())
    return text(plain.text.replace(":new_", ":"))


@cache
def upsert(dialect: str, table: Table, columns: tuple[str, ...], kept: tuple[str, ...] = ()) -> TextClause:
    """``kept``: columns that stay as they are where the row is there already."""
    keys = [key.name for key in table.primary_key]
    statement = insert_into(dialect, table)
    rest = {name: statement.excluded[name] for name in columns if name not in {*keys, *kept}}
    if rest:
        statement = statement.on_conflict_do_update(index_elements=keys, set_=rest)
    else:
        statement = statement.on_conflict_do_nothing()
    return compiled(dialect, statement, columns)


def _arrays(table: Table, columns: Sequence[str]) -> Any:
    """The rows whose columns are handed over as arrays."""
    arrays = [cast(bindparam(name), postgresql.ARRAY(table.c[name].type)) for name in columns]
    rows = func.unnest(*arrays).table_valued(*(column(name, table.c[name].type) for name in columns), name="new")
    return rows.render_derived()
