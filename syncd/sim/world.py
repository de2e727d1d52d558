"""A seeded world: people who edit both sides, a CRM, ION and Kafka with accidents, processes that die.

What runs in it is the real daemon, several of them, on virtual time; ``syncd.simulation`` puts it in
through the ports below. One seed decides everything, so a failing run is one command to see again.

Next: ``checks`` looks at the world after every step and at the end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import orjson

from syncd.sim.broker import SimTopic
from syncd.sim.crm import Crm, CrmOptions
from syncd.sim.ion import Account, Fault, IonOptions, IonServer
from syncd.sim.time import OWNER, VirtualLoop
from syncd.sim.wire import LocalIon

START = 1_767_225_600
EDITABLE = ("company", "email", "phone", "title")
SHOWN = {"live": EDITABLE, "seed": ("company", "email")}
"""Which of them ION shows in each dialect."""
WORDS = ("Alpha", "Bravo", "Cargo", "Delta", "Ember", "Fjord")
MAX_CUSTOMERS = 8
LONG_STOP = 150.0
QUARTZ, WRONG_CLOCK = 100e-6, 3_600.0
CLOCK_SKEW = 1.0
"""Seconds that the CRM's and ION's clocks may each be wrong, so that they differ by what users are told to allow."""

ION_ACCIDENTS = {
    "timeout-before": 2,
    "timeout-after": 4,
    "reset-before": 2,
    "reset-after": 4,
    "status": 4,
    "throttled": 2,
    "html": 2,
    "half-json": 2,
    "empty": 1,
    "unauthorised": 1,
    "page-twice": 2,
    "page-missing": 2,
    "stale": 2,
    "lists-half": 1,
    "lists-nobody": 1,
    "respell": 2,
    "slow": 2,
    "unreachable": 2,
}
"""What may go wrong with a call to ION, and how often beside the others."""
READ_ONLY = frozenset({"page-twice", "page-missing", "stale", "lists-half", "lists-nobody"})


class Member(Protocol):
    """One daemon of the world, as ``syncd.simulation`` builds it."""

    def run(self) -> Coroutine[Any, Any, None]: ...


class Dead(asyncio.CancelledError):
    """This process was killed: nothing of it goes on."""


@dataclass(slots=True)
class Process:
    """One replica: running, stopped for a while, or killed."""

    name: str
    loop: VirtualLoop
    accidents: Counter[str]
    dies_in: int | None = None
    """So many steps of its own until ``kill -9`` hits it."""
    stops_in: int | None = None
    """So many steps until ``SIGSTOP`` hits it, for longer than its leases last."""
    stopped_until: float = 0.0
    pace: float = 1.0
    """Seconds that its machine counts in a second: a quartz is off by some millionths."""
    wall_clock: float = START
    """What its machine took the time to be when it was booted."""
    is_dead: bool = False
    task: asyncio.Task[None] | None = None

    async def step(self) -> None:
        """Between any two things that a process does to the outside it may be stopped, or die."""
        if self.is_dead:
            raise Dead
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in < 0:
                self.kill()
                raise Dead
        if self.stops_in is not None:
            self.stops_in -= 1
            if self.stops_in < 0:
                self.stop(LONG_STOP)
        await asyncio.sleep(max(0.0, self.stopped_until - self.loop.time()))
        if self.is_dead:
            raise Dead

    def tick(self) -> float:
        return self.loop.time() * self.pace

    def stop(self, seconds: float) -> None:
        self.stops_in, self.stopped_until = None, self.loop.time() + seconds
        self.accidents["SIGSTOP"] += 1

    def kill(self) -> None:
        if not self.is_dead:
            self.is_dead = True
            self.accidents["kill -9"] += 1
            self.loop.kill(self.name)


@dataclass(frozen=True, slots=True)
class Accidents:
    """How rough a run is; chances are for each call or step."""

    ion: float = 0.12
    kafka: float = 0.08
    process: float = 0.05
    replicas: int = 1


@dataclass(slots=True)
class Edit:
    """A person's edit of one field, and when."""

    side: str
    value: Any
    at: float


class World:
    def __init__(
        self, seed: int, dialect: str, accidents: Accidents, loop: VirtualLoop, calls_per_minute: int
    ) -> None:
        self.rng = Random(f"world {seed} {dialect}")
        self.loop, self.dialect, self.rough = loop, dialect, accidents
        self.calls_per_minute = calls_per_minute
        options = IonOptions(
            dialect=dialect,
            customers=0,
            calls_per_minute=calls_per_minute,
            access_seconds=1_200,
            max_page_size=10,
            empty_list_is_bare=True,
            clock_skew_seconds=self.rng.choice((0, self.rng.uniform(-CLOCK_SKEW, CLOCK_SKEW))),
        )
        crm_skew = self.rng.choice((0, self.rng.uniform(-CLOCK_SKEW, CLOCK_SKEW)))
        self.skew = abs(crm_skew - options.clock_skew_seconds)
        """Seconds that the clocks of both sides differ by."""
        self.account = Account(options, clock=self.now, mischief=self._mischief)
        self.ion = LocalIon(IonServer(self.account))
        self.crm = Crm(CrmOptions(), clock=lambda: self.now() + crm_skew)
        self.topic = SimTopic(Random(f"kafka {seed}"))
        self.commands: list[dict[str, Any]] = []
        self.happened: Counter[str] = Counter()
        self.processes: dict[str, Process] = {}
        self.edits: dict[tuple[str, str, str], list[Edit]] = {}
        """(side, id, field) to a person's edits, oldest first."""
        self.first_values: dict[str, dict[str, Any]] = {}
        """What a customer was made with, by its id."""
        self.is_calm = False
        self.database_away_until = 0.0
        self._names = 0
        self._start: Callable[[Process], Member] | None = None
        self._new_value: dict[str, Callable[[int], Any]] = {
            "email": lambda n: f"n{n}@x.example",
            "phone": lambda n: f"+1813556{n % 10_000:04d}",
            "title": lambda n: f"{self.rng.choice(WORDS)} {n}",
            "company": lambda n: f"{self.rng.choice(WORDS)} {n}",
        }

    def now(self) -> float:
        return START + self.loop.time()

    # -- processes

    def populate(self, start: Callable[[Process], Member]) -> None:
        """Set the world going, with as many daemons as it is to have."""
        self._start = start
        for _ in range(3):
            self.new_in_crm()
            self.new_in_ion()
        for number in range(self.rough.replicas):
            self.boot(f"daemon-{number}")

    def boot(self, name: str) -> None:
        if self._start is None:
            raise RuntimeError("the world is not populated yet")
        process = Process(name, self.loop, self.happened)
        process.pace += self.rng.uniform(-QUARTZ, QUARTZ)
        if self.rng.random() < 0.5:
            process.wall_clock = self.now() + self.rng.uniform(-WRONG_CLOCK, WRONG_CLOCK)
            self.happened["clock of a process is wrong"] += 1
        else:
            process.wall_clock = self.now()
        self.processes[name] = process
        token = OWNER.set(name)
        try:
            process.task = self.loop.create_task(self._start(process).run())
        finally:
            OWNER.reset(token)
        self.topic.rebalance(self._alive())

    def _alive(self) -> list[str]:
        return [name for name, process in self.processes.items() if not process.is_dead]

    def revive(self) -> None:
        for name, process in list(self.processes.items()):
            if process.is_dead:
                self.boot(name)

    # -- accidents

    def _mischief(self, operation: str) -> Fault | None:
        if self.is_calm or self.rng.random() >= self.rough.ion:
            return None
        [kind] = self.rng.choices(list(ION_ACCIDENTS), list(ION_ACCIDENTS.values()))
        if operation == "token" and kind.endswith("-after"):
            kind = "timeout-before"  # the one loss that nobody can mend: it has its own test
        if (kind in READ_ONLY and operation != "list") or (kind == "respell" and operation != "update"):
            return None
        if operation == "token" and kind in ("html", "half-json", "empty", "unauthorised"):
            return None
        self.happened[f"ion {kind}"] += 1
        if kind == "throttled":
            return Fault("status", code=429, retry_after=self.rng.choice((None, "3")))
        if kind in ("status", "unreachable"):
            return Fault("status", code=self.rng.choice((500, 502, 503)))
        return Fault(kind, seconds=self.rng.uniform(1, 8))

    async def call_ion(
        self, process: Process, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """A call over a network that takes its time, or can't be crossed at all."""
        if process.is_dead:
            raise Dead
        if not self.is_calm and self.rng.random() < self.rough.ion / 10:
            self.happened["ion unreachable"] += 1
            raise ConnectionRefusedError("nobody there")
        await asyncio.sleep(self.rng.uniform(0.005, 0.4))
        try:
            answer = await self.ion.exchange(method, path, query, headers, body, 30.0)
        finally:
            for ion_id, values in self.account.customers.items():
                self.first_values.setdefault(ion_id, dict(values))
        await asyncio.sleep(self.rng.uniform(0.005, 0.4))
        await process.step()
        return answer

    async def reach_database(self, process: Process) -> None:
        await process.step()
        if self.loop.time() < self.database_away_until:
            raise OSError("the database is away")

    async def take_commands(self, process: Process, values: list[bytes]) -> None:
        """Commands as Kafka took them; it may have taken them though it said no."""
        await process.step()
        chance = 0.0 if self.is_calm else self.rough.kafka
        if self.topic.is_away or self.rng.random() < chance / 2:
            raise ConnectionError("no broker")
        self.commands += [orjson.loads(value) for value in values]
        if self.rng.random() < chance:
            self.happened["kafka repeats a command"] += 1
            self.commands += [orjson.loads(value) for value in values]
        if self.rng.random() < chance / 2:
            self.happened["kafka took it and said no"] += 1
            raise ConnectionError("no answer")

    # -- one step: something happens, and time goes by

    def act(self) -> str:
        """One thing happens; its name, for the story of a run."""
        acts: list[tuple[float, Callable[[], None]]] = [
            (6, self.edit_in_crm),
            (4, self.edit_in_ion),
            (0.3, self.edit_everyone_in_crm),
            (1, self.new_in_crm),
            (1, self.new_in_ion),
            (0.5, self.new_on_both),
            (0.2, self.delete_in_crm),
            (0.2, self.vanish_from_ion),
            (8, self.crm_works),
            (0 if self.is_calm else self.rough.kafka * 6, self.kafka_accident),
            (0 if self.is_calm else self.rough.process * 25, self.process_accident),
        ]
        [(_, happen)] = self.rng.choices(acts, [weight for weight, _ in acts])
        happen()
        self.send_events()
        return happen.__name__

    def pause(self) -> float:
        """Virtual seconds until the next step: mostly short, at times long enough for every timer."""
        [longest] = self.rng.choices((0.3, 2, 40), (60, 37, 3))
        return self.rng.uniform(0, longest)

    def send_events(self) -> None:
        """What the CRM has to tell goes to Kafka, at times twice."""
        while self.crm.events:
            key, value = self.crm.events.pop(0)
            self.topic.append(key, value, int(self.now() * 1000))
            if not self.is_calm and self.rng.random() < self.rough.kafka / 2:
                self.happened["kafka repeats an event"] += 1
                self.topic.append(key, value, int(self.now() * 1000))

    # -- people

    def edit_in_crm(self) -> None:
        if self.crm.customers:
            self._edit("crm", self.rng.choice(sorted(self.crm.customers)), self.rng.choice(EDITABLE))

    def edit_in_ion(self) -> None:
        if self.account.customers:
            self._edit("ion", self.rng.choice(sorted(self.account.customers)), self.rng.choice(SHOWN[self.dialect]))

    def edit_everyone_in_crm(self) -> None:
        """Somebody's script: a crowd of changes."""
        self.happened["everyone edited"] += 1
        for customer_id in sorted(self.crm.customers):
            self._edit("crm", customer_id, self.rng.choice(EDITABLE))

    def _edit(self, side: str, customer_id: str, name: str) -> None:
        self._names += 1
        value = self._new_value[name](self._names)
        if side == "crm":
            self.crm.change(customer_id, {name: value})
        else:
            self.account.edit(customer_id, {name: value})
        self.edits.setdefault((side, customer_id, name), []).append(Edit(side, value, self.now()))

    def new_in_crm(self) -> None:
        if len(self.crm.customers) < MAX_CUSTOMERS:
            self._enter_in_crm(self._customer())

    def new_in_ion(self) -> None:
        if len(self.account.customers) < MAX_CUSTOMERS:
            self._enter_in_ion(self._customer())

    def new_on_both(self) -> None:
        """Two people enter the same customer at the same time."""
        if max(len(self.crm.customers), len(self.account.customers)) < MAX_CUSTOMERS:
            values = self._customer()
            self._enter_in_crm(values)
            self._enter_in_ion(values)

    def _enter_in_crm(self, values: dict[str, Any]) -> None:
        crm_id = self.crm.new_id()
        self.crm.change(crm_id, values)
        self.first_values[crm_id] = values

    def _enter_in_ion(self, values: dict[str, Any]) -> None:
        self.first_values[self.account.add(values)["id"]] = values

    def delete_in_crm(self) -> None:
        if len(self.crm.customers) > 3:
            self.happened["deleted in the CRM"] += 1
            self.crm.delete(self.rng.choice(sorted(self.crm.customers)))

    def vanish_from_ion(self) -> None:
        if len(self.account.customers) > 3:
            self.happened["gone from ION"] += 1
            self.account.customers.pop(self.rng.choice(sorted(self.account.customers)))

    def crm_works(self) -> None:
        for _ in range(min(len(self.commands), self.rng.randrange(1, 4))):
            command = self.commands.pop(0)
            if command["data"].get("crm_id") in (None, *self.crm.customers):
                self._note_undo(command)
                self.crm.apply(command)
        for crm_id, values in self.crm.customers.items():
            self.first_values.setdefault(crm_id, dict(values))

    def _note_undo(self, command: dict[str, Any]) -> None:
        """What a person had put back is that person's edit, from when the CRM holds it."""
        data = command["data"]
        for name, why in data["why"].items():
            is_undo = isinstance(why, dict) and why.get("rule") == "undo"
            if is_undo and command["id"] not in self.crm.done and self.crm.would_take(command):
                edit = Edit("crm", data["set"][name], self.now())
                self.edits.setdefault(("crm", data["crm_id"], name), []).append(edit)

    def _customer(self) -> dict[str, Any]:
        self._names += 1
        return {
            "company": f"Company {self._names}",
            "email": f"c{self._names}@x.example",
            "country": "US",
            "phone": "+18135550142",
            "address": {"street": "1 Main", "suite": "", "city": "Tampa", "state": "FL", "zip": "33602"},
            "contact": "Ann",
            "title": "CEO",
            "language": "EN",
            "status": "active",
        }

    # -- accidents between the steps

    def kafka_accident(self) -> None:
        kind = self.rng.choice(("rebalance", "away", "back"))
        self.happened[f"kafka {kind}"] += 1
        if kind == "rebalance":
            self.topic.rebalance(self._alive())
        else:
            self.topic.is_away = kind == "away"

    def process_accident(self) -> None:
        process = self.processes[self.rng.choice(sorted(self.processes))]
        kind = self.rng.choice(("kill now", "kill soon", "stop now", "stop soon", "database", "start", "start"))
        if kind == "start":
            self.revive()
        elif kind == "kill now":
            process.kill()
            self.topic.rebalance(self._alive())
        elif kind == "kill soon":
            process.dies_in = self.rng.randrange(0, 40)
        elif kind == "stop now":
            process.stop(self.rng.uniform(1, LONG_STOP))
        elif kind == "stop soon":
            process.stops_in = self.rng.randrange(0, 40)
        else:
            self.happened["database away"] += 1
            self.database_away_until = self.loop.time() + self.rng.uniform(0.1, 8)

    def calm(self) -> None:
        """No more accidents, no more edits: everything has to come out even from here."""
        self.is_calm = True
        self.topic.is_away = False
        self.database_away_until = 0.0
        for process in self.processes.values():
            process.dies_in, process.stops_in, process.stopped_until = None, None, 0.0
        self.revive()
        self.topic.rebalance(self._alive())


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    seed: int
    dialect: str
    replicas: int
    planned_steps: int
    steps: int = 0
    failures: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)
    virtual_seconds: float = 0.0
