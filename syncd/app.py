"""The composition root: opens the real outside, builds the daemon in it, and runs it."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import structlog

from syncd import traces
from syncd.admin.access import Access
from syncd.admin.server import make_app, serve
from syncd.core.errors import BadConfiguration, StoreAway, Transient, UserError
from syncd.core.values import Millis
from syncd.crm.kafka import KafkaAccess, KafkaEvents, KafkaPosts, KafkaSink, create_topics, missing_topics
from syncd.crm.rest import RestSink
from syncd.daemon import (
    Daemon,
    Events,
    Outside,
    Progress,
    build,
    make_desk,
    make_gate,
    make_ingest,
    make_ion,
    owner_name,
)
from syncd.engine.clock import SharedClock
from syncd.engine.desk import Desk
from syncd.engine.ingest import Ingest
from syncd.engine.intake import Intake
from syncd.engine.ports import Clock, Store
from syncd.engine.rebuild import is_unfinished
from syncd.ion.client import IonClient
from syncd.ion.wire import HttpWire
from syncd.mapping import CrmMapping, load_mapping
from syncd.metrics import Metrics
from syncd.opening import make_room, open_store
from syncd.settings import Settings, ensure_secret_key, require_for_ion, require_for_run
from syncd.store.seal import Seal
from syncd.store.sql import SqlStore

log = structlog.get_logger()


def machine_clock() -> SharedClock:
    """The time as far as this machine knows it, until the clock follows a store."""
    # Where there is one, the counter that also runs while the machine sleeps.
    counter = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return SharedClock(partial(time.clock_gettime, counter), Millis(time.time_ns() // 1_000_000))


async def store_clock(store: Store) -> SharedClock:
    """A clock that goes as the store's: for a command, which is over before it could go wrong."""
    clock = machine_clock()
    await clock.follow(store)
    return clock


async def desk_of(settings: Settings, store: SqlStore) -> Desk:
    """What a person does at the command line, beside the daemons on the same store."""
    mapping, clock = load_mapping(settings.mapping_file), await store_clock(store)
    return make_desk(settings, mapping, store, clock, store.fingerprint, Metrics())


async def ingest_of(settings: Settings, store: SqlStore) -> Ingest:
    """What a command takes events in with, beside the daemons on the same store."""
    return make_ingest(settings, load_mapping(settings.mapping_file), store, await store_clock(store), Metrics())


@asynccontextmanager
async def open_ion(settings: Settings, store: SqlStore, metrics: Metrics | None = None) -> AsyncIterator[IonClient]:
    """The ION client behind the shared budget; for the daemon and for every command."""
    require_for_ion(settings)
    async with HttpWire(settings.ion.timeout_seconds) as wire:
        clock = await store_clock(store)
        yield make_ion(settings, wire, store, clock, make_gate(settings, store, clock), owner_name(), metrics)


def kafka_access(settings: Settings) -> KafkaAccess:
    kafka = settings.kafka
    return KafkaAccess(
        kafka.bootstrap_servers or "",
        kafka.security_protocol,
        kafka.sasl_mechanism,
        kafka.sasl_username,
        kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
        *(str(path) if path else None for path in (kafka.ca_file, kafka.cert_file, kafka.key_file)),
    )


def topics(settings: Settings) -> dict[str, bool]:
    """Name to whether it is compacted."""
    kafka = settings.kafka
    told = {kafka.products_topic: True, kafka.subscriptions_topic: True, kafka.drift_topic: False}
    return {**needed_topics(settings), **told}


def needed_topics(settings: Settings) -> dict[str, bool]:
    """Those without which customers can't be synced, and what else is configured to be read or told."""
    kafka = settings.kafka
    orders = {kafka.orders_topic: False, kafka.order_status_topic: False} if kafka.orders_topic else {}
    contracts = {kafka.contracts_topic: True} if kafka.contracts_topic else {}
    return {
        kafka.events_topic: False,
        kafka.commands_topic: False,
        kafka.links_topic: True,
        kafka.dead_letters_topic: False,
        **orders,
        **contracts,
    }


@asynccontextmanager
async def only_daemon(path: Path | None) -> AsyncIterator[None]:
    """One daemon on one SQLite file: the lock goes with the process, however it ends."""
    if path is None:
        yield
        return
    with path.with_name(path.name + ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadConfiguration(
                f"another daemon uses {path}: SQLite serves one;"
                " for more replicas set SYNCD_DATABASE__URL to PostgreSQL"
            ) from None
        yield


class Probes:
    """What the probes and pages are told: by the daemon, and before it is there, what it waits for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.waits_for = {"database": "not opened yet"}
        self.daemon: Daemon | None = None
        self.desk: Desk | None = None

    async def problems(self) -> dict[str, str]:
        return await self.daemon.problems() if self.daemon else self.waits_for

    async def metrics_page(self) -> bytes:
        if self.daemon is not None:
            return await self.daemon.metrics_page()
        for part in self.waits_for:
            self._metrics.up.labels(part).set(0)
        return self._metrics.page()


async def run_daemon(settings: Settings) -> None:
    """The `run` command: until SIGTERM or SIGINT, from its first moment on."""
    require_for_run(settings)
    loop, starting = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, partial(_give_up, starting))
    with suppress(asyncio.CancelledError):
        await _run_daemon(settings, loop)


def _give_up(starting: asyncio.Task[Any] | None) -> None:
    log.info("daemon_stopped", before="it had started")
    if starting is not None:
        starting.cancel()


async def _run_daemon(settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
    mapping, metrics, clock = load_mapping(settings.mapping_file), Metrics(), machine_clock()
    async with AsyncExitStack() as stack:
        owner = owner_name()
        stack.callback(traces.start(settings.traces.url, owner))
        if settings.sqlite_file is not None:
            make_room(settings.sqlite_file)
        await stack.enter_async_context(only_daemon(settings.sqlite_file))
        probes = Probes(metrics)
        token = settings.admin.token.get_secret_value() if settings.admin.token else None
        guarded = Access(token, Seal(ensure_secret_key(settings)).fingerprints, clock.now)
        runner, port = await serve(make_app(probes, guarded), settings.admin.host, settings.admin.port)
        stack.push_async_callback(runner.cleanup)
        address = f"http://{settings.admin.host}:{port}"
        log.info("admin_listens", address=address)
        store = await _store_once_it_answers(settings, stack, probes, clock)
        if await is_unfinished(store):
            raise UserError("a rebuild of this database was broken off: run `syncd rebuild` again first")
        kafka, access = settings.kafka, kafka_access(settings)
        prepare = partial(_make_topics if kafka.create_topics else nothing_to_do, access, settings)
        posts = KafkaPosts(access)
        stack.push_async_callback(posts.close)
        rest = await _rest_sink(settings, mapping, clock, stack)

        def read(topic: str, group: str) -> Callable[[Intake, Progress], Events]:
            return partial(KafkaEvents, access, topic, group, prepare, clock)

        outside = Outside(
            store=store,
            clock=clock,
            wire=await stack.enter_async_context(HttpWire(settings.ion.timeout_seconds)),
            posts=posts,
            sink=rest or KafkaSink(posts, kafka.commands_topic, mapping),
            reader=rest,
            read_events=read(kafka.events_topic, kafka.group_id),
            read_orders=read(kafka.orders_topic, f"{kafka.group_id}.orders") if kafka.orders_topic else None,
            read_contracts=read(kafka.contracts_topic, f"{kafka.group_id}.contracts")
            if kafka.contracts_topic
            else None,
            missing_topics=partial(missing_topics, access),
            fingerprint=store.fingerprint,
            rng=Random(),
            owner=owner,
            # One file can't ring for the commands beside it, and is cheap to look at.
            idle_seconds=1.0 if settings.sqlite_file is not None else 15.0,
        )
        probes.desk = make_desk(settings, mapping, store, clock, store.fingerprint, metrics)
        probes.daemon = daemon = Daemon(build(settings, mapping, outside, metrics))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.stop)
        log.info("daemon_started", address=address, database=store.engine.dialect.name)
        await daemon.run()


async def _store_once_it_answers(settings: Settings, stack: AsyncExitStack, probes: Probes, clock: Clock) -> SqlStore:
    """The daemon starts before its database as well as after; whatever else is wrong with it is raised."""
    pause = 0.5
    while True:
        try:
            return await stack.enter_async_context(open_store(settings))
        except StoreAway as error:
            probes.waits_for = {"database": error.sentence}
            log.warning("database_away", reason=error.sentence, retry_in_seconds=pause)
        await clock.sleep(pause)
        pause = min(15.0, pause * 2)


async def _rest_sink(settings: Settings, mapping: CrmMapping, clock: Clock, stack: AsyncExitStack) -> RestSink | None:
    if settings.crm.sink != "http" or settings.crm.url is None:
        return None
    token = settings.crm.token.get_secret_value() if settings.crm.token else None
    rest = RestSink(settings.crm.url, token, mapping, clock, settings.ion.timeout_seconds)
    return await stack.enter_async_context(rest)


async def _make_topics(access: KafkaAccess, settings: Settings) -> None:
    """Nobody waits for those that can be done without, should we not be allowed to make them."""
    needed = needed_topics(settings)
    await create_topics(access, needed)
    try:
        await create_topics(access, {name: how for name, how in topics(settings).items() if name not in needed})
    except Transient as error:
        log.warning("topics_not_made", reason=error.sentence)


async def nothing_to_do(*_: object) -> None:
    """The topics are somebody else's to create."""
