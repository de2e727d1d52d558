"""The daemon: its parts, joined through their ports, its loops, and how it drains.

What lies outside it (the store, ION's wire, Kafka, the CRM, the clock) is handed in: by ``app`` the
real ones, by ``simulation`` simulated ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Protocol

import structlog

from syncd import __version__
from syncd.chores import import_products, snapshot_licences
from syncd.core.budget import Ledger
from syncd.core.errors import BadConfiguration, SideError, StoreConflict, Transient, Unauthorised
from syncd.core.guard import Limits, Tally
from syncd.core.link import LinkState
from syncd.core.listing import SweepOutcome
from syncd.core.policy import Dialect, Policy
from syncd.core.values import Millis
from syncd.core.work import CATCH_UP, CHORES, FOR_GUARD, ORDERS, RESCORE, SWEEP, VERIFY, HoldKind, Stage, Sweep
from syncd.crm.commands import dead_letter_message
from syncd.crm.events import EventDecoder
from syncd.crm.licences import read_contract
from syncd.crm.orders import order_message, read_order, refusal_message
from syncd.engine import spans
from syncd.engine.catch_up import CatchUp
from syncd.engine.clock import FOLLOW_SECONDS, SharedClock
from syncd.engine.create import Creator
from syncd.engine.crowd import Crowds
from syncd.engine.deliver import Deliver
from syncd.engine.desk import Desk
from syncd.engine.facts import Facts
from syncd.engine.guard import Guard
from syncd.engine.ingest import Ingest
from syncd.engine.intake import DescribeLetter, Intake, Records, Take
from syncd.engine.intents import Intents
from syncd.engine.licences import ContractIntake
from syncd.engine.links import Fingerprint, LinkBook
from syncd.engine.orders import OrderBook, OrderIntake, Orders
from syncd.engine.pairing import Pairing
from syncd.engine.ports import Clock, CrmReader, CrmSink, Loop, Posts, Store
from syncd.engine.push import Pusher
from syncd.engine.reconcile import Reconciler
from syncd.engine.rescore import Rescorer
from syncd.engine.review import Review
from syncd.engine.status import Status, survey
from syncd.engine.sweep import Sweeper
from syncd.engine.verify import Verifier, by_standing
from syncd.engine.workers import LEASE_MS, Wakes, Workers
from syncd.ion.client import IonClient
from syncd.ion.gate import BudgetGate
from syncd.ion.market import Market
from syncd.ion.oauth import Credentials, paste
from syncd.ion.orders import IonSeller
from syncd.ion.wire import Wire
from syncd.mapping import CrmMapping
from syncd.metrics import Metrics
from syncd.settings import Settings

log = structlog.get_logger()

CALLS_UNDER_WAY = 2.5
"""A call with its retry after a 401 takes at most this many timeouts; then its slot is orphaned."""
DRAIN_SECONDS = 25.0
JUDGE_SECONDS = 0.2
RESCORE_LOOK_SECONDS = 60.0
VERIFY_LOOK_SECONDS, VERIFY_AGAIN_SECONDS = 30.0, 600.0
CHORE_LOOK_SECONDS, CHORE_AGAIN_MS = 60.0, 3_600_000
LEADER_SECONDS = 5.0
"""How often the leader's lease is renewed, and others ask whether it has run out."""


class Events(Protocol):
    """Where CRM events are read from."""

    problem: str | None
    is_behind: bool
    """A backlog is being read, or may be: nobody knows before the first look."""

    async def run(self) -> None: ...


Progress = Callable[[Mapping[int, int]], None]
"""How much is to come, by partition."""


async def none_missing(_: Sequence[str]) -> Sequence[str]:
    """Where there is no Kafka to ask."""
    return ()


@dataclass(frozen=True, slots=True)
class Outside:
    """All that the daemon touches beyond its own memory."""

    store: Store
    clock: SharedClock
    wire: Wire
    posts: Posts
    sink: CrmSink
    reader: CrmReader | None
    """A CRM that can be asked what it holds, where there is one."""
    read_events: Callable[[Intake, Progress], Events]
    read_orders: Callable[[Intake, Progress], Events] | None
    """Where the CRM's orders are read from, where they are taken; and its contracts, where it tells them."""
    read_contracts: Callable[[Intake, Progress], Events] | None
    missing_topics: Callable[[Sequence[str]], Awaitable[Sequence[str]]]
    fingerprint: Fingerprint
    rng: Random
    owner: str
    idle_seconds: float
    """The longest sleep between two looks at what may be left to do, should nobody have rung."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The daemon's parts, joined."""

    settings: Settings
    outside: Outside
    metrics: Metrics
    facts: Facts
    mapping: CrmMapping
    gate: BudgetGate
    ion: IonClient
    events: Events
    order_events: Events | None
    contract_events: Events | None
    orders: Orders
    market: Market
    crowds: Crowds
    sweeper: Sweeper
    catch_up: CatchUp | None
    verifier: Verifier
    rescorer: Rescorer
    workers: Workers
    deliver: Deliver
    guard: Guard
    wakes: Wakes


def build(settings: Settings, mapping: CrmMapping, outside: Outside, metrics: Metrics) -> Parts:
    store, clock = outside.store, outside.clock
    facts = make_facts(settings, outside.rng)
    gate = make_gate(settings, store, clock)
    ion = make_ion(settings, outside.wire, store, clock, gate, outside.owner, metrics)
    intents = Intents(metrics)
    book = LinkBook(settings.kafka.links_topic, outside.fingerprint)
    guard = Guard(store, clock, facts, limits_of(settings))
    pairing = Pairing(facts, intents, book)
    settle_ms = int(settings.ion.timeout_seconds * 1000)
    creator = Creator(store, ion, clock, facts, intents, book, pairing, guard, settle_ms)
    pusher = Pusher(store, ion, clock, facts, intents, book, creator, guard)
    reconciler = Reconciler(store, clock, facts, pairing, intents, book, guard)
    wakes = Wakes()
    crowds = Crowds(store, gate, clock, facts)
    ingest = make_ingest(settings, mapping, store, clock, metrics)

    def on_progress(lags: Mapping[int, int]) -> None:
        metrics.kafka_lag(settings.kafka.events_topic, lags)
        facts.has_joined = True

    order_book, kafka = make_order_book(settings), settings.kafka

    def beside(
        read: Callable[[Intake, Progress], Events] | None, topic: str | None, form: str, take: Take
    ) -> Events | None:
        records = Records(store, clock, metrics, form, take, describe_letters(settings))
        return read(records, partial(metrics.kafka_lag, topic or "")) if read else None

    events = outside.read_events(ingest, on_progress)
    take_orders = OrderIntake(order_book, read_order, partial(refusal_message, kafka.order_status_topic)).take
    take_contracts = ContractIntake(read_contract).take
    return Parts(
        settings,
        outside,
        metrics,
        facts,
        mapping,
        gate,
        ion,
        events,
        beside(outside.read_orders, kafka.orders_topic, "order", take_orders),
        beside(outside.read_contracts, kafka.contracts_topic, "contract", take_contracts),
        Orders(store, IonSeller(ion, store), clock, order_book, settings.orders.max_value, settle_ms),
        Market(ion, store),
        crowds,
        Sweeper(store, ion, clock, facts, metrics, crowds),
        CatchUp(store, outside.reader, clock) if outside.reader else None,
        Verifier(store, ion, clock, facts.poll_ms),
        Rescorer(store, clock, pairing),
        Workers(
            store,
            gate,
            clock,
            facts,
            reconciler,
            pusher,
            crowds,
            wakes,
            outside.idle_seconds,
            lambda: events.is_behind,
        ),
        Deliver(store, outside.sink, outside.posts, clock, facts, intents),
        guard,
        wakes,
    )


def make_facts(settings: Settings, rng: Random) -> Facts:
    fresh_ms, poll_ms = int(settings.sync.fresh_seconds * 1000), int(settings.poll.interval_seconds * 1000)
    return Facts(fresh_ms, poll_ms, settings.kafka.events_topic, settings.ion.calls_per_minute, rng)


def make_ingest(settings: Settings, mapping: CrmMapping, store: Store, clock: Clock, metrics: Metrics) -> Ingest:
    decoder = EventDecoder(mapping, int(settings.sync.clock_skew_seconds * 1000))
    return Ingest(store, clock, metrics, Intents(metrics), decoder.decode, describe_letters(settings))


def describe_letters(settings: Settings) -> DescribeLetter:
    return partial(dead_letter_message, settings.kafka.dead_letters_topic)


def make_order_book(settings: Settings) -> OrderBook:
    return OrderBook(partial(order_message, settings.kafka.order_status_topic))


def make_desk(
    settings: Settings,
    mapping: CrmMapping,
    store: Store,
    clock: Clock,
    fingerprint: Fingerprint,
    metrics: Metrics,
) -> Desk:
    """For what a person does: in the daemon or beside it, on the same store."""
    intents, book = Intents(metrics), LinkBook(settings.kafka.links_topic, fingerprint)
    review = Review(Pairing(make_facts(settings, Random()), intents, book), intents, book)
    ingest = make_ingest(settings, mapping, store, clock, metrics)
    dialect = None if settings.ion.dialect == "auto" else Dialect(settings.ion.dialect)
    paste_token = partial(paste, credentials_of(settings))
    topic, order_book = settings.kafka.events_topic, make_order_book(settings)
    policy_for = partial(policy_of, settings, mapping)
    return Desk(store, review, intents, policy_for, dialect, ingest, paste_token, topic, order_book)


def make_gate(settings: Settings, store: Store, clock: Clock) -> BudgetGate:
    call_ms = int(settings.ion.timeout_seconds * 1000 * CALLS_UNDER_WAY)
    return BudgetGate(store, clock, settings.ion.calls_per_minute, call_ms)


def make_ion(
    settings: Settings, wire: Wire, store: Store, clock: Clock, gate: BudgetGate, owner: str, metrics: Metrics | None
) -> IonClient:
    ion = settings.ion
    return IonClient(
        url=ion.url,
        account=ion.account_id or "",
        credentials=credentials_of(settings),
        wire=wire,
        store=store,
        gate=gate,
        clock=clock,
        owner=owner,
        dialect=None if ion.dialect == "auto" else Dialect(ion.dialect),
        page_size=None if ion.page_size == "auto" else ion.page_size,
        calls=metrics,
    )


def credentials_of(settings: Settings) -> Credentials:
    ion = settings.ion
    return Credentials(
        ion.refresh_token.get_secret_value() if ion.refresh_token else None,
        ion.access_token.get_secret_value() if ion.access_token else None,
        ion.client_id,
        ion.client_secret.get_secret_value() if ion.client_secret else None,
    )


def owner_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def limits_of(settings: Settings) -> Limits:
    guard = settings.guard
    absolute = Tally(guard.max_creates, guard.max_updates, guard.max_cleared_fields, guard.max_link_changes)
    return Limits(absolute, guard.max_percent)


def context_of(settings: Settings, mapping: CrmMapping, dialect: Dialect) -> str:
    """Fingerprint of all that decides: what a person approved holds for just this (S9)."""
    parts = (__version__, settings.sync.model_dump_json(), mapping.fingerprint, dialect.value)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


PARTS = ("database", "kafka", "ion", "token")
"""What may be away, as ``/readyz`` and the metrics name it."""
NOT_ASKED = "ION was not asked yet"
PROBE_SECONDS = 3.0
"""Two of them are less than the ten that Prometheus waits for a page."""


class Daemon:
    """Everything that runs for as long as the daemon does."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store, self._clock = parts.outside.store, parts.outside.clock
        self._owner = parts.outside.owner
        self._ion_problem: str | None = NOT_ASKED
        self._sweep_due = Millis(0)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        if not self._stopping.is_set():
            log.info("daemon_draining")
            self._stopping.set()
            self._parts.wakes.ring(Loop.ORDERS)

    async def run(self) -> None:
        """Run until ``stop``; then let what is under way end."""
        parts = self._parts
        await self._agree_on_time()
        async with asyncio.TaskGroup() as tasks:
            endless = [
                tasks.create_task(forever(name, work, self._clock))
                for name, work in {
                    "keep_time": self._keep_time,
                    "listen": self._listen,
                    "read_events": parts.events.run,
                    "sweep": self._sweep,
                    "renew_leases": parts.workers.renew,
                    "verify": self._verify,
                    "rescore": self._rescore,
                    "catch_up": self._catch_up,
                    "refresh_token": self._refresh_token,
                    "send_messages": self._send_messages,
                    "send_commands": self._send_commands,
                    "guard": self._judge,
                    "chores": self._do_chores,
                    "measure": self._measure,
                }.items()
            ]
            working = [
                tasks.create_task(self._when_oriented("decide", parts.workers.decide)),
                tasks.create_task(self._push()),
                tasks.create_task(self._when_oriented("orders", self._work_on_orders)),
            ]
            if parts.order_events is not None:
                endless.append(tasks.create_task(forever("read_orders", self._read_orders, self._clock)))
            if parts.contract_events is not None:
                endless.append(tasks.create_task(forever("read_contracts", parts.contract_events.run, self._clock)))
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
            async with asyncio.timeout(PROBE_SECONDS), self._store.begin() as unit:
                tokens = await unit.tokens()
        except Exception as error:
            return {"database": f"the database can't be used: {type(error).__name__}"}
        for events in (parts.order_events, parts.events):
            if events is not None and events.problem is not None:
                found["kafka"] = events.problem
        if parts.gate.circuit.is_open:
            found["ion"] = "ION does not answer: it is probed, and everything waits for it"
        elif self._ion_problem is not None and not (self._ion_problem is NOT_ASKED and parts.ion.has_listed):
            found["ion"] = self._ion_problem
        if tokens is not None and tokens.refused is not None:
            found["token"] = tokens.refused
        return found

    async def metrics_page(self) -> bytes:
        """What can't be found out, because the database is away, stays as it was last seen."""
        with suppress(Exception):
            async with asyncio.timeout(PROBE_SECONDS):
                await self._update_gauges()
        problems = await self.problems()
        for part in PARTS:
            self._parts.metrics.up.labels(part).set(int(part not in problems))
        return self._parts.metrics.page()

    async def _when_oriented(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Nothing can be decided before ION's dialect, and so the policy, is known."""
        while self._parts.facts.policy is None and not self._stopping.is_set():
            await self._clock.sleep(0.05)
        if not self._stopping.is_set():
            await forever(name, work, self._clock, until=self._stopping)

    async def _push(self) -> None:
        async with asyncio.TaskGroup() as calls:
            await self._when_oriented("push", partial(self._parts.workers.push, calls))

    async def _agree_on_time(self) -> None:
        """Nothing is leased, stamped or called before the store has said what time it is."""
        while not self._stopping.is_set():
            try:
                await self._clock.follow(self._store)
                return
            except Exception as error:
                log.warning("no_time", reason=f"the database does not answer: {type(error).__name__}")
                await self._clock.sleep(1)

    async def _keep_time(self) -> None:
        while True:
            await self._clock.sleep(FOLLOW_SECONDS)
            await self._clock.follow(self._store)

    async def _listen(self) -> None:
        self._parts.wakes.ring(*Loop)  # what was rung while nobody listened
        await self._store.listen(self._parts.wakes.ring)

    async def _learn_policy(self) -> None:
        parts = self._parts
        if parts.facts.policy is None and (dialect := await parts.ion.known_dialect()) is not None:
            policy = policy_of(parts.settings, parts.mapping, dialect)
            parts.facts.context = context_of(parts.settings, parts.mapping, dialect)
            await parts.guard.meet_mapping(parts.mapping.fingerprint)
            parts.facts.policy = policy

    async def _sweep(self) -> None:
        """One replica sweeps: from start to start an interval lies, or less where a crowd waits."""
        parts = self._parts
        await self._orient()
        interval_ms = int(parts.settings.poll.interval_seconds * 1000)
        while True:
            is_leader = await self._lease(SWEEP)
            parts.metrics.leader.set(int(is_leader))
            if not is_leader:
                self._ion_problem = None  # whoever sweeps knows whether ION answers
                await self._orient()
                await self._clock.sleep(LEADER_SECONDS)
                continue
            if self._clock.now() >= self._sweep_due or await parts.crowds.is_waiting():
                self._sweep_due = Millis(self._clock.now() + interval_ms)
                await self._leased(SWEEP, self._sweep_once)
            seconds = (self._sweep_due - self._clock.now()) / 1000
            await parts.wakes.wait(Loop.SWEEP, max(0.01, min(LEADER_SECONDS, seconds)))

    async def _catch_up(self) -> None:
        """One replica asks the CRM after events that were lost."""
        catch_up = self._parts.catch_up
        while catch_up is not None:
            try:
                if await self._lease(CATCH_UP) and await catch_up.some():
                    continue
            except SideError as error:
                log.warning("crm_not_asked", reason=error.sentence)
            await self._clock.sleep(LEADER_SECONDS)
        await asyncio.Event().wait()

    async def _read_orders(self) -> None:
        """What the CRM sent before this database was there may have been placed by then: it waits for a person."""
        events = self._parts.order_events
        await self._parts.orders.begin()
        if events is not None:
            await events.run()

    async def _work_on_orders(self) -> None:
        """One replica is at the CRM's orders."""
        orders = self._parts.orders
        while self._parts.order_events is not None and not self._stopping.is_set():
            seconds = LEADER_SECONDS
            if await self._lease(ORDERS):
                await self._leased(ORDERS, partial(orders.work, self._stopping.is_set))
                due = await orders.next_due()
                seconds = LEADER_SECONDS if due is None else min(LEADER_SECONDS, (due - self._clock.now()) / 1000)
            await self._parts.wakes.wait(Loop.ORDERS, max(0.05, seconds))
        await self._stopping.wait()

    async def _verify(self) -> None:
        """One replica compares both sides, by and by."""
        verifier, interval = self._parts.verifier, self._parts.settings.verify.interval_seconds
        while True:
            await self._clock.sleep(min(VERIFY_LOOK_SECONDS, interval))
            facts = self._parts.facts
            policy = facts.policy
            if policy is None or not facts.listed_from or not facts.has_joined:
                continue
            if not await self._lease(VERIFY):
                continue
            if await verifier.is_due(int(interval * 1000), int(min(interval, VERIFY_AGAIN_SECONDS) * 1000)):
                await self._leased(VERIFY, partial(self._verify_once, policy))

    async def _rescore(self) -> None:
        """One replica looks at old links and open questions again, once a day."""
        rescorer, interval = self._parts.rescorer, self._parts.settings.rescore.interval_seconds
        while True:
            await self._clock.sleep(min(RESCORE_LOOK_SECONDS, interval))
            if self._parts.facts.policy is None or not await self._lease(RESCORE):
                continue
            if await rescorer.is_due(int(interval * 1000)):
                await self._leased(RESCORE, self._rescore_once)

    async def _rescore_once(self) -> None:
        log.info("rescored", looked_at_again=await self._parts.rescorer.rescore())

    async def _verify_once(self, policy: Policy) -> None:
        try:
            verdict = await self._parts.verifier.verify(policy)
        except SideError as error:
            log.warning("not_verified", reason=error.sentence)
            return
        say = log.info if verdict.is_equal else log.warning
        counts = by_standing(verdict.differences)
        say("verified", customers=verdict.customers, equal=verdict.equal, unseen=len(verdict.unseen), **counts)

    async def _do_chores(self) -> None:
        """One replica imports the catalogue and takes snapshots of licences, seldom."""
        settings = self._parts.settings
        intervals = {
            self._import_products: settings.catalogue.interval_seconds,
            self._snapshot_licences: settings.subscriptions.interval_seconds,
        }
        chores = [(work, seconds) for work, seconds in intervals.items() if seconds]
        while chores:
            await self._clock.sleep(min(CHORE_LOOK_SECONDS, *(seconds for _, seconds in chores)))
            if self._parts.facts.policy is None:
                continue
            for work, seconds in chores:
                name, interval_ms = work.__name__.strip("_"), int(seconds * 1000)
                if await self._lease(CHORES) and await self._is_due(name, interval_ms):
                    await self._leased(CHORES, partial(self._try_chore, name, work))
        await asyncio.Event().wait()

    async def _try_chore(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except SideError as error:
            log.warning("chore_failed", chore=name, reason=error.sentence)
            return
        except Exception:  # such as Kafka being away: it is tried again, and holds up nothing
            log.exception("chore_failed", chore=name)
            return
        async with self._store.begin() as unit:
            await unit.save_note(f"last {name}", str(self._clock.now()))

    async def _is_due(self, chore: str, interval_ms: int) -> bool:
        """If it is, and does not come to its end, it is due again in an hour: and first an hour after all is new."""
        note, now = f"last {chore}", self._clock.now()
        async with self._store.begin() as unit:
            last = await unit.note(note)
            is_due = last is not None and now >= int(last) + interval_ms
            if is_due or last is None:
                await unit.save_note(note, str(now - interval_ms + min(interval_ms, CHORE_AGAIN_MS)))
        return is_due

    async def _need_topics(self, *topics: str) -> None:
        """What nobody takes off would gather in the store."""
        missing = await self._parts.outside.missing_topics(topics)
        if missing:
            raise Transient(
                f"there is no topic {' and no topic '.join(missing)}: create it, or set the interval to 0"
            )

    async def _import_products(self) -> None:
        parts, store = self._parts, self._store
        await self._need_topics(parts.settings.kafka.products_topic)
        done, problems = await import_products(parts.market, store, parts.settings.kafka)
        log.info("products_imported", listed=done.listed, new=done.new, changed=done.changed, left_out=len(problems))

    async def _snapshot_licences(self) -> None:
        parts, store, kafka = self._parts, self._store, self._parts.settings.kafka
        await self._need_topics(kafka.subscriptions_topic, kafka.drift_topic)
        done, problems = await snapshot_licences(parts.market, store, kafka)
        moves = {"seats": done.seats, "added": done.added, "removed": done.removed}
        log.info("licences_listed", subscriptions=done.subscriptions, **moves, left_out=len(problems))

    async def _sweep_once(self) -> None:
        parts = self._parts
        try:
            with spans.span("sweep"):
                sweep = await parts.sweeper.sweep()
        except SideError as error:
            self._ion_problem = error.sentence
            log.warning("sweep_failed", reason=error.sentence, kind=type(error).__name__)
        else:
            self._ion_problem = None
            say_sweep(sweep)
        await self._orient()

    async def _orient(self) -> None:
        """What this replica, another, or one before a restart found out about ION."""
        await self._parts.sweeper.remember_last()
        try:
            await self._learn_policy()
        except BadConfiguration as error:
            self._ion_problem = error.sentence
            log.error("mapping_unusable", reason=error.sentence)

    async def _lease(self, name: str) -> bool:
        async with self._store.begin() as unit:
            return await unit.lease(name, self._owner, self._clock.now(), LEASE_MS)

    async def _leased(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Keep the lease while the work lasts; work that has lost its lease is stopped."""
        task = asyncio.ensure_future(work())
        kept = self._clock.now()
        try:
            while not task.done() and self._clock.now() - kept < LEASE_MS:
                await asyncio.wait({task}, timeout=LEASE_MS / 3000)
                try:
                    async with asyncio.timeout(LEASE_MS / 3000):
                        kept = self._clock.now() if await self._lease(name) else Millis(0)
                except Exception as error:  # the store may be back before the lease has run out
                    log.warning("lease_not_renewed", lease=name, reason=type(error).__name__)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            log.warning("lease_lost", lease=name)
        else:
            task.result()

    async def _refresh_token(self) -> None:
        while True:
            try:
                await self._parts.ion.custody.refresh_ahead()
            except Unauthorised as error:
                self._ion_problem = error.sentence
            except SideError as error:
                log.warning("token_not_refreshed", reason=error.sentence)
            await self._clock.sleep(15)

    async def _send_messages(self) -> None:
        while True:
            try:
                if await self._parts.deliver.messages():
                    continue
            except SideError as error:
                log.warning("messages_wait", reason=error.sentence)
                await self._clock.sleep(2)
                continue
            await self._parts.wakes.wait(Loop.SEND_MESSAGES, self._parts.outside.idle_seconds)

    async def _send_commands(self) -> None:
        while True:
            due, idle = await self._parts.deliver.commands(), self._parts.outside.idle_seconds
            seconds = idle if due is None else max(0.0, (due - self._clock.now()) / 1000)
            await self._parts.wakes.wait(Loop.SEND_COMMANDS, min(idle, seconds))

    async def _judge(self) -> None:
        """What waits for the guard is looked at often, so that a burst is let go as soon as it is counted.

        But not anew for each of the burst.
        """
        while True:
            is_waiting = await self._parts.guard.watch()
            await self._clock.sleep(JUDGE_SECONDS)
            if not is_waiting:
                await self._parts.wakes.wait(Loop.JUDGE, 5.0)

    async def _flush(self) -> None:
        """Hand over what is ready to go; what can't be handed over waits in the store."""
        try:
            async with asyncio.timeout(5):
                await self._parts.deliver.commands()
                while await self._parts.deliver.messages():
                    pass
        except (TimeoutError, SideError):
            log.warning("messages_wait", reason="Kafka takes no messages; they wait in the store")
        async with self._store.begin() as unit:
            for name in (SWEEP, VERIFY, CATCH_UP, ORDERS, CHORES):
                await unit.unlease(name, self._owner)

    async def _measure(self) -> None:
        while True:
            await self._update_gauges()
            await self._clock.sleep(15)

    async def _update_gauges(self) -> None:
        parts = self._parts
        status = await survey(self._store, parts.settings.kafka.events_topic)
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
    metrics.ion_budget_calls.labels("free").set(max(0, ledger.capacity(goes_first=False) - status.budget_used))
    metrics.pending_changes.labels("to-ion").set(status.pending[Stage.CALL.value] + status.pending[FOR_GUARD])
    metrics.pending_changes.labels("to-crm").set(status.commands_open)
    metrics.oldest_pending_seconds.labels("to-ion").set(status.oldest_pending_seconds)
    metrics.oldest_pending_seconds.labels("to-crm").set(status.oldest_command_seconds)
    for state in LinkState:
        metrics.links.labels(state.value).set(status.links.get(state.value, 0))
    for name, count in status.orders.items():
        metrics.orders.labels(name).set(count)
    metrics.licence_seats.clear()  # a vendor may be gone
    for name, seats in status.licence_seats.items():
        metrics.licence_seats.labels(name).set(seats)
    for name, seats in status.licence_drift.items():
        metrics.licence_drift.labels(name).set(seats)
    if status.snapshot_age_seconds is not None:
        metrics.snapshot_age_seconds.set(status.snapshot_age_seconds)
    metrics.unknown_outcomes.set(status.unknown_outcomes)
    metrics.held_changes.set(status.held_changes)
    metrics.guard_closed.labels("held").set(int(bool(status.held_reason)))
    metrics.guard_closed.labels("paused").set(int(status.is_paused))
    metrics.quarantined_customers.set(status.holds[HoldKind.QUARANTINE.value])
    metrics.frozen_customers.set(status.holds[HoldKind.FROZEN.value])
    metrics.incomplete_customers.set(status.holds[HoldKind.INCOMPLETE.value])
    if status.complete_sweep_age_seconds is not None:
        metrics.sweep_age_seconds.set(status.complete_sweep_age_seconds)
    if status.oldest_unverified_seconds is not None:
        metrics.divergent_customers.set(status.divergent)
        metrics.oldest_unverified_seconds.set(status.oldest_unverified_seconds)
    if status.token_expires_seconds is not None:
        metrics.token_expires_seconds.set(status.token_expires_seconds)


def say_sweep(sweep: Sweep) -> None:
    is_complete = sweep.outcome is SweepOutcome.COMPLETE
    say = log.warning if not is_complete else log.info if sweep.changed else log.debug
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
