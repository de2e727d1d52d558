"""``check``, ``token`` and ``db``: getting it to run, and the token back to life."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.output import AsJson, ago, person, print_json, print_table, settings_of, with_desk, with_store

if TYPE_CHECKING:
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore

token = typer.Typer(help="ION's refresh token: single use, renewed by syncd, 32 days.", no_args_is_help=True)
db = typer.Typer(help="The database's schema.", no_args_is_help=True)


def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Try database, Kafka, topics, ION and CRM in turn, and say what to do about each that fails.

    Lists ION's customers once within the shared budget, and may renew the token; writes nothing to ION.
    """
    import asyncio

    settings = settings_of(context)
    results = asyncio.run(_check(settings))
    if as_json:
        print_json([{"part": part, "ok": ok, "says": says} for part, ok, says in results])
    else:
        print_table(("part", "", "says"), [(part, "ok" if ok else "FAILED", says) for part, ok, says in results], "")
    if not all(ok for _, ok, _ in results):
        raise typer.Exit(1)


async def _check(settings: Settings) -> list[tuple[str, bool, str]]:
    results = await _check_database_and_ion(settings)
    results[1:1] = await _check_kafka(settings)
    if settings.crm.sink == "http":
        return [*results, await _check_crm(settings)]
    return [*results, ("CRM", True, "spoken to over Kafka: nothing of its own to try")]


async def _check_database_and_ion(settings: Settings) -> list[tuple[str, bool, str]]:
    """ION's budget and tokens live in the database: without it no call is made."""
    from syncd.core.errors import SyncdError
    from syncd.opening import open_store

    try:
        async with open_store(settings) as store:
            found = ("database", True, f"{store.engine.dialect.name}, schema up to date")
            return [found, await _check_ion(settings, store)]
    except SyncdError as error:
        return [("database", False, error.sentence), ("ION", False, "not tried: its budget lives in the database")]


async def _check_kafka(settings: Settings) -> list[tuple[str, bool, str]]:
    import asyncio

    from syncd.app import kafka_access, needed_topics
    from syncd.crm.kafka import missing_topics

    if settings.kafka.bootstrap_servers is None:
        return [("Kafka", False, "SYNCD_KAFKA__BOOTSTRAP_SERVERS is missing; example: kafka-1:9092")]
    try:
        async with asyncio.timeout(15):
            missing = await missing_topics(kafka_access(settings), list(needed_topics(settings)))
    except Exception as error:
        where = settings.kafka.bootstrap_servers
        return [("Kafka", False, f"no broker answers at {where} ({type(error).__name__}): check address and access")]
    reached = ("Kafka", True, f"reached at {settings.kafka.bootstrap_servers}")
    if missing and settings.kafka.create_topics:
        return [reached, ("topics", True, f"the daemon will create {', '.join(missing)}")]
    if missing:
        advice = f"missing: {', '.join(missing)}; create them, or set SYNCD_KAFKA__CREATE_TOPICS=true"
        return [reached, ("topics", False, advice)]
    return [reached, ("topics", True, "all there")]


async def _check_ion(settings: Settings, store: SqlStore) -> tuple[str, bool, str]:
    from syncd.app import open_ion
    from syncd.core.budget import Lane
    from syncd.core.errors import Rejected, SyncdError, Throttled

    try:
        async with open_ion(settings, store) as ion:
            count = 0
            async for page in ion.list_customers(Lane.OPERATOR):
                count += len(page.readings)
            return ("ION", True, f"Connected to TD SYNNEX ION: {count} customers visible")
    except Throttled as error:
        return ("ION", False, f"{error.sentence}: wait a minute, and give syncd a credential of its own")
    except Rejected as error:
        return ("ION", False, f"{error.sentence}: check SYNCD_ION__URL and SYNCD_ION__ACCOUNT_ID")
    except SyncdError as error:
        return ("ION", False, error.sentence)


async def _check_crm(settings: Settings) -> tuple[str, bool, str]:
    from syncd.app import machine_clock
    from syncd.core.errors import SyncdError
    from syncd.crm.rest import RestSink
    from syncd.mapping import load_mapping

    secret = settings.crm.token.get_secret_value() if settings.crm.token else None
    sink = RestSink(settings.crm.url or "", secret, load_mapping(settings.mapping_file), machine_clock(), 15)
    try:
        async with sink:
            return ("CRM", True, f"reached, {await sink.probe()} customers on its first page")
    except SyncdError as error:
        return ("CRM", False, error.sentence)


@token.command("status")
def token_status(context: typer.Context, as_json: AsJson = False) -> None:
    """How old the tokens are and how long they last; never the tokens themselves."""

    async def read(store: SqlStore, _: Settings) -> dict[str, Any] | None:
        async with store.begin() as unit:
            tokens, now = await unit.tokens(), await unit.time()
        if tokens is None:
            return None
        return {
            "age_seconds": (now - tokens.obtained) / 1000,
            "access_expires_seconds": max(0, tokens.access_expires - now) / 1000,
            "refresh_expires_seconds": max(0, tokens.refresh_expires - now) / 1000,
            "refused": tokens.refused,
        }

    found = with_store(context, read)
    if as_json:
        print_json(found)
    elif found is None:
        typer.echo("No token is stored yet: the first run takes SYNCD_ION__REFRESH_TOKEN, or use `syncd token set`.")
    else:
        rows = [
            ("obtained", f"{ago(found['age_seconds'])} ago"),
            ("access token", f"good for {ago(found['access_expires_seconds'])}"),
            ("refresh token", found["refused"] or f"good for {ago(found['refresh_expires_seconds'])}"),
        ]
        print_table(("what", "state"), rows, "")
    if found is not None and found["refused"]:
        raise typer.Exit(1)


@token.command("set")
def token_set(
    context: typer.Context,
    file: Annotated[typer.FileText | None, typer.Option(help="Read it from this file instead of asking.")] = None,
) -> None:
    """Paste a new refresh token; the running daemon takes it up by itself.

    It is asked for without echo, or read from standard input, so that it stays out of the shell's
    history and of the list of processes.
    """
    if file is not None:
        pasted = file.read()
    elif sys.stdin.isatty():
        pasted = typer.prompt("Refresh token", hide_input=True)
    else:
        pasted = sys.stdin.read()
    with_desk(context, lambda desk: desk.paste_token(pasted, person()), migrate=True)
    typer.echo("Stored. The daemon uses it at its next call.")


@db.command("upgrade")
def db_upgrade(context: typer.Context) -> None:
    """Bring the database to this version's schema. `syncd run` does so itself."""

    async def read(store: SqlStore, _: Settings) -> str | None:
        from syncd.store import schema

        return await schema.current(store.engine)

    typer.echo(f"The database is at schema {with_store(context, read, migrate=True)}.")


@db.command("current")
def db_current(context: typer.Context, as_json: AsJson = False) -> None:
    """The database's schema and the one this version is made for."""
    import asyncio

    from syncd.store import schema
    from syncd.store.sql import make_engine

    async def read() -> str | None:
        settings = settings_of(context)
        if settings.sqlite_file is not None and not settings.sqlite_file.exists():
            return None  # opening it would make it
        engine = make_engine(settings.database.url)
        try:
            return await schema.current(engine)
        finally:
            await engine.dispose()

    current = asyncio.run(read())
    if as_json:
        print_json({"current": current, "newest": schema.newest()})
    else:
        typer.echo(f"database: {current or 'empty'}\nthis version: {schema.newest()}")
    if current != schema.newest():
        raise typer.Exit(1)
