"""The composition root of the simulated world: real daemons, joined to simulated outsides.

``play`` plays one seed through; ``syncd sim world`` and the tests call it. The world and its checks
are in ``sim``, which knows nothing of the daemon; what is joined here are the ports.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from random import Random
from typing import TypeVar

from yarl import URL

from syncd import logs
from syncd.core.errors import NotFound, Transient, UserError
from syncd.core.intent import IntentState
from syncd.core.listing import MISSING_SWEEPS
from syncd.core.record import Record
from syncd.core.values import Field, Millis, Side, value_to_json
from syncd.core.verify import PROVEN
from syncd.core.work import HoldKind, Message
from syncd.crm.kafka import KafkaSink
from syncd.daemon import Daemon, Outside, Progress, build, make_desk, make_gate, make_ion, none_missing
from syncd.engine.clock import SharedClock
from syncd.engine.desk import Desk
from syncd.engine.ingest import Ingest
from syncd.engine.intake import SavedEvent
from syncd.engine.ports import Loop, Unit
from syncd.engine.verify import Verifier
from syncd.ion.client import IonClient
from syncd.ion.wire import Reply
from syncd.mapping import CrmMapping, load_mapping
from syncd.metrics import Metrics
from syncd.settings import load
from syncd.sim.campaign import Planned
from syncd.sim.checks import Checks, Loser, Pair, Seen
from syncd.sim.time import Restless, Stuck, VirtualLoop
from syncd.sim.world import Accidents, Outcome, Process, World
from syncd.store.memory import MemoryStore, MemoryUnit

CALLS_PER_MINUTE = (15, 30, 60)
POLL_SECONDS, IDLE_SECONDS = 20, 15.0
REST_SECONDS, LONGEST_REST = 10, 7_200
"""Virtual seconds between two looks once the accidents have stopped, and until they must be even."""
EVERYTHING = 1_000_000


def no_fingerprint(data: bytes) -> str:
    """Nobody rebuilds a simulated database."""
    return "0"


Result = TypeVar("Result")


class SimStore:
    """The store in memory as one process reaches it: over a network, and only while the process lives."""

    def __init__(self, store: MemoryStore, world: World, process: Process) -> None:
        self._store, self._world, self._process = store, world, process

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryUnit]:
        await self._world.reach_database(self._process)
        async with self._store.begin() as unit:
            yield unit
        await self._process.step()  # it is stored; whoever stored it may never know

    async def listen(self, ring: Callable[[Loop], None]) -> None:
        await self._store.listen(ring)


class SimWire:
    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], query: Mapping[str, str] | None, body: bytes | None
    ) -> Reply:
        asked = dict(query or {})
        return Reply(*await self._world.call_ion(self._process, method, url.path, asked, dict(headers), body or b""))


class SimPosts:
    """Kafka as far as syncd writes to it: commands go to the CRM, links and dead letters nowhere."""

    def __init__(self, world: World, process: Process, commands_topic: str) -> None:
        self._world, self._process, self._topic = world, process, commands_topic

    async def send(self, messages: Sequence[Message]) -> None:
        commands = [message.value for message in messages if message.topic == self._topic and message.value]
        try:
            await self._world.take_commands(self._process, commands)
        except ConnectionError as error:
            raise Transient(f"Kafka takes no messages: {error}") from None


class SimEvents:
    """One member of the consumer group."""

    problem: str | None = None
    is_behind = False

    def __init__(
        self,
        world: World,
        process: Process,
        topic: str,
        ingest: Ingest,
        on_progress: Progress,
    ) -> None:
        self._world, self._process, self._topic = world, process, topic
        self._ingest, self._on_progress = ingest, on_progress

    async def run(self) -> None:
        topic, positions = self._world.topic, dict[int, int]()
        while True:
            await self._process.step()
            mine = topic.owned(self._process.name)
            if set(positions) != mine:
                positions = await self._ingest.take_over(self._topic, partial(self._offsets, mine))
            batches = {} if topic.is_away else topic.fetch(positions)
            self._on_progress(topic.lags(positions))
            if not batches:
                await topic.wait(5.0)
                continue
            events = [
                SavedEvent(self._topic, number, entry.offset, Millis(entry.at), entry.key, entry.value, ())
                for number, entries in batches.items()
                for entry in entries
            ]
            await self._ingest.ingest(self._topic, events, topic.ends(mine))
            positions |= {number: entries[-1].offset + 1 for number, entries in batches.items()}

    async def _offsets(self, partitions: Iterable[int]) -> dict[int, range]:
        await self._process.step()
        return {number: range(end) for number, end in self._world.topic.ends(partitions).items()}


class Run:
    """One seed, from the first customer to the moment when everything has come to rest."""

    def __init__(self, seed: int, dialect: str, accidents: Accidents, loop: VirtualLoop) -> None:
        calls_per_minute = Random(f"budget {seed}").choice(CALLS_PER_MINUTE)
        self.world = World(seed, dialect, accidents, loop, calls_per_minute)
        self.checks = Checks(self.world)
        self.store = MemoryStore(Random(f"store {seed}"), self.world.now)
        self.outcome = Outcome(seed, dialect, accidents.replicas, 0)
        self._seed = seed
        self._mapping: CrmMapping = load_mapping(None)
        self._person = Random(f"person {seed}")
        self._regretful = Random(f"regretful {seed}")
        limits = self._person.choice(((100, 300), (100, 300), (3, 12)))
        self._settings, _ = load(
            None,
            {
                "SYNCD_KAFKA__BOOTSTRAP_SERVERS": "simulated",
                "SYNCD_ION__URL": "http://ion.simulated",
                "SYNCD_ION__ACCOUNT_ID": "20481",
                "SYNCD_ION__REFRESH_TOKEN": "initial-refresh-token",
                "SYNCD_ION__CALLS_PER_MINUTE": str(calls_per_minute),
                "SYNCD_POLL__INTERVAL_SECONDS": str(POLL_SECONDS),
                "SYNCD_RESCORE__INTERVAL_SECONDS": "300",
                "SYNCD_SUBSCRIPTIONS__INTERVAL_SECONDS": "0",  # the simulated ION has none here
                "SYNCD_GUARD__MAX_CREATES": str(limits[0]),
                "SYNCD_GUARD__MAX_UPDATES": str(limits[1]),
            },
        )

    def start(self, process: Process) -> Daemon:
        """A new process: everything but the store is new."""
        world, settings = self.world, self._settings
        store, clock = SimStore(self.store, world, process), _clock(process)
        posts = SimPosts(world, process, settings.kafka.commands_topic)
        outside = Outside(
            store=store,
            clock=clock,
            wire=SimWire(world, process),
            posts=posts,
            sink=KafkaSink(posts, settings.kafka.commands_topic, self._mapping),
            reader=None,
            read_events=partial(SimEvents, world, process, settings.kafka.events_topic),
            read_orders=None,
            read_contracts=None,
            missing_topics=none_missing,
            fingerprint=no_fingerprint,
            rng=Random(f"{process.name} {self._seed} {world.now()}"),
            owner=process.name,
            idle_seconds=IDLE_SECONDS,
        )
        return Daemon(build(settings, self._mapping, outside, Metrics()))

    async def play(self, steps: int) -> Outcome:
        outcome, world = self.outcome, self.world
        outcome.planned_steps = steps
        world.populate(self.start)
        for number in range(steps):
            outcome.steps = number + 1
            outcome.story.append(f"{world.loop.time():9.2f}  {world.act()}")
            if self._person.random() < 0.02:
                await self._decide_as_a_person()
            if self._regretful.random() < 0.03:
                await self._put_something_back()
            await asyncio.sleep(world.pause())
            await self.check()
            if outcome.failures:
                break
        else:
            await self.come_to_rest()
        outcome.happened, outcome.virtual_seconds = world.happened, world.loop.time()
        return outcome

    async def check(self) -> None:
        self.outcome.failures += self.checks.step(await self._see())

    async def come_to_rest(self) -> None:
        """No more accidents: everything has to come out even, and the last checks are made."""
        self.world.calm()
        until = self.world.loop.time() + LONGEST_REST
        while True:
            self.world.send_events()
            self.world.crm_works()
            await self._decide_as_a_person()
            await asyncio.sleep(REST_SECONDS)
            seen = await self._see()
            self.outcome.failures += self.checks.step(seen)
            unrest = await self._unrest()
            is_even = not unrest and not list(self.checks.differences(seen))
            if self.outcome.failures or is_even or self.world.loop.time() > until:
                break
        if not self.outcome.failures:
            self.outcome.failures += self.checks.end(seen)
            if unrest:
                self.outcome.failures.append(f"at rest, and yet: {unrest}")
            self.outcome.failures += await self._not_proven_equal()

    async def _decide_as_a_person(self) -> None:
        """Whoever runs it looks in: approves what is held, releases who is set aside, pastes a token."""
        await self._paste_token()
        desk = self._desk()
        plan = await desk.plan()
        if plan.reason:
            try:
                await desk.approve(plan.digest, "person")
                self.world.happened["approved"] += 1
            except UserError:
                self.world.happened["the plan was another one by then"] += 1
        aside = await desk.set_aside("", EVERYTHING)
        self.world.happened.update(f"released {hold.kind}" for hold in aside)
        for subject in dict.fromkeys(hold.subject for hold in aside):
            with suppress(NotFound):  # it changed meanwhile
                await desk.release(subject, "person")

    async def _put_something_back(self) -> None:
        """Somebody thinks that the other value was right."""
        desk = self._desk()
        conflicts = await desk.conflicts(None, None, EVERYTHING)
        if not conflicts:
            return
        try:
            await desk.undo(self._regretful.choice(conflicts).id, None, "person")
            self.world.happened["undone"] += 1
        except UserError:
            self.world.happened["nothing to undo"] += 1

    def _desk(self) -> Desk:
        clock = _clock(Process("person", self.world.loop, self.world.happened))
        return make_desk(self._settings, self._mapping, self.store, clock, no_fingerprint, Metrics())

    async def _paste_token(self) -> None:
        """Where an answer with a new token died with its process, a person requests another."""
        async with self.store.begin() as unit:
            tokens = await unit.tokens()
        if tokens is None or tokens.refused is None:
            return
        if not self.world.happened["kill -9"] and not self.world.happened["SIGSTOP"]:
            self.outcome.failures.append(f"token: lost, and no process had died or stopped: {tokens.refused}")
        self.world.happened["token pasted"] += 1
        await self._desk().paste_token(self.world.account.issue_refresh_token(), "person")

    async def _persons_ion(self) -> IonClient:
        """ION as a command beside the daemons reaches it, within their budget."""
        process = Process("person", self.world.loop, self.world.happened)
        clock = _clock(process)
        await clock.follow(self.store)
        gate = make_gate(self._settings, self.store, clock)
        return make_ion(self._settings, SimWire(self.world, process), self.store, clock, gate, process.name, None)

    async def _not_proven_equal(self) -> list[str]:
        """What `verify` says once everything has come to rest."""
        process = Process("verifier", self.world.loop, self.world.happened)
        clock = _clock(process)
        await clock.follow(self.store)
        verifier = Verifier(self.store, await self._persons_ion(), clock, POLL_SECONDS * 1_000)
        verdict = await verifier.verify(await self._desk().policy())
        unseen = [f"verify: {link.crm_id} is not listed" for link in verdict.unseen]
        return unseen + [f"verify: {d}" for d in verdict.differences if d.standing not in PROVEN]

    async def _see(self) -> Seen:
        async with self.store.begin() as unit:
            links = await unit.list_links(None, "", EVERYTHING)
            offsets = await unit.offsets(self._settings.kafka.events_topic)
            records = await unit.records(Side.CRM, list(self.world.crm.versions))
            reviews = await unit.list_holds([HoldKind.REVIEW], "", EVERYTHING)
            losers = await unit.list_conflicts(None, None, EVERYTHING) if self.world.is_calm else []
        return Seen(
            [Pair(link.crm_id, link.ion_id, link.state.value, _plain(link.base)) for link in links],
            offsets,
            {crm_id: _versions(record) for crm_id, record in records.items()},
            frozenset(hold.subject for hold in reviews),
            [Loser(c.crm_id, c.field.value, value_to_json(c.losing)) for c in losers],
        )

    async def _unrest(self) -> list[str]:
        world = self.world
        async with self.store.begin() as unit:
            found = [f"{count} customers wait for {stage}" for stage, (count, _) in (await unit.pending()).items()]
            found += [f"{count} {side} intents are {state}" for (side, state), count in (await _open(unit)).items()]
            absent = await unit.records(
                Side.ION, [link.ion_id for link in await unit.list_links(None, "", EVERYTHING)]
            )
            tokens, guard = await unit.tokens(), await unit.guard_state()
        found += [
            f"ION customer {ion_id} is gone and still counted"
            for ion_id, record in absent.items()
            if ion_id not in world.account.customers and record.missing_sweeps < MISSING_SWEEPS
        ]
        if guard.held_since is not None:
            found.append(f"the guard holds: {guard.reason}")
        if tokens is not None and tokens.refused:
            found.append(f"the token: {tokens.refused}")
        return found + ([f"{len(world.commands)} commands wait for the CRM"] if world.commands else [])


async def _open(unit: Unit) -> dict[tuple[Side, IntentState], int]:
    """Intents that something is still to become of by itself: a command that was given up just grows
    old, and a create that nobody can tell from somebody else's waits for a person."""
    counts = {key: count for key, (count, _) in (await unit.count_open_intents()).items()}
    counts.pop((Side.CRM, IntentState.UNKNOWN), None)
    in_review = {hold.subject for hold in await unit.list_holds([HoldKind.REVIEW], "", EVERYTHING)}
    waiting = sum(intent.subject in in_review for intent in await unit.open_creates(Side.ION))
    if waiting:
        counts[Side.ION, IntentState.UNKNOWN] -= waiting
    return {key: count for key, count in counts.items() if count}


def _clock(process: Process) -> SharedClock:
    return SharedClock(process.tick, Millis(int(process.wall_clock * 1000)))


def _plain(values: Mapping[Field, object]) -> dict[str, object]:
    return {name.value: value for name, value in values.items()}


def _versions(record: Record) -> dict[str, int]:
    """From which version of the customer each field's newest value comes."""
    tops = {name: register[0].version for name, register in record.registers.items() if register}
    return {name: -1 if version is None else version for name, version in tops.items()}


def play(planned: Planned) -> Outcome:
    """Play one seed through; the same arguments give the same run, step for step."""
    logs.configure("text", "critical")
    loop = VirtualLoop()
    try:
        played = Run(planned.seed, planned.dialect, Accidents(replicas=planned.replicas), loop)
        return loop.run_until_complete(ended(played.play(planned.steps), loop))
    except (Stuck, Restless) as error:
        played.outcome.failures.append(f"{type(error).__name__.lower()}: {error.__doc__}")
        return played.outcome
    finally:
        loop.close()


async def ended(playing: Awaitable[Result], loop: VirtualLoop) -> Result:
    """What it comes to, and nothing goes on after it."""
    try:
        return await playing
    finally:
        others = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
