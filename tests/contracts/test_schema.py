"""Schema versions: replicas that start at once, and older code beside newer (S12)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Timer

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from syncd.core.errors import BadConfiguration, StoreAway, UserError
from syncd.store import schema
from syncd.store.sql import make_engine


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(request.getfixturevalue(f"{request.param}_url"))
    yield engine
    await engine.dispose()


async def say(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def upgraded_by_a_newer_version(engine: AsyncEngine, oldest_code: str) -> None:
    await schema.upgrade(engine)
    await say(
        engine,
        "UPDATE alembic_version SET version_num = '9999'",
        f"UPDATE notes SET text = '9999 by {oldest_code}' WHERE name = '{schema.USABLE}'",
    )


async def test_replicas_that_start_at_once_upgrade_one_by_one(engine: AsyncEngine) -> None:
    others = [make_engine(engine.url.render_as_string(hide_password=False)) for _ in range(5)]
    try:
        assert set(await asyncio.gather(*map(schema.upgrade, [engine, *others]))) == {schema.newest()}
    finally:
        for other in others:
            await other.dispose()


async def test_a_new_sqlite_file_that_another_process_writes_to_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "syncd.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE theirs (x)")
    Timer(0.3, other.execute, ["COMMIT"]).start()
    engine = make_engine(f"sqlite:///{tmp_path}/syncd.db")
    try:
        assert await schema.upgrade(engine) == schema.newest()
    finally:
        await engine.dispose()
        other.close()


async def test_a_newer_schema_that_says_so_is_used_as_it_is(engine: AsyncEngine) -> None:
    await upgraded_by_a_newer_version(engine, schema.newest())
    assert await schema.upgrade(engine) == "9999"
    await schema.require_current(engine)
    assert await schema.current(engine) == "9999"


@pytest.mark.parametrize("told", ["9999 by 9998", "9998 by 0001", ""])
async def test_a_newer_schema_that_does_not_is_refused(engine: AsyncEngine, told: str) -> None:
    await upgraded_by_a_newer_version(engine, "0001")
    await say(engine, f"UPDATE notes SET text = '{told}' WHERE name = '{schema.USABLE}'")
    with pytest.raises(BadConfiguration, match="newer"):
        await schema.upgrade(engine)
    with pytest.raises(BadConfiguration, match="newer"):
        await schema.require_current(engine)


async def test_an_empty_database_is_not_one_to_look_at(engine: AsyncEngine) -> None:
    with pytest.raises(UserError, match="is empty"):
        await schema.require_current(engine)


async def test_a_server_that_is_starting_up_is_away_and_waited_for() -> None:
    async def starting_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if first[4:] == (80877103).to_bytes(4):  # it asks for TLS
            writer.write(b"N")
            first = await reader.readexactly(8)
        await reader.readexactly(int.from_bytes(first[:4]) - 8)
        body = b"SFATAL\x00VFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00"
        writer.write(b"E" + (len(body) + 4).to_bytes(4) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(starting_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = make_engine(f"postgresql://syncd@127.0.0.1:{port}/syncd")
    try:
        with pytest.raises(StoreAway, match="starting up"):
            await schema.upgrade(engine)
    finally:
        await engine.dispose()
        server.close()


async def test_an_error_of_the_database_does_not_tell_customer_data(engine: AsyncEngine) -> None:
    with pytest.raises(DBAPIError) as failed:
        async with engine.connect() as connection:
            await connection.execute(
                text("SELECT * FROM nowhere WHERE email = :email"), {"email": "ann@acme.example"}
            )
    assert "nowhere" in str(failed.value)
    assert "ann@acme.example" not in str(failed.value)


async def test_customers_without_a_link_can_be_found_by_likeness_after_the_upgrade(engine: AsyncEngine) -> None:
    def config_on(connection: Connection) -> Config:
        config = Config()
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        config.attributes["connection"] = connection
        return config

    await schema.upgrade(engine)
    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: command.downgrade(config_on(sync), "0004"))
        registers = '{"company": [["Northwind Ltd", 1, true, null, 1, 0, 1]]}'
        for side, number in (("crm", "C1"), ("crm", "C2"), ("ion", "7")):
            await connection.execute(
                text(
                    "INSERT INTO records (side, customer_id, registers, written_until, missing_sweeps, row_version)"
                    " VALUES (:side, :number, :registers, 0, 0, 1)"
                ),
                {"side": side, "number": number, "registers": registers},
            )
        await connection.execute(
            text(
                "INSERT INTO links (crm_id, ion_id, state, how, since, base, spellings, written_at)"
                " VALUES ('C2', '7', 'linked', 'person', 1, '{}', '[]', 0)"
            )
        )
    await schema.upgrade(engine)
    async with engine.connect() as connection:
        found = (await connection.execute(text("SELECT side, block, customer_id FROM blocks"))).all()
    assert ("crm", "word northwind", "C1") in found
    assert {(side, number) for side, _, number in found} == {("crm", "C1")}, "the others are linked"
