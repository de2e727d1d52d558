"""The store on PostgreSQL and SQLite: one unit of work is one transaction.

On PostgreSQL what is read is locked (``FOR UPDATE``); on SQLite each unit takes the write lock at
its start. Nothing here decides anything.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict
from enum import StrEnum
from functools import cache
from random import Random
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    Delete,
    Select,
    Table,
    TextClause,
    Update,
    bindparam,
    case,
    delete,
    event,
    exists,
    extract,
    false,
    func,
    insert,
    literal,
    literal_column,
    not_,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from syncd.core.budget import Ledger
from syncd.core.crowd import Crowd, Turn
from syncd.core.errors import BadConfiguration, LostLease, StoreConflict
from syncd.core.guard import GuardState, Tally
from syncd.core.intent import OPEN, Intent, IntentState, Kind
from syncd.core.likeness import CROWDED, Evidence, blocks_of, nearest_of, trait_values
from syncd.core.link import Link, LinkState
from syncd.core.listing import MISSING_SWEEPS, READ_THROUGH, SweepOutcome
from syncd.core.match import Candidate, Tier, keys_of, match_key
from syncd.core.plan import Change, ChangeState
from syncd.core.record import Reading, Record
from syncd.core.values import Millis, Side, Subject, Value
from syncd.core.verify import Divergence, Standing
from syncd.core.work import (
    FOR_GUARD,
    STEERED,
    Again,
    Claim,
    Conflict,
    DeadLetter,
    DecisionEntry,
    Erased,
    Hold,
    HoldKind,
    LogCheck,
    Message,
    Stage,
    Sweep,
    Tokens,
    Waiting,
    is_of,
)
from syncd.engine.ports import NO_TRACES, Loop
from syncd.store import codec
from syncd.store.bell import CHANNEL, Bell
from syncd.store.catalogue import CatalogueRows
from syncd.store.licences import LicenceRows
from syncd.store.orders import OrderRows
from syncd.store.seal import Seal
from syncd.store.statements import (
    POSTGRES,
    among,
    compiled,
    ids_of,
    insert_into,
    insert_many,
    insertion,
    many,
    update_by_key,
    upsert,
)
from syncd.store.tables import (
    BLOCKS,
    CANDIDATES,
    CHANGES,
    CONFLICTS,
    DECISIONS,
    DIVERGENCES,
    GUARD,
    HOLDS,
    INTENTS,
    LEASES,
    LEDGER,
    LETTERS,
    LINKS,
    MESSAGES,
    NOTES,
    OFFSETS,
    QUEUE,
    READINGS,
    RECORDS,
    REJECTIONS,
    SWEEPS,
    TOKENS,
)


def _one_of(column: ColumnElement[Any], values: Iterable[StrEnum]) -> ColumnElement[bool]:
    return or_(false(), *(column == value.value for value in values))


# Seconds since 1970, at the moment of asking and not at the transaction's start.
POSTGRES_TIME = extract("epoch", func.clock_timestamp())
SQLITE_TIME = (func.julianday("now") - 2_440_587.5) * 86_400

DELIVERABLE = (INTENTS.c.side == Side.CRM.value) & _one_of(INTENTS.c.state, (IntentState.PREPARED, IntentState.SENT))
IS_OPEN = _one_of(INTENTS.c.state, OPEN)
CALLS = QUEUE.c.stage == Stage.CALL.value


def _is_linked(subject: ColumnElement[str]) -> ColumnElement[bool]:
    # Looked up one by one: of an EXISTS PostgreSQL may make a table of all links.
    link = select(LINKS.c.crm_id).where(LINKS.c.crm_id == func.substr(subject, 5)).scalar_subquery()
    return subject.startswith("crm:") & link.is_not(None)


LINKED = _is_linked(QUEUE.c.subject)

# What is asked most is built once: to build a statement, and the key by which SQLAlchemy knows it again, costs more
# than to execute it.
_WHO: ColumnElement[str] = bindparam("who")
OPEN_INTENTS = (
    select(INTENTS).where(INTENTS.c.subject == _WHO, IS_OPEN).order_by(INTENTS.c.at, INTENTS.c.id).with_for_update()
)
RECENT_INTENTS = select(INTENTS).where(INTENTS.c.subject == _WHO, INTENTS.c.changed_at > bindparam("since"))
BLOCKS_OF_PAIR = delete(BLOCKS).where(
    ((BLOCKS.c.side == Side.CRM.value) & (BLOCKS.c.customer_id == bindparam("in_crm")))
    | ((BLOCKS.c.side == Side.ION.value) & (BLOCKS.c.customer_id == bindparam("in_ion")))
)
REJECTED = {
    Side.CRM: select(REJECTIONS.c.ion_id.label("other")).where(REJECTIONS.c.crm_id == _WHO),
    Side.ION: select(REJECTIONS.c.crm_id.label("other")).where(REJECTIONS.c.ion_id == _WHO),
}
CHANGES_OF = select(CHANGES).where(CHANGES.c.subject == _WHO)
TALLY = (
    select(CHANGES.c.state, *[func.sum(CHANGES.c[kind]).label(kind) for kind in Tally._fields])
    .where(CHANGES.c.by == "", or_(CHANGES.c.state != ChangeState.SPENT.value, CHANGES.c.at > bindparam("since")))
    .group_by(CHANGES.c.state)
)
PENDING = union_all(
    select(QUEUE.c.stage.label("place"), func.count().label("n"), func.min(QUEUE.c.since).label("oldest")).group_by(
        QUEUE.c.stage
    ),
    select(literal(FOR_GUARD), func.count(), func.min(CHANGES.c.at)).where(
        CHANGES.c.state == ChangeState.WAITING.value
    ),
)
GUARD_STATE = select(GUARD)
FENCE = select(QUEUE.c.fence).where(QUEUE.c.subject == _WHO).with_for_update()
_MINE = (QUEUE.c.subject == _WHO) & (QUEUE.c.fence == bindparam("held"))
_UNCHANGED = _MINE & (QUEUE.c.generation == bindparam("seen"))
FINISHED = delete(QUEUE).where(_UNCHANGED)
FINISHED_FOR_NOW = (
    update(QUEUE)
    .where(_UNCHANGED)
    .values(
        stage=bindparam("next_stage"), due=bindparam("next_due"), attempts=bindparam("tried"), fence=0, leased_until=0
    )
)
STILL_QUEUED = update(QUEUE).where(_MINE).values(fence=0, leased_until=0)
# Who is locked is being worked on, by somebody who may want what is locked here.
UNQUEUED = delete(QUEUE).where(
    QUEUE.c.subject.in_(
        select(QUEUE.c.subject)
        .where(QUEUE.c.subject == _WHO, QUEUE.c.leased_until <= bindparam("now"))
        .with_for_update(skip_locked=True)
    )
)
CLAIMABLE = (
    select(QUEUE)
    .where(
        QUEUE.c.stage == bindparam("stage"), QUEUE.c.due <= bindparam("now"), QUEUE.c.leased_until <= bindparam("now")
    )
    .order_by(QUEUE.c.since)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, of=QUEUE)
)
SHOWN = QUEUE.c.shown > bindparam("fresh")
CLAIMABLE_SHOWN = CLAIMABLE.where(SHOWN)
CLAIMABLE_UNSHOWN = CLAIMABLE.where(
    not_(SHOWN), or_(QUEUE.c.due < bindparam("listed"), QUEUE.c.due <= bindparam("late"), not_(LINKED))
)


def _counted(query: Select[Any]) -> Select[Any]:
    """How many rows there are, counted no further than ``most``."""
    return select(func.count()).select_from(query.limit(bindparam("most")).subquery())


UNDECIDED = _counted(
    select(QUEUE.c.subject).where(
        QUEUE.c.stage == Stage.DECIDE.value, QUEUE.c.due <= bindparam("now"), QUEUE.c.since <= bindparam("before")
    )
)
_NEW = (QUEUE.c.due >= bindparam("listed")) & (QUEUE.c.due <= bindparam("now"))
GLANCE = 2_000
"""Of a backlog so many tell enough. Of two sides that meet for the first time nearly nobody is linked, and to go
through all of them for each look at the crowd took a third of PostgreSQL's time."""
_DECIDING = select(QUEUE.c.subject).where(QUEUE.c.stage == Stage.DECIDE.value, _NEW).limit(GLANCE).subquery()
CROWD = select(
    *(
        _counted(each).scalar_subquery()
        for each in (
            select(_DECIDING).where(_is_linked(_DECIDING.c.subject)),
            select(QUEUE.c.subject).where(CALLS, _NEW, QUEUE.c.leased_until <= bindparam("now"), LINKED, not_(SHOWN)),
            select(QUEUE.c.subject).where(CALLS, QUEUE.c.due <= bindparam("now"), SHOWN),
        )
    )
)
NEXT_DUE = select(
    func.min(case((QUEUE.c.leased_until > QUEUE.c.due, QUEUE.c.leased_until), else_=QUEUE.c.due))
).where(QUEUE.c.stage == bindparam("stage"))
NEWEST = (
    select(QUEUE.c.subject, QUEUE.c.stage, QUEUE.c.since)
    .where(QUEUE.c.due <= bindparam("now"), QUEUE.c.leased_until <= bindparam("now"))
    .order_by(QUEUE.c.since.desc(), QUEUE.c.subject.desc())
    .limit(bindparam("most"))
)
SEEN_BEFORE = (
    select(RECORDS.c.customer_id, RECORDS.c.missing_sweeps)
    .where(
        RECORDS.c.side == Side.ION.value,
        RECORDS.c.customer_id > bindparam("after"),
        RECORDS.c.written_until < bindparam("before"),
        RECORDS.c.missing_sweeps < MISSING_SWEEPS,
    )
    .order_by(RECORDS.c.customer_id)
    .limit(bindparam("most"))
)
PAGE = 10_000
"""Rows that are held at once where a table is gone through."""
RESERVED = select(QUEUE.c.subject).where(among(POSTGRES, QUEUE.c.subject)).order_by(QUEUE.c.subject).with_for_update()
LEDGER_BODY = select(LEDGER.c.body).with_for_update()
PROGRESS = select(LEASES.c.progress).where(LEASES.c.name == bindparam("name"), LEASES.c.until > bindparam("now"))
SQLITE_BUSY_MS = 10_000
SILENT_MS = 60_000
"""A unit that says nothing for so long has lost its process or its network, and others wait for it. None thinks for
longer: the longest is about a plan of a million changes."""
RESTED_SECONDS = 1.0
"""A connection that was idle for longer may be dead without our knowing."""
CONNECTIONS = 16
"""Kept open by one process. More are opened for a crowd, and closed again, which costs more than they do."""


def _unlinked(side: Side, customer_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Asked customer by customer: ``NOT IN`` would go through all links each time."""
    return ~exists().where(_id_in_links(side) == customer_id)


def _id_in_links(side: Side) -> Column[str]:
    return LINKS.c.crm_id if side is Side.CRM else LINKS.c.ion_id


def async_url(url: str) -> str:
    """``postgresql://`` and ``sqlite://`` with the driver that this store uses."""
    for plain, driver in (("postgresql://", "postgresql+asyncpg://"), ("sqlite://", "sqlite+aiosqlite://")):
        if url.startswith(plain):
            return driver + url.removeprefix(plain)
    return url


def make_engine(url: str) -> AsyncEngine:
    is_postgres = url.startswith("postgresql")
    # A network that swallows everything must not hold a unit for ever.
    waits = {"timeout": 10, "command_timeout": 300} if is_postgres else {}
    # The one used last is used next: it is sure to live, and knows the statements.
    pool = {"pool_size": CONNECTIONS, "pool_use_lifo": True} if is_postgres else {}
    engine = create_async_engine(async_url(url), connect_args=waits, hide_parameters=True, **pool)
    if is_postgres:
        event.listen(engine.sync_engine, "connect", _end_the_silent)
        event.listen(engine.sync_engine, "checkin", _note_return)
        event.listen(engine.sync_engine, "checkout", _ping_the_rested)
    else:
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def _end_the_silent(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {SILENT_MS}")
    cursor.close()
    connection.commit()


def _note_return(_connection: object, record: Any) -> None:
    record.info["returned"] = time.monotonic()


def _ping_the_rested(connection: Any, record: Any, _fairy: object) -> None:
    """What SQLAlchemy's own ``pool_pre_ping`` does before each unit, three round trips, is done after a rest only."""
    returned = record.info.get("returned")
    if returned is not None and time.monotonic() - returned > RESTED_SECONDS:
        try:
            connection.ping()
        except Exception as error:
            raise InvalidatePoolError from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by ``_begin_immediate``
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", f"busy_timeout={SQLITE_BUSY_MS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _use_wal(cursor)
    cursor.close()


def _use_wal(cursor: Any) -> None:
    """A new file's first step; while another process writes it fails at once, whatever the busy timeout."""
    until = time.monotonic() + SQLITE_BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class SqlStore:
    def __init__(self, engine: AsyncEngine, seal: Seal, rng: Random | None = None) -> None:
        self.engine = engine
        self._seal = seal
        self._rng = rng or Random()
        self._bell = Bell()
        self._is_postgres = engine.dialect.name == "postgresql"
        # SQLite has one writer: waiting here is fair, waiting in SQLite is not.
        self._one_at_a_time = None if self._is_postgres else asyncio.Lock()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SqlUnit]:
        async with self._one_at_a_time or nullcontext():
            try:
                async with self.engine.begin() as connection:
                    unit = SqlUnit(connection, self._seal, self._rng)
                    yield unit
                    if unit.rung and self._is_postgres and not self._bell.is_heard:  # a command beside the daemons
                        told = func.pg_notify(CHANNEL, self._bell.message(unit.rung))
                        await connection.execute(select(told))
                self._bell.ring(unit.rung)
            except IntegrityError as error:
                raise StoreConflict(f"a row was stored by somebody else first: {_brief(error)}") from error
            except DBAPIError as error:
                if _is_retryable(error):
                    raise StoreConflict(_brief(error)) from error
                raise

    async def listen(self, ring: Callable[[Loop], None]) -> None:
        """On PostgreSQL all processes hear each other; on SQLite there is one.

        Returns when the connection is lost: what was rung meanwhile was missed.
        """
        with self._bell.heard_by(ring):
            if self._is_postgres:
                await self._hear_others()
            else:
                await asyncio.Event().wait()

    async def _hear_others(self) -> None:
        async with self.engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            if raw is None:
                return
            await raw.add_listener(CHANNEL, lambda *told: self._bell.take(told[-1]))
            while not raw.is_closed():
                await raw.execute("SELECT pg_notify($1, $2)", CHANNEL, await self._bell.next_message())

    def fingerprint(self, data: bytes) -> str:
        """A keyed hash: equal data, equal text; the data can't be read from it."""
        return self._seal.fingerprint(data)

    def fingerprints(self, data: bytes) -> list[str]:
        """The same by each key there is."""
        return self._seal.fingerprints(data)


def _brief(error: DBAPIError) -> str:
    return str(error.orig).splitlines()[0] if error.orig else "database error"


def _is_retryable(error: DBAPIError) -> bool:
    """Deadlock or serialisation failure on PostgreSQL, a busy file on SQLite."""
    code = getattr(error.orig, "sqlstate", None)
    locked = isinstance(error, OperationalError) and "database is locked" in str(error.orig)
    return code in ("40001", "40P01") or locked


class SqlUnit(CatalogueRows, LicenceRows, OrderRows):
    def __init__(self, connection: AsyncConnection, seal: Seal, rng: Random) -> None:
        self._connection = connection
        self._seal = seal
        self._rng = rng
        self._dialect = connection.dialect.name
        self._is_postgres = self._dialect == "postgresql"
        self.rung = set[Loop]()
        self._traits: dict[tuple[Side, str], tuple[Value, ...]] = {}
        """What the records that were read are found by, to know whether that changes."""

    async def time(self) -> Millis:
        seconds = POSTGRES_TIME if self._is_postgres else SQLITE_TIME
        return Millis(int((await self._connection.execute(select(seconds))).scalar_one() * 1000))

    # -- records and links

    async def records(self, side: Side, ids: Collection[str]) -> dict[str, Record]:
        mine = {"side": side.value, **ids_of(self._dialect, ids)}
        rows = await self._rows(_records_among(self._dialect), **mine) if ids else []
        found = {row.customer_id: codec.record_from_row(row) for row in rows}
        self._traits.update({(side, number): trait_values(record) for number, record in found.items()})
        return found

    async def peek(self, side: Side, ids: Collection[str]) -> dict[str, Record]:
        rows = await self._rows(_peeked(self._dialect, side), **ids_of(self._dialect, ids)) if ids else []
        return {row.customer_id: codec.record_from_row(row) for row in rows}

    async def find(self, text: str, limit: int) -> list[Record]:
        wanted = [RECORDS.c.customer_id == text]
        if part := match_key(text):
            wanted += [key.contains(part, autoescape=True) for key in (RECORDS.c.company_key, RECORDS.c.email_key)]
        query = select(RECORDS).where(or_(*wanted))
        is_exact = case((RECORDS.c.customer_id == text, 0), else_=1)
        query = query.order_by(is_exact, RECORDS.c.side, RECORDS.c.customer_id).limit(limit)
        return [codec.record_from_row(row) for row in await self._rows(query)]

    async def save_records(self, records: Collection[Record]) -> None:
        await self._insert(RECORDS, [codec.record_to_row(record) for record in records if not record.row_version])
        await self._update(RECORDS, [codec.record_to_row(record) for record in records if record.row_version])
        await self._save_blocks([r for r in records if self._traits.get((r.side, r.customer_id)) != trait_values(r)])

    async def _save_blocks(self, records: Collection[Record]) -> None:
        """Where those without a link are found by likeness; only what they are found by has changed."""
        for side in Side:
            changed = {record.customer_id: record for record in records if record.side is side}
            if changed:
                rows = await self._rows(_linked_among(self._dialect, side), **ids_of(self._dialect, changed))
                linked = {row[0] for row in rows}
                await self._make_blocks(side, [record for number, record in changed.items() if number not in linked])

    async def _make_blocks(self, side: Side, records: Collection[Record]) -> None:
        ids = [record.customer_id for record in records if record.row_version]
        if ids:
            mine = (BLOCKS.c.side == side.value) & among(self._dialect, BLOCKS.c.customer_id)
            await self._connection.execute(delete(BLOCKS).where(mine), ids_of(self._dialect, ids))
        rows = [
            {"side": side.value, "block": block, "customer_id": record.customer_id}
            for record in records
            for block in blocks_of(record)
        ]
        await self._insert(BLOCKS, rows)

    async def look_alikes(self, customer: Record, side: Side) -> list[Record]:
        keys = keys_of(customer)
        ion_id = customer.customer_id if customer.side is Side.ION else customer.noted_ion_id
        by = {"email": keys.email, "company": keys.company, "noted" if side is Side.CRM else "ion_id": ion_id}
        known = {name: value for name, value in by.items() if value}
        rows = await self._rows(_look_alikes(side, tuple(known)), **known) if known else []
        return [codec.record_from_row(row) for row in rows]

    async def neighbours(self, customer: Record, side: Side) -> list[Record]:
        blocks = {f"block_{number}": block for number, block in enumerate(blocks_of(customer))}
        members: dict[str, list[str]] = {}
        for row in await self._rows(_members(side, len(blocks)), **blocks) if blocks else []:
            members.setdefault(row.block, []).append(row.customer_id)
        nearest = nearest_of(members.values())
        found = await self.peek(side, nearest)
        return [found[customer_id] for customer_id in nearest if customer_id in found]

    async def created_between(self, start: Millis, end: Millis) -> list[Record]:
        mine = (RECORDS.c.side == Side.ION.value) & RECORDS.c.created.between(start, end)
        query = select(RECORDS).where(mine, _unlinked(Side.ION, RECORDS.c.customer_id))
        rows = await self._rows(query.order_by(RECORDS.c.customer_id))
        return [codec.record_from_row(row) for row in rows]

    async def note_missing(self, listed: Collection[str], before: Millis) -> list[str]:
        """Page by page: all of a million would take more memory than everything else."""
        due, after = list[str](), ""
        while rows := await self._rows(SEEN_BEFORE, before=before, after=after, most=PAGE):
            after = rows[-1].customer_id
            missing = {row.customer_id: row.missing_sweeps + 1 for row in rows if row.customer_id not in listed}
            if missing:
                await self._connection.execute(_missed(self._dialect), ids_of(self._dialect, missing))
            due += [customer_id for customer_id, count in missing.items() if count == MISSING_SWEEPS]
        return due

    async def links(self, side: Side, ids: Collection[str]) -> dict[str, Link]:
        rows = await self._rows(_links_among(self._dialect, side), **ids_of(self._dialect, ids)) if ids else []
        links = map(codec.link_from_row, rows)
        return {link.crm_id if side is Side.CRM else link.ion_id: link for link in links}

    async def add_link(self, link: Link) -> None:
        await self._connection.execute(insert(LINKS), codec.link_to_row(link))
        await self._connection.execute(BLOCKS_OF_PAIR, {"in_crm": link.crm_id, "in_ion": link.ion_id})

    async def save_link(self, link: Link) -> None:
        await self._upsert(LINKS, codec.link_to_row(link))

    async def drop_link(self, crm_id: str) -> None:
        """While they were linked, nobody kept up where the two are found by likeness."""
        links = await self.links(Side.CRM, [crm_id])
        await self._connection.execute(delete(LINKS).where(LINKS.c.crm_id == crm_id))
        for link in links.values():
            for side, customer_id in ((Side.CRM, link.crm_id), (Side.ION, link.ion_id)):
                await self._make_blocks(side, (await self.records(side, [customer_id])).values())

    async def reject(self, crm_id: str, ion_id: str) -> None:
        await self._upsert(REJECTIONS, {"crm_id": crm_id, "ion_id": ion_id})

    async def unreject(self, crm_id: str, ion_id: str) -> None:
        both = (REJECTIONS.c.crm_id == crm_id) & (REJECTIONS.c.ion_id == ion_id)
        await self._connection.execute(delete(REJECTIONS).where(both))

    async def rejected(self, customer: Record) -> set[str]:
        return {row.other for row in await self._rows(REJECTED[customer.side], who=customer.customer_id)}

    async def list_links(self, state: LinkState | None, after: str, limit: int) -> list[Link]:
        query = select(LINKS).where(LINKS.c.crm_id > after).order_by(LINKS.c.crm_id).limit(limit)
        if state is not None:
            query = query.where(LINKS.c.state == state.value)
        return [codec.link_from_row(row) for row in await self._rows(query)]

    async def count_links(self) -> dict[LinkState, int]:
        rows = await self._rows(select(LINKS.c.state, func.count().label("n")).group_by(LINKS.c.state))
        return {LinkState(row.state): row.n for row in rows}

    # -- intents, conflicts, the log of decisions

    async def intents(self, ids: Collection[str]) -> dict[str, Intent]:
        if not ids:
            return {}
        query = select(INTENTS).where(among(self._dialect, INTENTS.c.id)).order_by(INTENTS.c.id).with_for_update()
        return {row.id: codec.intent_from_row(row) for row in await self._rows(query, **ids_of(self._dialect, ids))}

    async def open_intents(self, subject: Subject) -> list[Intent]:
        return [codec.intent_from_row(row) for row in await self._rows(OPEN_INTENTS, who=subject)]

    async def open_creates(self, side: Side) -> list[Intent]:
        query = select(INTENTS).where(IS_OPEN, INTENTS.c.side == side.value, INTENTS.c.kind == Kind.CREATE.value)
        return [codec.intent_from_row(row) for row in await self._rows(query)]

    async def commands_due(self, now: Millis, limit: int) -> list[Intent]:
        query = select(INTENTS).where(DELIVERABLE, INTENTS.c.deliver_at <= now)
        query = query.order_by(INTENTS.c.at).limit(limit).with_for_update(skip_locked=True)
        return [codec.intent_from_row(row) for row in await self._rows(query)]

    async def next_command_due(self) -> Millis | None:
        due: int | None = (
            await self._connection.execute(select(func.min(INTENTS.c.deliver_at)).where(DELIVERABLE))
        ).scalar()
        return None if due is None else Millis(due)

    async def unknown_commands(self, before: Millis) -> list[Intent]:
        unknown = (INTENTS.c.state == IntentState.UNKNOWN.value) & (INTENTS.c.side == Side.CRM.value)
        rows = await self._rows(select(INTENTS).where(unknown, INTENTS.c.changed_at < before).with_for_update())
        return [codec.intent_from_row(row) for row in rows]

    async def recent_intents(self, subject: Subject, since: Millis) -> list[Intent]:
        rows = await self._rows(RECENT_INTENTS, who=subject, since=since)
        return [codec.intent_from_row(row) for row in rows]

    async def save_intent(self, intent: Intent, deliver_at: Millis | None = None) -> None:
        if deliver_at is not None:
            self.rung.add(Loop.SEND_COMMANDS)
        await self._upsert(INTENTS, codec.intent_to_row(intent, deliver_at))

    async def count_open_intents(self) -> dict[tuple[Side, IntentState], tuple[int, Millis]]:
        counts = (func.count().label("n"), func.min(INTENTS.c.at).label("oldest"))
        query = select(INTENTS.c.side, INTENTS.c.state, *counts).where(IS_OPEN)
        rows = await self._rows(query.group_by(INTENTS.c.side, INTENTS.c.state))
        return {(Side(row.side), IntentState(row.state)): (row.n, Millis(row.oldest)) for row in rows}

    async def archive(self, conflicts: Collection[Conflict]) -> None:
        for conflict in conflicts:
            row = codec.conflict_to_row(conflict)
            row["winning"], row["losing"] = self._seal.seal(row["winning"]), self._seal.seal(row["losing"])
            await self._upsert(CONFLICTS, row)

    async def list_conflicts(self, crm_id: str | None, before: Millis | None, limit: int) -> list[Conflict]:
        query = select(CONFLICTS).order_by(CONFLICTS.c.at.desc(), CONFLICTS.c.id)
        if crm_id is not None:
            query = query.where(CONFLICTS.c.crm_id == crm_id)
        if before is not None:
            query = query.where(CONFLICTS.c.at < before)
        rows = list(await self._rows(query.limit(limit)))
        if len(rows) == limit:  # those of one moment are on one page: the next begins before it
            same = (CONFLICTS.c.at == rows[-1].at) & (CONFLICTS.c.id > rows[-1].id)
            rows += await self._rows(query.where(same))
        return [self._conflict(row) for row in rows]

    async def conflict(self, conflict_id: str) -> Conflict | None:
        rows = await self._rows(select(CONFLICTS).where(CONFLICTS.c.id == conflict_id))
        return self._conflict(rows[0]) if rows else None

    def _conflict(self, row: Any) -> Conflict:
        return codec.conflict_from_row(row, self._seal.open(row.winning), self._seal.open(row.losing))

    async def save_divergences(self, found: Collection[Divergence]) -> None:
        await self._connection.execute(delete(DIVERGENCES))
        rows = [
            {
                "crm_id": divergence.crm_id,
                "ion_id": divergence.ion_id,
                "fields": codec.dumps(divergence.fields),
                "standing": divergence.standing.value,
                "since": divergence.since,
                "equal_until": divergence.equal_until,
            }
            for divergence in found
        ]
        if rows:
            await self._connection.execute(insert(DIVERGENCES), rows)

    async def divergences(self) -> list[Divergence]:
        rows = await self._rows(select(DIVERGENCES).order_by(DIVERGENCES.c.crm_id))
        return [
            Divergence(
                row.crm_id,
                row.ion_id,
                tuple(codec.loads(row.fields)),
                Standing(row.standing),
                Millis(row.since),
                Millis(row.equal_until),
            )
            for row in rows
        ]

    async def story(self, crm_id: str | None, ion_id: str | None, limit: int) -> list[DecisionEntry]:
        mine = [DECISIONS.c.crm_id == crm_id] if crm_id is not None else []
        mine += [DECISIONS.c.ion_id == ion_id] if ion_id is not None else []
        return await self._entries(or_(false(), *mine), limit)

    async def steered(self, limit: int) -> list[DecisionEntry]:
        return await self._entries(DECISIONS.c.subject == STEERED, limit)

    async def _entries(self, mine: ColumnElement[bool], limit: int) -> list[DecisionEntry]:
        rows = await self._rows(select(DECISIONS).where(mine).order_by(DECISIONS.c.id.desc()).limit(limit))
        return [
            DecisionEntry(
                Millis(row.at),
                Subject(row.subject),
                row.crm_id,
                row.ion_id,
                row.what,
                row.intent_id,
                codec.loads(self._seal.open(row.detail)) if row.detail else {},
            )
            for row in rows
        ]

    async def log(self, entries: Collection[DecisionEntry]) -> None:
        rows = [self._decision_row(entry) for entry in entries]
        if rows:
            await self._connection.execute(insert(DECISIONS), rows)

    def _decision_row(self, entry: DecisionEntry) -> codec.Row:
        detail = codec.dumps(entry.detail)
        row = {**codec.decision_to_row(entry), "digest": self._seal.fingerprint(detail.encode())}
        return {**row, "detail": self._seal.seal(detail), "mark": self._seal.fingerprint(codec.decision_marked(row))}

    async def check_log(self, after: int, limit: int) -> LogCheck:
        rows = await self._rows(select(DECISIONS).where(DECISIONS.c.id > after).order_by(DECISIONS.c.id).limit(limit))
        wrong = [row.id for row in rows if row.mark and not self._is_as_written(row)]
        erased, unmarked = sum(not row.detail for row in rows), sum(not row.mark for row in rows)
        return LogCheck(rows[-1].id if rows else None, len(rows), erased, unmarked, wrong)

    def _is_as_written(self, row: Any) -> bool:
        if row.mark not in self._seal.fingerprints(codec.decision_marked(row._mapping)):
            return False
        try:
            return not row.detail or row.digest in self._seal.fingerprints(self._seal.open(row.detail).encode())
        except BadConfiguration:  # sealed by no key of ours
            return False

    async def erase(self, subject: Subject, crm_id: str | None, ion_id: str | None) -> Erased:
        mine = [DECISIONS.c.crm_id == crm_id] if crm_id is not None else []
        mine += [DECISIONS.c.ion_id == ion_id] if ion_id is not None else []
        entries = await self._connection.execute(update(DECISIONS).where(or_(false(), *mine)).values(detail=""))
        conflicts = await self._connection.execute(delete(CONFLICTS).where(CONFLICTS.c.crm_id == crm_id))
        both = [subject, *([f"ion:{ion_id}"] if ion_id is not None else [])]
        await self._blank_intents(INTENTS.c.subject.in_(both) & not_(IS_OPEN))
        spent = codec.dumps({"set": {}, "expect": {}, "base": {}, "why": {}})  # its count for the guard stays
        await self._connection.execute(update(CHANGES).where(CHANGES.c.subject.in_(both)).values(body=spent))
        why = "erased; the next attempt says it again"
        await self._connection.execute(update(HOLDS).where(HOLDS.c.subject.in_(both)).values(reason=why))
        await self._connection.execute(delete(READINGS).where(READINGS.c.subject.in_(both)))
        letters = [row.id for row in await self._rows(select(LETTERS)) if self._tells_of(row, crm_id)]
        await self._connection.execute(delete(LETTERS).where(LETTERS.c.id.in_(letters)))
        return Erased(entries.rowcount, conflicts.rowcount, len(letters))

    async def _blank_intents(self, mine: ColumnElement[bool]) -> None:
        """Which fields were written, and whether an answer was lost, is needed on; what was in them is not."""
        rows = [
            {
                "id": row.id,
                "set_values": codec.dumps(dict.fromkeys(codec.loads(row.set_values))),
                "expect_values": "{}",
                "why": "{}",
                "answer": row.answer and "erased",
                "answered": None,
            }
            for row in await self._rows(select(INTENTS).where(mine))
        ]
        if rows:
            await self._update(INTENTS, rows)

    def _tells_of(self, row: Any, crm_id: str | None) -> bool:
        try:
            letter = codec.letter_from_row(row, self._seal.open(row.body))
        except BadConfiguration:  # sealed by no key of ours: nobody can read it any more
            return False
        return crm_id is not None and is_of(letter, crm_id)

    # -- changes and the guard

    async def changes_of(self, subject: Subject) -> list[Change]:
        rows = await self._rows(CHANGES_OF, who=subject)
        return [codec.change_from_row(row) for row in rows]

    async def save_change(self, change: Change) -> None:
        self.rung.add(Loop.JUDGE)
        await self._upsert(CHANGES, codec.change_to_row(change))

    async def drop_changes(self, ids: Collection[str]) -> None:
        if ids:
            await self._connection.execute(delete(CHANGES).where(CHANGES.c.id.in_(list(ids))))

    async def list_changes(self, after: str, limit: int) -> list[Change]:
        query = select(CHANGES).where(CHANGES.c.id > after).order_by(CHANGES.c.id).limit(limit)
        return [codec.change_from_row(row) for row in await self._rows(query)]

    async def pass_changes(self, ids: Collection[str] | None, by: str, now: Millis) -> list[Subject]:
        waiting = CHANGES.c.state == ChangeState.WAITING.value
        which = waiting if ids is None else waiting & among(self._dialect, CHANGES.c.id)
        passed = update(CHANGES).where(which).values(state=ChangeState.PASSED.value, by=by, at=now)
        rows = await self._connection.execute(
            passed.returning(CHANGES.c.subject), ids_of(self._dialect, ids) if ids is not None else {}
        )
        return list(dict.fromkeys(Subject(row.subject) for row in rows.all()))

    async def withdraw_passes(self) -> None:
        passed = (CHANGES.c.state == ChangeState.PASSED.value) & (CHANGES.c.by == "")
        await self._connection.execute(update(CHANGES).where(passed).values(state=ChangeState.WAITING.value))

    async def forget_spent(self, before: Millis) -> None:
        old = (CHANGES.c.state == ChangeState.SPENT.value) & (CHANGES.c.at < before)
        await self._connection.execute(delete(CHANGES).where(old))

    async def tally_changes(self, since: Millis) -> dict[ChangeState, Tally]:
        return {
            ChangeState(row.state): Tally(*(int(getattr(row, kind)) for kind in Tally._fields))
            for row in await self._rows(TALLY, since=since)
        }

    async def count_changes(self, states: Collection[ChangeState], limit: int) -> int:
        return await self._count(select(CHANGES.c.id).where(_one_of(CHANGES.c.state, states)), limit)

    async def guard_state(self) -> GuardState:
        rows = await self._rows(GUARD_STATE)
        return GuardState(*rows[0][1:]) if rows else GuardState()

    async def save_guard_state(self, state: GuardState) -> None:
        self.rung |= {Loop.JUDGE, Loop.SEND_COMMANDS}
        await self._upsert(GUARD, {"id": 1, **asdict(state)})

    # -- the queue

    async def enqueue(
        self, subjects: Collection[Subject], now: Millis, traces: Mapping[Subject, str] = NO_TRACES
    ) -> None:
        if not subjects:
            return
        self.rung.add(Loop.DECIDE)
        rows = [
            {
                "subject": subject,
                "trace": traces.get(subject),
                "stage": Stage.DECIDE.value,
                "due": now,
                "since": now,
                "attempts": 0,
                "generation": 1,
                "fence": 0,
                "leased_until": 0,
                "shown": 0,
            }
            for subject in dict.fromkeys(subjects)
        ]
        await self._connection.execute(_enqueue(self._dialect), many(self._dialect, rows))

    async def reserve(self, subjects: Collection[Subject]) -> None:
        if self._is_postgres:
            await self._connection.execute(RESERVED, ids_of(self._dialect, subjects))

    async def claim(
        self,
        stage: Stage,
        now: Millis,
        lease_ms: int,
        limit: int,
        turn: Turn | None = None,
        only: Collection[Subject] | None = None,
    ) -> list[Claim]:
        asked: dict[str, Any] = {"stage": stage.value, "now": now}
        queries = [CLAIMABLE]
        if turn is not None:
            queries = [CLAIMABLE_SHOWN] if turn.is_only_for_shown else [CLAIMABLE_SHOWN, CLAIMABLE_UNSHOWN]
            asked |= {"fresh": turn.fresh, "listed": turn.listed, "late": turn.late}
        if only is not None:
            queries = [query.where(among(self._dialect, QUEUE.c.subject)) for query in queries]
            asked |= ids_of(self._dialect, only)
        due = list[Any]()
        for query in queries:
            if len(due) < limit:
                due += await self._rows(query, most=limit - len(due), **asked)
        claims = [
            Claim(
                Subject(row.subject),
                stage,
                self._rng.getrandbits(62) + 1,
                row.generation,
                Millis(row.since),
                row.attempts,
                row.trace,
            )
            for row in due
        ]
        if claims:
            rows = [
                {"subject": claim.subject, "fence": claim.fence, "leased_until": now + lease_ms} for claim in claims
            ]
            await self._update(QUEUE, rows)
        return claims

    async def newest(self, now: Millis, limit: int) -> list[Waiting]:
        rows = await self._rows(NEWEST, now=now, most=limit)
        return [Waiting(Subject(row.subject), Stage(row.stage), Millis(row.since)) for row in rows]

    async def renew(self, claims: Collection[Claim], until: Millis) -> None:
        # Who is locked can't be claimed by others either; the leases of all others must not wait for him.
        mine = select(QUEUE.c.subject).where(QUEUE.c.fence.in_([claim.fence for claim in claims]))
        free = mine.with_for_update(skip_locked=True)
        await self._connection.execute(update(QUEUE).where(QUEUE.c.subject.in_(free)).values(leased_until=until))

    async def check(self, claim: Claim) -> None:
        if (await self._connection.execute(FENCE, {"who": claim.subject})).scalar() != claim.fence:
            raise LostLease

    async def finish(self, claim: Claim, again: Again | None = None) -> None:
        mine = {"who": claim.subject, "held": claim.fence}
        unchanged = {**mine, "seen": claim.generation}
        if again is None:
            done = await self._connection.execute(FINISHED, unchanged)
        else:
            self.rung.add(Loop.PUSH if again.stage is Stage.CALL else Loop.DECIDE)
            following = {"next_stage": again.stage.value, "next_due": again.due, "tried": again.attempts}
            done = await self._connection.execute(FINISHED_FOR_NOW, {**unchanged, **following})
        if done.rowcount:
            return
        # There is a newer reason to look: it stays queued, to be decided at once.
        self.rung.add(Loop.DECIDE)
        kept = await self._connection.execute(STILL_QUEUED, mine)
        if not kept.rowcount:
            raise LostLease

    async def unqueue(self, subject: Subject, now: Millis) -> None:
        await self._connection.execute(UNQUEUED, {"who": subject, "now": now})

    async def next_due(self, stage: Stage) -> Millis | None:
        due: int | None = (await self._connection.execute(NEXT_DUE, {"stage": stage.value})).scalar()
        return None if due is None else Millis(due)

    async def undecided(self, now: Millis, before: Millis, limit: int) -> int:
        asked = {"now": now, "before": before, "most": limit}
        return int((await self._connection.execute(UNDECIDED, asked)).scalar_one())

    async def is_queued(self, subject: Subject) -> bool:
        return bool(await self._count(select(QUEUE.c.subject).where(QUEUE.c.subject == subject), 1))

    async def pending(self) -> dict[str, tuple[int, Millis]]:
        return {row.place: (row.n, row.oldest) for row in await self._rows(PENDING) if row.n}

    async def crowd(self, turn: Turn, now: Millis, limit: int) -> Crowd:
        asked = {"listed": turn.listed, "fresh": turn.fresh, "now": now, "most": limit}
        return Crowd(*(await self._connection.execute(CROWD, asked)).one())

    async def keep_readings(self, readings: Collection[Reading], now: Millis) -> None:
        by_id = {reading.ion_id: reading for reading in readings}
        linked = QUEUE.c.subject == literal("crm:").concat(LINKS.c.crm_id)
        is_free = (QUEUE.c.due <= now) & (QUEUE.c.leased_until <= now)
        due = select(QUEUE.c.subject, QUEUE.c.stage, QUEUE.c.due, QUEUE.c.shown, LINKS.c.ion_id).where(
            linked, among(self._dialect, LINKS.c.ion_id), is_free
        )
        # Who is locked is being worked on: to wait for it here would be to wait for each other.
        due = due.with_for_update(skip_locked=True, of=QUEUE)
        rows = await self._rows(due, **ids_of(self._dialect, by_id))
        await self._keep([(row.subject, by_id[row.ion_id]) for row in rows])
        shown = []
        for row in rows:
            reading, waits_anew = by_id[row.ion_id], row.stage == Stage.CALL.value
            due_at = reading.answered if waits_anew else row.due
            shown.append({"subject": row.subject, "due": due_at, "shown": max(row.shown, reading.asked)})
            if waits_anew:
                self.rung.add(Loop.PUSH)
        await self._update(QUEUE, shown)

    async def _keep(self, readings: Sequence[tuple[str, Reading]]) -> None:
        rows = [
            {
                "subject": subject,
                "ion_id": reading.ion_id,
                "asked": reading.asked,
                "body": self._seal.seal(codec.reading_to_text(reading)),
            }
            for subject, reading in readings
        ]
        if rows:
            await self._connection.execute(_keep_reading(self._dialect), rows)

    async def reading_of(self, subject: Subject) -> Reading | None:
        rows = await self._rows(select(READINGS).where(READINGS.c.subject == subject))
        return codec.reading_from_text(rows[0].ion_id, self._seal.open(rows[0].body)) if rows else None

    async def drop_readings(self, before: Millis) -> None:
        await self._connection.execute(delete(READINGS).where(READINGS.c.asked < before))

    # -- who waits for a person

    async def hold(self, hold: Hold) -> None:
        row = {
            "subject": hold.subject,
            "kind": hold.kind.value,
            "reason": hold.reason,
            "since": hold.since,
            "fields": codec.dumps(list(hold.fields)),
        }
        await self._connection.execute(_hold_on(self._dialect), row)

    async def release(self, subject: Subject, kinds: Collection[HoldKind] = tuple(HoldKind)) -> None:
        released = await self._connection.execute(_release(tuple(kinds)), {"who": subject})
        if released.rowcount and HoldKind.REVIEW in kinds:  # whoever has candidates waits for a review
            await self._connection.execute(delete(CANDIDATES).where(CANDIDATES.c.subject == subject))

    async def list_holds(self, kinds: Collection[HoldKind], after: str, limit: int) -> list[Hold]:
        mine = (HOLDS.c.subject > after) & HOLDS.c.kind.in_([kind.value for kind in kinds])
        query = select(HOLDS).where(mine).order_by(HOLDS.c.subject, HOLDS.c.kind)
        rows = list(await self._rows(query.limit(limit)))
        if len(rows) == limit:  # one customer's are on one page: the next begins after it
            same = (HOLDS.c.subject == rows[-1].subject) & (HOLDS.c.kind > rows[-1].kind)
            rows += await self._rows(query.where(same))
        return [_hold(row) for row in rows]

    async def holds_of(self, subject: Subject) -> list[Hold]:
        query = select(HOLDS).where(HOLDS.c.subject == subject).order_by(HOLDS.c.kind)
        return [_hold(row) for row in await self._rows(query)]

    async def count_holds(self) -> dict[HoldKind, int]:
        rows = await self._rows(select(HOLDS.c.kind, func.count().label("n")).group_by(HOLDS.c.kind))
        return {HoldKind(row.kind): row.n for row in rows}

    async def save_candidates(self, subject: Subject, candidates: Collection[Candidate]) -> None:
        await self._connection.execute(delete(CANDIDATES).where(CANDIDATES.c.subject == subject))
        rows = [
            {
                "subject": subject,
                "crm_id": c.crm_id,
                "ion_id": c.ion_id,
                "tier": c.tier.value,
                "score": c.score,
                "evidence": codec.dumps(c.evidence),
            }
            for c in candidates
        ]
        if rows:
            await self._connection.execute(insert(CANDIDATES), rows)

    async def candidates(self, subject: Subject) -> list[Candidate]:
        order = (CANDIDATES.c.score.desc(), CANDIDATES.c.crm_id, CANDIDATES.c.ion_id)
        rows = await self._rows(select(CANDIDATES).where(CANDIDATES.c.subject == subject).order_by(*order))
        return [
            Candidate(row.crm_id, row.ion_id, Tier(row.tier), tuple(map(Evidence, codec.loads(row.evidence))))
            for row in rows
        ]

    # -- Kafka

    async def offsets(self, topic: str) -> dict[int, int]:
        query = select(OFFSETS).where(OFFSETS.c.topic == topic).with_for_update()
        return {row.partition: row.next_offset for row in await self._rows(query)}

    async def save_offsets(self, topic: str, offsets: Mapping[int, int], ends: Mapping[int, int]) -> None:
        unsaid = dict[int, int]()
        if offsets.keys() - ends.keys():
            query = select(OFFSETS.c.partition, OFFSETS.c.end_offset).where(OFFSETS.c.topic == topic)
            unsaid = {row.partition: row.end_offset for row in await self._rows(query)}
        for partition, next_offset in sorted(offsets.items()):
            end = ends.get(partition, max(next_offset, unsaid.get(partition, 0)))
            row = {"topic": topic, "partition": partition, "next_offset": next_offset, "end_offset": end}
            await self._upsert(OFFSETS, row)
        for partition in sorted(ends.keys() - offsets.keys()):
            its = (OFFSETS.c.topic == topic) & (OFFSETS.c.partition == partition)
            further = its & (OFFSETS.c.end_offset < ends[partition])
            await self._connection.execute(update(OFFSETS).where(further).values(end_offset=ends[partition]))

    async def places(self, topic: str) -> dict[int, range]:
        rows = await self._rows(select(OFFSETS).where(OFFSETS.c.topic == topic))
        return {row.partition: range(row.next_offset, row.end_offset) for row in rows}

    async def post(self, messages: Collection[Message]) -> None:
        rows = [
            {
                "topic": message.topic,
                "key": message.key,
                "value": message.value,
                "headers": codec.headers_to_text(message.headers),
            }
            for message in messages
        ]
        if rows:
            self.rung.add(Loop.SEND_MESSAGES)
            await self._connection.execute(insert(MESSAGES), rows)

    async def posted(self, limit: int, without: Collection[str] = ()) -> list[Message]:
        query = select(MESSAGES).order_by(MESSAGES.c.id).limit(limit)
        rows = await self._rows(query.where(MESSAGES.c.topic.not_in(list(without))) if without else query)
        return [Message(row.topic, row.key, row.value, codec.headers_from_text(row.headers), row.id) for row in rows]

    async def unpost(self, ids: Collection[int]) -> None:
        await self._connection.execute(delete(MESSAGES).where(MESSAGES.c.id.in_(list(ids))))

    async def bury(self, letters: Collection[DeadLetter]) -> None:
        for letter in letters:
            row = {
                "topic": letter.topic,
                "partition": letter.partition,
                "offset": letter.offset,
                "reason": letter.reason,
                "detail": letter.detail,
                "at": letter.at,
                "body": self._seal.seal(codec.letter_body(letter)),
            }
            place = [LETTERS.c.topic, LETTERS.c.partition, LETTERS.c.offset]
            statement = insert_into(self._dialect, LETTERS).on_conflict_do_nothing(index_elements=place)
            await self._connection.execute(statement, row)

    async def list_dead_letters(self, before: int | None, limit: int) -> list[DeadLetter]:
        query = select(LETTERS).order_by(LETTERS.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(LETTERS.c.id < before)
        return [codec.letter_from_row(row, self._seal.open(row.body)) for row in await self._rows(query)]

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        rows = await self._rows(select(LETTERS).where(LETTERS.c.id == letter_id))
        return codec.letter_from_row(rows[0], self._seal.open(rows[0].body)) if rows else None

    async def unbury(self, letter_id: int) -> None:
        await self._connection.execute(delete(LETTERS).where(LETTERS.c.id == letter_id))

    # -- ION

    async def ledger(self) -> Ledger | None:
        body = (await self._connection.execute(LEDGER_BODY)).scalar()
        return None if body is None else codec.ledger_from_text(body)

    async def save_ledger(self, ledger: Ledger) -> None:
        await self._upsert(LEDGER, {"id": 1, "body": codec.ledger_to_text(ledger)})

    async def tokens(self) -> Tokens | None:
        rows = await self._rows(select(TOKENS).with_for_update())
        if not rows:
            return None
        row = rows[0]
        return Tokens(
            access=None if row.access is None else self._seal.open(row.access),
            refresh=None if row.refresh is None else self._seal.open(row.refresh),
            obtained=Millis(row.obtained),
            access_expires=Millis(row.access_expires),
            refresh_expires=Millis(row.refresh_expires),
            seeded_by=row.seeded_by,
            refreshing_since=row.refreshing_since,
            refused=row.refused,
        )

    async def save_tokens(self, tokens: Tokens) -> None:
        row = {
            "id": 1,
            "access": None if tokens.access is None else self._seal.seal(tokens.access),
            "refresh": None if tokens.refresh is None else self._seal.seal(tokens.refresh),
            "obtained": tokens.obtained,
            "access_expires": tokens.access_expires,
            "refresh_expires": tokens.refresh_expires,
            "seeded_by": tokens.seeded_by,
            "refreshing_since": tokens.refreshing_since,
            "refused": tokens.refused,
        }
        await self._upsert(TOKENS, row)

    async def save_sweep(self, sweep: Sweep) -> None:
        row = {
            "started": sweep.started,
            "ended": sweep.ended,
            "pages": sweep.pages,
            "customers": sweep.customers,
            "changed": sweep.changed,
            "outcome": sweep.outcome.value,
            "is_early": sweep.is_early,
        }
        await self._upsert(SWEEPS, row)

    async def recent_sweeps(self, limit: int) -> list[Sweep]:
        return await self._sweeps(select(SWEEPS).limit(limit))

    async def last_complete(self) -> Millis | None:
        query = select(func.max(SWEEPS.c.started)).where(SWEEPS.c.outcome == SweepOutcome.COMPLETE.value)
        started: int | None = (await self._connection.execute(query)).scalar()
        return None if started is None else Millis(started)

    async def measuring_sweeps(self, limit: int) -> list[Sweep]:
        through = SWEEPS.c.outcome.in_([outcome.value for outcome in READ_THROUGH])
        mine = through & not_(SWEEPS.c.is_early) & (SWEEPS.c.customers > 0)
        return await self._sweeps(select(SWEEPS).where(mine).limit(limit))

    async def _sweeps(self, query: Select[Any]) -> list[Sweep]:
        return [
            Sweep(
                Millis(row.started),
                Millis(row.ended),
                row.pages,
                row.customers,
                row.changed,
                SweepOutcome(row.outcome),
                row.is_early,
            )
            for row in await self._rows(query.order_by(SWEEPS.c.started.desc()))
        ]

    async def note(self, name: str) -> str | None:
        return (await self._connection.execute(select(NOTES.c.text).where(NOTES.c.name == name))).scalar()

    async def save_note(self, name: str, text: str) -> None:
        await self._upsert(NOTES, {"name": name, "text": text})

    async def lease(self, name: str, owner: str, now: Millis, lease_ms: int) -> bool:
        statement = insert_into(self._dialect, LEASES)
        statement = statement.on_conflict_do_update(
            index_elements=[LEASES.c.name],
            set_={
                "owner": statement.excluded.owner,
                "until": statement.excluded.until,
                "progress": case((LEASES.c.owner == owner, LEASES.c.progress), else_=0),
            },
            where=or_(LEASES.c.owner == owner, LEASES.c.until <= now),
        )
        done = await self._connection.execute(statement, {"name": name, "owner": owner, "until": now + lease_ms})
        return bool(done.rowcount)

    async def unlease(self, name: str, owner: str) -> None:
        await self._connection.execute(delete(LEASES).where(LEASES.c.name == name, LEASES.c.owner == owner))

    async def progress(self, name: str, now: Millis) -> int:
        return (await self._connection.execute(PROGRESS, {"name": name, "now": now})).scalar() or 0

    async def save_progress(self, name: str, progress: int) -> None:
        await self._connection.execute(update(LEASES).where(LEASES.c.name == name).values(progress=progress))

    # -- how it is said in SQL

    async def _rows(self, query: Select[Any] | CompoundSelect[Any], **parameters: object) -> Sequence[Any]:
        return (await self._connection.execute(query, parameters)).all()

    async def _count(self, query: Select[Any], limit: int) -> int:
        return int((await self._connection.execute(_counted(query), {"most": limit})).scalar_one())

    async def _upsert(self, table: Table, row: Mapping[str, Any]) -> None:
        await self._connection.execute(upsert(self._dialect, table, tuple(row)), row)

    async def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            await self._connection.execute(insertion(self._dialect, table, tuple(rows[0])), many(self._dialect, rows))

    async def _update(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Each row holds the key and what to set."""
        if rows:
            statement = update_by_key(self._dialect, table, tuple(rows[0]))
            await self._connection.execute(statement, many(self._dialect, rows))


# -- statements that are built, or compiled, once


@cache
def _records_among(dialect: str) -> Select[Any]:
    mine = (RECORDS.c.side == bindparam("side")) & among(dialect, RECORDS.c.customer_id)
    return select(RECORDS).where(mine).order_by(RECORDS.c.customer_id).with_for_update()


@cache
def _peeked(dialect: str, side: Side) -> Select[Any]:
    return select(RECORDS).where(RECORDS.c.side == side.value, among(dialect, RECORDS.c.customer_id))


@cache
def _look_alikes(side: Side, known: Sequence[str]) -> Select[Any]:
    columns: Mapping[str, ColumnElement[Any]] = {
        "email": RECORDS.c.email_key,
        "company": RECORDS.c.company_key,
        "noted": RECORDS.c.noted_ion_id,
        "ion_id": RECORDS.c.customer_id,
    }
    alike = or_(*(columns[name] == bindparam(name) for name in known))
    query = select(RECORDS).where(RECORDS.c.side == side.value, alike, _unlinked(side, RECORDS.c.customer_id))
    return query.order_by(RECORDS.c.customer_id).limit(50)


@cache
def _members(side: Side, count: int) -> CompoundSelect[Any]:
    """Of so many blocks, the unlinked customers; of each as many as show that it is crowded."""
    unlinked = (BLOCKS.c.side == side.value) & _unlinked(side, BLOCKS.c.customer_id)
    some = [
        select(BLOCKS.c.block, BLOCKS.c.customer_id)
        .where(unlinked, BLOCKS.c.block == bindparam(f"block_{number}"))
        .limit(CROWDED + 1)
        for number in range(count)
    ]
    return union_all(*(select(one.subquery()) for one in some))


@cache
def _missed(dialect: str) -> Update:
    mine = (RECORDS.c.side == Side.ION.value) & among(dialect, RECORDS.c.customer_id)
    once_more = {"missing_sweeps": RECORDS.c.missing_sweeps + 1, "row_version": RECORDS.c.row_version + 1}
    return update(RECORDS).where(mine).values(once_more)


@cache
def _linked_among(dialect: str, side: Side) -> Select[Any]:
    it = _id_in_links(side)
    return select(it).where(among(dialect, it))


@cache
def _links_among(dialect: str, side: Side) -> Select[Any]:
    return select(LINKS).where(among(dialect, _id_in_links(side)))


@cache
def _enqueue(dialect: str) -> TextClause:
    statement = insert_many(dialect, QUEUE, QUEUE.c.keys())
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[QUEUE.c.subject],
        set_={
            "stage": new.stage,
            "due": case((QUEUE.c.due < new.due, QUEUE.c.due), else_=new.due),
            "generation": QUEUE.c.generation + literal_column("1"),
            "attempts": literal_column("0"),
            "trace": func.coalesce(new.trace, QUEUE.c.trace),
        },
    )
    return compiled(dialect, statement, QUEUE.c.keys())


@cache
def _keep_reading(dialect: str) -> TextClause:
    columns = ("ion_id", "asked", "body")
    statement = insert_into(dialect, READINGS)
    statement = statement.on_conflict_do_update(
        index_elements=[READINGS.c.subject],
        set_={name: statement.excluded[name] for name in columns},
        where=READINGS.c.asked < statement.excluded.asked,
    )
    return compiled(dialect, statement, ("subject", *columns))


@cache
def _release(kinds: tuple[HoldKind, ...]) -> Delete:
    return delete(HOLDS).where(HOLDS.c.subject == _WHO, _one_of(HOLDS.c.kind, kinds))


@cache
def _hold_on(dialect: str) -> TextClause:
    statement = insert_into(dialect, HOLDS)
    new = statement.excluded
    is_same = (HOLDS.c.reason == new.reason) & (HOLDS.c.fields == new.fields)
    statement = statement.on_conflict_do_update(
        index_elements=[HOLDS.c.subject, HOLDS.c.kind],
        set_={
            "since": case((is_same, HOLDS.c.since), else_=new.since),
            "reason": new.reason,
            "fields": new.fields,
        },
    )
    return compiled(dialect, statement, ("subject", "kind", "since", "reason", "fields"))


def _hold(row: Any) -> Hold:
    fields = tuple(codec.loads(row.fields))
    return Hold(Subject(row.subject), HoldKind(row.kind), row.reason, Millis(row.since), fields)
