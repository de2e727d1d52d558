"""How commands print: tables for people, JSON for machines, times in UTC."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from syncd.engine.desk import Desk
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore


HELD = 3
"""Exit code: something waits for a person."""


class DialectName(StrEnum):
    LIVE = "live"
    SEED = "seed"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")]


def settings_of(context: typer.Context) -> Settings:
    """The settings for a command, with logs quiet enough to read its output."""
    from syncd import logs
    from syncd.settings import load

    settings, _ = load(context.obj if isinstance(context.obj, Path) else None)
    logs.configure(settings.log.format, "warning")
    return settings


Result = TypeVar("Result")


def with_store(
    context: typer.Context,
    work: Callable[[SqlStore, Settings], Coroutine[Any, Any, Result]],
    *,
    migrate: bool = False,
) -> Result:
    """Run something on the store; looking makes and migrates nothing."""
    import asyncio

    settings = settings_of(context)

    async def opened() -> Result:
        from syncd.opening import open_store

        async with open_store(settings, migrate=migrate) as store:
            return await work(store, settings)

    return asyncio.run(opened())


def with_desk(
    context: typer.Context, work: Callable[[Desk], Coroutine[Any, Any, Result]], *, migrate: bool = False
) -> Result:
    """Do what a person does, on the store, whether daemons run or not."""

    async def sit(store: SqlStore, settings: Settings) -> Result:
        from syncd.app import desk_of
        from syncd.engine.tries import insist

        desk = await desk_of(settings, store)
        return await insist(lambda: work(desk))

    return with_store(context, sit, migrate=migrate)


def person() -> str:
    """Who sits at the command line, for the log of decisions."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "the command line"


def print_json(value: object) -> None:
    json.dump(value, sys.stdout, indent=2, default=str, ensure_ascii=False)
    sys.stdout.write("\n")


def print_view(view: BaseModel) -> None:
    print_json(view.model_dump(mode="json"))


def print_views(views: Iterable[BaseModel]) -> None:
    print_json([view.model_dump(mode="json") for view in views])


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    if not rows:
        typer.echo(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False).print(table)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on a terminal, nothing elsewhere; yields what to tell how far of how much it is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def ago(seconds: float | None) -> str:
    from syncd.core import instants  # here, so that `--help` need not load it

    return instants.ago(seconds)


def shown(value: object) -> str:
    """A field's value on one line."""
    from syncd.core.values import Address

    if isinstance(value, dict):  # an address in a view
        return ", ".join(str(part) for part in value.values() if part)
    if isinstance(value, Address):
        parts = (value.street, value.suite, value.city, value.state, value.zip)
        return ", ".join(part for part in parts if part)
    return "(blank)" if value is None else str(value)
