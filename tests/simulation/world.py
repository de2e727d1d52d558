"""A seeded world: the real engine on virtual time, over the store in memory and a simulated ION.

One seed drives everything: who edits what and when, which event is repeated, which call fails and
whether before or after it took effect, when the process is killed. Checkers run at the end, after
the faults have stopped: both sides equal, nobody doubled, no edit lost, no window over the budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import orjson

from syncd.core.budget import Lane
from syncd.core.errors import (
    LostLease,
    OutcomeUnknown,
    Rejected,
    SideError,
    SideUnavailable,
    StoreConflict,
    Transient,
)
from syncd.core.policy import Dialect, FirstLink, Tie
from syncd.core.record import Reading
from syncd.core.values import Millis, Values
from syncd.core.work import Claim, Stage
from syncd.crm.commands import command_message, dead_letter_message
from syncd.crm.events import EventDecoder
from syncd.engine.create import Creator
from syncd.engine.deliver import Deliver
from syncd.engine.facts import Facts, FreshReadings
from syncd.engine.ingest import Ingest, RawEvent
from syncd.engine.intents import Intents
from syncd.engine.links import LinkBook
from syncd.engine.pairing import Pairing
from syncd.engine.ports import Command, Page, Slots
from syncd.engine.push import Pusher
from syncd.engine.reconcile import Reconciler
from syncd.engine.sweep import Sweeper
from syncd.ion.client import DIALECTS
from syncd.ion.gate import BudgetGate
from syncd.mapping import load_mapping
from syncd.metrics import Metrics
from syncd.sim.crm import Crm, CrmOptions
from syncd.sim.ion import Account, ApiError, IonOptions, IonServer
from syncd.store.memory import MemoryStore

TOPIC = "crm.customers"
START = 1_767_225_600_000
R = 120
POLL_MS = 20_000
LEASE_MS = 15_000
WORDS = ("Alpha", "Bravo", "Cargo", "Delta", "Ember", "Fjord")
EDITABLE = ("company", "email", "phone", "title")


class Killed(BaseException):
    """The process died here."""


class VirtualClock:
    def __init__(self) -> None:
        self.at = START

    def now(self) -> Millis:
        return Millis(self.at)

    async def sleep(self, seconds: float) -> None:
        self.at += max(1, int(seconds * 1000))
        await asyncio.sleep(0)


class SimIon:
    """The ION port straight onto the simulated account, with faults before and after the effect."""

    def __init__(self, account: Account, dialect: Dialect, clock: VirtualClock, rng: Random) -> None:
        self.account, self.clock, self.rng = account, clock, rng
        self.server = IonServer(account)
        self.speech = DIALECTS[dialect]
        self.name = dialect
        self.arrivals: list[int] = []
        self.fault_rate = 0.0

    async def dialect(self) -> Dialect:
        return self.name

    async def list_customers(self, lane: Lane) -> AsyncIterator[Page]:
        rows = list(self.account.customers.values())
        for start in range(0, max(1, len(rows)), 4):
            asked = self._arrive("list")
            readings = [self._reading(row, asked) for row in rows[start : start + 4]]
            yield Page(readings, len(rows) if self.name is Dialect.SEED else None)

    async def get(self, ion_id: str, slots: Slots) -> Reading | None:
        async with slots.call():
            asked = self._arrive("get")
            row = self.account.customers.get(ion_id)
            return None if row is None else self._reading(row, asked)

    async def find_by_email(self, email: str, slots: Slots) -> list[Reading] | None:
        if not self.speech.CAN_LOOK_UP_EMAIL:
            return None
        async with slots.call():
            asked = self._arrive("find")
            owner = self.account.email_owner(email)
            return [] if owner is None else [self._reading(self.account.customers[owner], asked)]

    async def create(self, values: Values, slots: Slots) -> Reading:
        async with slots.call():
            asked = self._arrive("create")
            body = self.server._values(self.speech.create_body(values))
            self._refuse(body, None)
            row = self.account.add(body)
            return self._answer(row, asked)

    async def update(self, reading: Reading, changes: Values, slots: Slots) -> Reading:
        async with slots.call():
            asked = self._arrive("update")
            body = self.server._values(self.speech.update_body(reading.raw, changes))
            self._refuse(body, reading.ion_id)
            status = self.account.customers[reading.ion_id]["status"]
            row = self.account.edit(reading.ion_id, {**body, "status": status})
            return self._answer(row, asked)

    def _refuse(self, body: dict[str, Any], but: str | None) -> None:
        try:
            self.server._refuse_incomplete(body)
        except ApiError as error:
            raise Rejected(str(error)) from None
        if self.account.email_owner(body["email"], but) is not None:
            raise Rejected("the e-mail is taken", taken_email=True)

    def _arrive(self, operation: str) -> Millis:
        asked = self.clock.now()
        self.clock.at += self.rng.randrange(5, 400)
        if self.rng.random() < self.fault_rate:
            kind = self.rng.choice(("lost before", "unavailable", "unreachable", "killed"))
            if kind == "killed":
                raise Killed
            if kind == "unreachable":
                raise SideUnavailable("nobody there")
            writes = operation in ("create", "update")
            raise OutcomeUnknown(kind) if writes else Transient(kind)
        self.arrivals.append(self.clock.at)
        return asked

    def _answer(self, row: dict[str, Any], asked: Millis) -> Reading:
        """The effect is there; the answer may still be lost."""
        self.clock.at += self.rng.randrange(5, 400)
        if self.rng.random() < self.fault_rate:
            if self.rng.random() < 0.3:
                raise Killed
            raise OutcomeUnknown("lost after")
        return self._reading(row, asked)

    def _reading(self, row: dict[str, Any], asked: Millis) -> Reading:
        raw = self.server._wire(row)
        return Reading(row["id"], self.speech.values(raw), asked, self.clock.now(), self.speech.modified(raw), raw)


class SimSink:
    def __init__(self, topic: list[dict[str, Any]], rng: Random) -> None:
        self.topic, self.rng = topic, rng
        self.mapping = load_mapping(None)

    async def deliver(self, command: Command) -> None:
        message = command_message("commands", command, self.mapping)
        self.topic.append(orjson.loads(message.value or b"{}"))
        if self.rng.random() < 0.2:  # Kafka may repeat what it was given
            self.topic.append(self.topic[-1])


class NoPosts:
    async def send(self, messages: Any) -> None:
        """Link records and dead letters go nowhere here."""


class World:
    def __init__(self, seed: int, dialect: Dialect) -> None:
        self.rng = Random(f"{seed}-{dialect}")
        self.clock = VirtualClock()
        options = IonOptions(dialect=dialect.value, customers=0, account="1")
        self.account = Account(options, clock=lambda: self.clock.at / 1000)
        self.crm = Crm(CrmOptions(), clock=lambda: self.clock.at / 1000)
        self.log: list[bytes | tuple[str, bytes | None]] = []
        self.commands: list[dict[str, Any]] = []
        self.edits: dict[tuple[str, str], list[tuple[str, Any]]] = {}
        self.store = MemoryStore(Random(seed))
        self.ion = SimIon(self.account, dialect, self.clock, self.rng)
        self.dialect = dialect
        self.names = 0
        self.kills = 0
        self.boot()

    def boot(self) -> None:
        """Start the process: everything but the store is new."""
        facts = Facts(FreshReadings(10_000), POLL_MS, self.rng)
        mapping = load_mapping(None)
        facts.policy = mapping.policy(self.dialect, Tie.CRM, FirstLink.CRM, 2_000)
        metrics = Metrics()
        intents, book = Intents(metrics), LinkBook("links", lambda data: "0" * 32)
        pairing = Pairing(facts, intents, book)
        store, clock = self.store, self.clock
        creator = Creator(store, self.ion, clock, facts, intents, book, pairing, settle_ms=5_000)
        decoder = EventDecoder(mapping, 2_000)
        self.facts = facts
        self.ingest = Ingest(
            store, clock, metrics, intents, decoder.decode, lambda letter: dead_letter_message("dead", letter)
        )
        self.reconciler = Reconciler(store, clock, facts, pairing, intents, book)
        self.pusher = Pusher(store, self.ion, clock, facts, intents, book, creator)
        self.sweeper = Sweeper(store, self.ion, clock, facts, metrics)
        self.deliver = Deliver(store, SimSink(self.commands, self.rng), NoPosts(), clock, facts, intents)
        self.gate = BudgetGate(store, clock, R, 60_000)
        self.read_to = 0

    # -- what people do

    def values(self) -> dict[str, Any]:
        self.names += 1
        return {
            "company": f"Company {self.names}",
            "email": f"c{self.names}@x.example",
            "country": "US",
            "phone": "+18135550142",
            "address": {"street": "1 Main", "suite": "", "city": "Tampa", "state": "FL", "zip": "33602"},
            "contact": "Ann",
            "title": "CEO",
            "language": "EN",
            "status": "active",
        }

    def new_value(self, name: str) -> str:
        self.names += 1
        if name == "email":
            return f"n{self.names}@x.example"
        return f"+1813555{self.names % 10_000:04d}" if name == "phone" else f"{self.rng.choice(WORDS)} {self.names}"

    def crm_edit(self) -> None:
        if self.crm.customers:
            crm_id, name = self.rng.choice(sorted(self.crm.customers)), self.rng.choice(EDITABLE)
            value = self.new_value(name)
            self.crm.change(crm_id, {name: value})
            self.edits.setdefault((crm_id, name), []).append(("crm", value))

    def ion_edit(self) -> None:
        if self.account.customers:
            ion_id, name = self.rng.choice(sorted(self.account.customers)), self.rng.choice(EDITABLE[:2])
            value = self.new_value(name)
            self.account.edit(ion_id, {name: value})
            self.edits.setdefault((f"ion:{ion_id}", name), []).append(("ion", value))

    # -- what syncd does

    async def step(self) -> None:
        """One random thing happens."""
        self.clock.at += self.rng.randrange(1, 2_000)
        happenings = [
            (3, self.crm_edit),
            (2, self.ion_edit),
            (1, lambda: len(self.crm.customers) < 6 and self.crm.change(self.crm.new_id(), self.values())),
            (1, lambda: len(self.account.customers) < 8 and self.account.add(self.values())),
            (6, self.read_events),
            (3, self.sweep),
            (8, self.decide),
            (6, self.push),
            (4, self.deliver_commands),
            (4, self.crm_works),
            (1, self.kill),
        ]
        weights = [weight for weight, _ in happenings]
        [(_, happen)] = self.rng.choices(happenings, weights)
        await self.attempt(happen)

    async def attempt(self, happen: Any) -> None:
        try:
            done = happen()
            if asyncio.iscoroutine(done):
                await done
        except Killed:
            self.kills += 1
            self.boot()
        except (SideError, StoreConflict, LostLease):
            pass

    def kill(self) -> None:
        raise Killed

    async def read_events(self) -> None:
        while self.crm.events:
            self.log.append(self.crm.events.pop(0))
        if self.rng.random() < 0.1:
            self.read_to = self.rng.randrange(self.read_to + 1)  # a rebalance reads some of them again
        end = min(len(self.log), self.read_to + self.rng.randrange(1, 5))
        batch = [
            RawEvent(TOPIC, 0, offset, self.clock.now(), key.encode(), value, ())
            for offset, (key, value) in enumerate(self.log[self.read_to : end], self.read_to)  # type: ignore[misc]
        ]
        if batch:
            await self.ingest.ingest(TOPIC, batch)
            self.read_to = end
        if self.read_to == len(self.log):
            self.facts.crm_caught_up_at = self.clock.now()

    async def sweep(self) -> None:
        async with self.gate.slots(Lane.SWEEP, 2) as slots, slots.call():
            await self.sweeper.sweep()

    async def claim(self, stage: Stage) -> Claim | None:
        async with self.store.begin() as unit:
            claims = await unit.claim(stage, self.clock.now(), LEASE_MS, 1)
        return claims[0] if claims else None

    async def decide(self) -> None:
        if claim := await self.claim(Stage.DECIDE):
            await self.reconciler.reconcile(claim)

    async def push(self) -> None:
        if claim := await self.claim(Stage.CALL):
            need = await self.pusher.needs(claim.subject)
            async with self.gate.slots(Lane.WRITE, need.slots) as slots:
                async with self.store.begin() as unit:
                    await unit.renew([claim], Millis(self.clock.now() + LEASE_MS))
                await self.pusher.push(claim, slots, need)

    async def deliver_commands(self) -> None:
        await self.deliver.commands()

    def crm_works(self) -> None:
        if self.commands:
            self.crm.apply(self.commands.pop(0))

    # -- the end: no more faults, no more edits

    async def settle(self) -> None:
        self.ion.fault_rate = 0.0
        for _ in range(400):
            self.clock.at += POLL_MS // 8
            while self.crm.events or self.read_to < len(self.log):
                await self.read_events()
            await self.read_events()
            await self.sweep()
            for _ in range(60):
                await self.attempt(self.decide)
                await self.attempt(self.push)
            await self.deliver_commands()
            while self.commands:
                self.crm_works()
            if await self.is_quiet():
                return

    async def is_quiet(self) -> bool:
        async with self.store.begin() as unit:
            pending, intents = await unit.pending(), await unit.count_open_intents()
        return not pending and not intents and not self.crm.events and not self.commands and not self.differences()

    async def links(self) -> dict[str, str]:
        async with self.store.begin() as unit:
            return {link.crm_id: link.ion_id for link in await unit.list_links(None, "", 1_000)}

    def differences(self) -> list[str]:
        fields = ("company", "email") if self.dialect is Dialect.SEED else EDITABLE
        by_company = {row["company"]: row for row in self.account.customers.values()}
        found = []
        for crm_id, row in self.crm.customers.items():
            other = by_company.get(row.get("company"))
            if other is None:
                found.append(f"{crm_id} {row.get('company')} is not in ION")
                continue
            found += [f"{crm_id}.{name}" for name in fields if (row.get(name) or None) != (other.get(name) or None)]
        return found

    async def check(self) -> None:
        """What must hold at the end of every run."""
        links = await self.links()
        assert not self.differences(), self.differences()
        assert len(self.crm.customers) == len(self.account.customers) == len(links), (
            "nobody doubled, nobody forgotten"
        )
        for index, last in enumerate(self.ion.arrivals):
            window = [at for at in self.ion.arrivals[: index + 1] if at > last - 60_000]
            assert len(window) <= R
        for (who, name), edits in self.edits.items():
            crm_id = who if not who.startswith("ion:") else next(c for c, i in links.items() if i == who[4:])
            ion_id = links[crm_id]
            others = self.edits.get((f"ion:{ion_id}" if crm_id == who else crm_id, name), [])
            if others or (self.dialect is Dialect.SEED and name == "title"):
                continue
            final = self.crm.customers[crm_id].get(name)
            assert final == edits[-1][1], f"{who}.{name}: the last of {edits} was lost, it is {final!r}"


async def run(seed: int, steps: int, dialect: Dialect, fault_rate: float = 0.15) -> World:
    world = World(seed, dialect)
    for _ in range(3):
        world.crm.change(world.crm.new_id(), world.values())
        world.account.add(world.values())
    world.ion.fault_rate = fault_rate
    for _ in range(steps):
        await world.step()
    await world.settle()
    await world.check()
    return world
