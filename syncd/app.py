"""The composition root: builds the parts, joins them through their ports, runs and drains them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import structlog

from syncd.admin.server import make_app, serve
from syncd.core.budget import Ledger
from syncd.core.errors import BadConfiguration, SideError, StoreConflict, Unauthorised, UserError
from syncd.core.listing import SweepOutcome
from syncd.core.policy import Dialect, Policy
from syncd.core.values import Millis
from syncd.core.work import HoldKind, Stage, Sweep
from syncd.crm.commands import dead_letter_message
from syncd.crm.events import EventDecoder
from syncd.crm.kafka import KafkaAccess, KafkaEvents, KafkaPosts, KafkaSink, create_topics
from syncd.crm.rest import RestSink
from syncd.engine.create import Creator
from syncd.engine.deliver import Deliver
from syncd.engine.facts import Facts, FreshReadings
from syncd.engine.ingest import Ingest
from syncd.engine.intents import Intents
from syncd.engine.links import LinkBook
from syncd.engine.pairing import Pairing
from syncd.engine.ports import Clock, CrmSink
from syncd.engine.push import Pusher
from syncd.engine.reconcile import Reconciler
from syncd.engine.status import Status, survey
from syncd.engine.sweep import Sweeper
from syncd.engine.workers import LEASE_MS, Wake, Workers
from syncd.ion.client import IonClient
from syncd.ion.gate import BudgetGate
from syncd.ion.oauth import Credentials
from syncd.mapping import CrmMapping, load_mapping
from syncd.metrics import Metrics
from syncd.settings import Settings, ensure_secret_key, require_for_ion, require_for_run
from syncd.store import schema
from syncd.store.seal import Seal
from syncd.store.sql import SqlStore, make_engine

log = structlog.get_logger()

CALLS_UNDER_WAY = 2.5
"""A call with its retry after a 401 takes at most this many timeouts; then its slot is orphaned."""
DRAIN_SECONDS = 25.0


class SystemClock:
    def now(self) -> Millis:
        return Millis(time.time_ns() // 1_000_000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


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


@asynccontextmanager
async def open_ion(settings: Settings, store: SqlStore, metrics: Metrics | None = None) -> AsyncIterator[IonClient]:
    """The ION client behind the shared budget; for the daemon and for every command."""
    require_for_ion(settings)
    client = make_ion(settings, store, SystemClock(), metrics)
    async with client:
        yield client


def make_room(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{file.parent} can't be made: {error.strerror}") from None


def make_gate(settings: Settings, store: SqlStore, clock: Clock) -> BudgetGate:
    call_ms = int(settings.ion.timeout_seconds * 1000 * CALLS_UNDER_WAY)
    return BudgetGate(store, clock, settings.ion.calls_per_minute, call_ms)


def make_ion(
    settings: Settings, store: SqlStore, clock: Clock, metrics: Metrics | None, gate: BudgetGate | None = None
) -> IonClient:
    ion = settings.ion
    return IonClient(
        url=ion.url,
        account=ion.account_id or "",
        credentials=Credentials(
            ion.refresh_token.get_secret_value() if ion.refresh_token else None,
            ion.access_token.get_secret_value() if ion.access_token else None,
            ion.client_id,
            ion.client_secret.get_secret_value() if ion.client_secret else None,
        ),
        store=store,
        gate=gate or make_gate(settings, store, clock),
        clock=clock,
        owner=owner_name(),
        dialect=None if ion.dialect == "auto" else Dialect(ion.dialect),
        page_size=None if ion.page_size == "auto" else ion.page_size,
        timeout_seconds=ion.timeout_seconds,
        calls=metrics,
    )


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
    return {
        kafka.events_topic: False,
        kafka.commands_topic: False,
        kafka.links_topic: True,
        kafka.dead_letters_topic: False,
    }


def owner_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


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


@dataclass(frozen=True, slots=True)
class Parts:
    """The daemon's parts, joined."""

    settings: Settings
    store: SqlStore
    clock: Clock
    metrics: Metrics
    facts: Facts
    mapping: CrmMapping
    gate: BudgetGate
    ion: IonClient
    events: KafkaEvents
    posts: KafkaPosts
    sweeper: Sweeper
    workers: Workers
    deliver: Deliver
    wakes: Mapping[Stage, Wake]
    outgoing: Wake


def build(settings: Settings, store: SqlStore, metrics: Metrics, rest: RestSink | None) -> Parts:
    clock = SystemClock()
    facts = Facts(
        FreshReadings(int(settings.sync.fresh_seconds * 1000)), int(settings.poll.interval_seconds * 1000), Random()
    )
    mapping = load_mapping(settings.mapping_file)
    gate = make_gate(settings, store, clock)
    ion = make_ion(settings, store, clock, metrics, gate)
    posts = KafkaPosts(kafka_access(settings))
    sink: CrmSink = rest or KafkaSink(posts, settings.kafka.commands_topic, mapping)
    intents = Intents(metrics)
    book = LinkBook(settings.kafka.links_topic, store.fingerprint)
    pairing = Pairing(facts, intents, book)
    settle_ms = int(settings.ion.timeout_seconds * 1000)
    creator = Creator(store, ion, clock, facts, intents, book, pairing, settle_ms)
    pusher = Pusher(store, ion, clock, facts, intents, book, creator)
    wakes = {stage: Wake() for stage in Stage}
    outgoing = Wake()
    reconciler = Reconciler(store, clock, facts, pairing, intents, book)
    decoder = EventDecoder(mapping, int(settings.sync.clock_skew_seconds * 1000))
    ingest = Ingest(
        store,
        clock,
        metrics,
        intents,
        decoder.decode,
        lambda letter: dead_letter_message(settings.kafka.dead_letters_topic, letter),
    )

    def on_progress(lags: Mapping[int, int]) -> None:
        metrics.kafka_lag(settings.kafka.events_topic, lags)
        if lags and not any(lags.values()):
            facts.crm_caught_up_at = clock.now()

    def on_changed() -> None:
        wakes[Stage.DECIDE].set()
        outgoing.set()

    events = KafkaEvents(
        kafka_access(settings),
        settings.kafka.events_topic,
        settings.kafka.group_id,
        store,
        clock,
        ingest.ingest,
        on_progress,
        on_changed,
    )
    return Parts(
        settings,
        store,
        clock,
        metrics,
        facts,
        mapping,
        gate,
        ion,
        events,
        posts,
        Sweeper(store, ion, clock, facts, metrics),
        Workers(store, gate, clock, facts, reconciler, pusher, wakes, outgoing),
        Deliver(store, sink, posts, clock, facts, intents),
        wakes,
        outgoing,
    )


class Daemon:
    """Everything that runs for as long as the daemon does."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._owner = owner_name()
        self._ion_problem: str | None = "ION was not asked yet"
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        if not self._stopping.is_set():
            log.info("daemon_draining")
            self._stopping.set()

    async def run(self) -> None:
        """Run until ``stop``; then let what is under way end."""
        parts = self._parts
        await self._learn_policy()
        await parts.sweeper.remember_last()
        async with asyncio.TaskGroup() as tasks:
            endless = [
                tasks.create_task(forever(name, work, parts.clock))
                for name, work in {
                    "read_events": parts.events.run,
                    "sweep": self._sweep,
                    "renew_leases": parts.workers.renew,
                    "refresh_token": self._refresh_token,
                    "send_messages": self._send_messages,
                    "send_commands": self._send_commands,
                    "measure": self._measure,
                }.items()
            ]
            working = [
                tasks.create_task(self._when_oriented("decide", parts.workers.decide)),
                tasks.create_task(self._when_oriented("push", parts.workers.push)),
            ]
            await self._stopping.wait()
            parts.workers.drain()
            await asyncio.wait(working, timeout=DRAIN_SECONDS)
            await self._flush()
            for task in (*endless, *working):
                task.cancel()
        await parts.ion.custody.drain()
        log.info("daemon_stopped")

    async def problems(self) -> dict[str, str]:
        """What keeps this replica from being ready; empty when it is."""
        parts, found = self._parts, dict[str, str]()
        try:
            async with parts.store.begin() as unit:
                tokens = await unit.tokens()
        except Exception as error:
            return {"database": f"the database can't be used: {type(error).__name__}"}
        if parts.events.problem is not None:
            found["kafka"] = parts.events.problem
        if self._ion_problem is not None:
            found["ion"] = self._ion_problem
        if tokens is not None and tokens.refused is not None:
            found["token"] = tokens.refused
        return found

    async def metrics_page(self) -> bytes:
        await self._update_gauges()
        return self._parts.metrics.page()

    async def _when_oriented(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Nothing can be decided before ION's dialect, and so the policy, is known."""
        while self._parts.facts.policy is None and not self._stopping.is_set():
            await self._parts.clock.sleep(0.05)
        if not self._stopping.is_set():
            await forever(name, work, self._parts.clock, until=self._stopping)

    async def _learn_policy(self) -> None:
        parts = self._parts
        if parts.facts.policy is None and (dialect := await parts.ion.known_dialect()) is not None:
            parts.facts.policy = policy_of(parts.settings, parts.mapping, dialect)

    async def _sweep(self) -> None:
        """One replica sweeps: from start to start an interval lies."""
        parts = self._parts
        interval_ms = int(parts.settings.poll.interval_seconds * 1000)
        due = parts.clock.now()
        while True:
            is_leader = await self._lease("sweep")
            parts.metrics.leader.set(int(is_leader))
            if is_leader and parts.clock.now() >= due:
                due = Millis(parts.clock.now() + interval_ms)
                await self._leased("sweep", self._sweep_once)
            await parts.clock.sleep(max(0.01, min(5.0, (due - parts.clock.now()) / 1000)))

    async def _sweep_once(self) -> None:
        parts = self._parts
        try:
            sweep = await parts.sweeper.sweep()
        except SideError as error:
            self._ion_problem = error.sentence
            log.warning("sweep_failed", reason=error.sentence, kind=type(error).__name__)
        else:
            self._ion_problem = None
            say_sweep(sweep)
        try:
            await self._learn_policy()
        except BadConfiguration as error:
            self._ion_problem = error.sentence
            log.error("mapping_unusable", reason=error.sentence)
        parts.wakes[Stage.DECIDE].set()

    async def _lease(self, name: str) -> bool:
        async with self._parts.store.begin() as unit:
            return await unit.lease(name, self._owner, self._parts.clock.now(), LEASE_MS)

    async def _leased(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Keep the lease while the work lasts."""
        task = asyncio.ensure_future(work())
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LEASE_MS / 3000)
                await self._lease(name)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        task.result()

    async def _refresh_token(self) -> None:
        while True:
            try:
                await self._parts.ion.custody.refresh_ahead()
            except Unauthorised as error:
                self._ion_problem = error.sentence
            except SideError as error:
                log.warning("token_not_refreshed", reason=error.sentence)
            await self._parts.clock.sleep(15)

    async def _send_messages(self) -> None:
        while True:
            try:
                if await self._parts.deliver.messages():
                    continue
            except SideError as error:
                log.warning("messages_wait", reason=error.sentence)
                await self._parts.clock.sleep(2)
            await self._parts.outgoing.wait(1.0)

    async def _send_commands(self) -> None:
        while True:
            if not await self._parts.deliver.commands():
                await self._parts.clock.sleep(0.2)

    async def _flush(self) -> None:
        """Hand over what is ready to go; what can't be handed over waits in the store."""
        try:
            async with asyncio.timeout(5):
                await self._parts.deliver.commands()
                while await self._parts.deliver.messages():
                    pass
        except (TimeoutError, SideError):
            log.warning("messages_wait", reason="Kafka takes no messages; they wait in the store")
        async with self._parts.store.begin() as unit:
            await unit.unlease("sweep", self._owner)

    async def _measure(self) -> None:
        while True:
            await self._update_gauges()
            await self._parts.clock.sleep(15)

    async def _update_gauges(self) -> None:
        parts = self._parts
        status = await survey(parts.store, parts.clock.now(), parts.settings.kafka.events_topic)
        set_gauges(parts.metrics, status, await parts.gate.ledger())


def policy_of(settings: Settings, mapping: CrmMapping, dialect: Dialect) -> Policy:
    sync = settings.sync
    policy = mapping.policy(dialect, sync.tie, sync.first_link, int(sync.clock_skew_seconds * 1000))
    return replace(
        policy,
        creates_in_ion=sync.create_in_ion,
        creates_in_crm=sync.create_in_crm,
        reviews_crm_deletions=sync.crm_delete == "review",
    )


def set_gauges(metrics: Metrics, status: Status, ledger: Ledger) -> None:
    metrics.ion_budget_calls.labels("used").set(status.budget_used)
    metrics.ion_budget_calls.labels("free").set(max(0, int(ledger.rate) - status.budget_used))
    metrics.pending_changes.labels("to-ion").set(status.pending[Stage.CALL.value])
    metrics.pending_changes.labels("to-crm").set(status.commands_open)
    metrics.oldest_pending_seconds.labels("to-ion").set(status.oldest_pending_seconds)
    metrics.oldest_pending_seconds.labels("to-crm").set(status.oldest_command_seconds)
    for state, count in status.links.items():
        metrics.links.labels(state).set(count)
    metrics.unknown_outcomes.set(status.unknown_outcomes)
    metrics.quarantined_customers.set(status.holds[HoldKind.QUARANTINE.value])
    metrics.incomplete_customers.set(status.holds[HoldKind.INCOMPLETE.value])
    if status.complete_sweep_age_seconds is not None:
        metrics.sweep_age_seconds.set(status.complete_sweep_age_seconds)
    if status.token_expires_seconds is not None:
        metrics.token_expires_seconds.set(status.token_expires_seconds)


def say_sweep(sweep: Sweep) -> None:
    is_news = bool(sweep.changed) or sweep.outcome is not SweepOutcome.COMPLETE
    say = log.warning if sweep.outcome is not SweepOutcome.COMPLETE else log.info if is_news else log.debug
    say(
        "sweep_ended",
        outcome=sweep.outcome.value,
        customers=sweep.customers,
        changed=sweep.changed,
        pages=sweep.pages,
        seconds=round((sweep.ended - sweep.started) / 1000, 2),
    )


async def forever(
    name: str, work: Callable[[], Awaitable[None]], clock: Clock, until: asyncio.Event | None = None
) -> None:
    """Keep a loop alive: the database or the network may go away and come back."""
    pause = 0.5
    while until is None or not until.is_set():
        started = clock.now()
        try:
            await work()
        except StoreConflict:
            await clock.sleep(0.1)
            continue
        except Exception:
            log.exception("loop_failed", loop=name, retry_in_seconds=pause)
            await clock.sleep(pause)
        pause = 0.5 if clock.now() - started > 60_000 else min(30.0, pause * 2)


async def run_daemon(settings: Settings) -> None:
    """The `run` command: until SIGTERM or SIGINT."""
    require_for_run(settings)
    load_mapping(settings.mapping_file)
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        if settings.sqlite_file is not None:
            make_room(settings.sqlite_file)
        await stack.enter_async_context(only_daemon(settings.sqlite_file))
        store = await stack.enter_async_context(open_store(settings))
        rest = await _rest_sink(settings, stack)
        parts = build(settings, store, metrics, rest)
        await stack.enter_async_context(parts.ion)
        stack.push_async_callback(parts.posts.close)
        if settings.kafka.create_topics:
            await _create_topics(settings, parts.clock)
        daemon = Daemon(parts)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.stop)
        app = make_app(daemon.problems, daemon.metrics_page)
        runner, port = await serve(app, settings.admin.host, settings.admin.port)
        stack.push_async_callback(runner.cleanup)
        address = f"http://{settings.admin.host}:{port}"
        log.info("daemon_started", address=address, database=store.engine.dialect.name)
        await daemon.run()


async def _rest_sink(settings: Settings, stack: AsyncExitStack) -> RestSink | None:
    if settings.crm.sink != "http" or settings.crm.url is None:
        return None
    token = settings.crm.token.get_secret_value() if settings.crm.token else None
    mapping = load_mapping(settings.mapping_file)
    rest = RestSink(settings.crm.url, token, mapping, SystemClock(), settings.ion.timeout_seconds)
    return await stack.enter_async_context(rest)


async def _create_topics(settings: Settings, clock: Clock) -> None:
    """Wait for the brokers as long as it takes: the daemon starts before them as well as after."""
    pause = 0.5
    while True:
        try:
            return await create_topics(kafka_access(settings), topics(settings))
        except Exception as error:
            log.warning("topics_not_created", reason=f"{type(error).__name__}: {error}", retry_in_seconds=pause)
            await clock.sleep(pause)
            pause = min(15.0, pause * 2)
