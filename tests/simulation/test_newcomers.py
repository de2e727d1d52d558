"""S5, S11: one edit beside hundreds that wait for the budget. The daemon as it is, on virtual time."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest

from syncd.core.crowd import NEWCOMERS_SHARE
from syncd.core.values import Millis
from syncd.crm.kafka import KafkaSink
from syncd.daemon import Daemon, Outside, build, none_missing
from syncd.engine.clock import SharedClock
from syncd.engine.intake import Intake, SavedEvent
from syncd.mapping import load_mapping
from syncd.metrics import Metrics
from syncd.settings import load
from syncd.sim.ion import Account, IonOptions, IonServer
from syncd.sim.time import VirtualLoop
from syncd.sim.wire import LocalIon
from syncd.store.memory import MemoryStore
from tests.parts.local import LocalWire
from tests.system.test_day import customer

RATE, CROWD, MINUTES = 30, 400, 8
START = 1_760_000_000
"""Seconds since 1970."""


class Told:
    """A topic in memory: what is put into it is read at once."""

    problem: str | None = None
    is_behind = False

    def __init__(self) -> None:
        self.batches = asyncio.Queue[list[dict[str, Any]]]()
        self._offset = 0

    def __call__(self, intake: Intake, on_progress: Any) -> Told:
        self._intake, self._on_progress = intake, on_progress
        return self

    async def run(self) -> None:
        self._on_progress({0: 0})
        while True:
            events = []
            for event in await self.batches.get():
                now = Millis(int((START + asyncio.get_running_loop().time()) * 1000))
                key, value = event["id"].encode(), json.dumps(event).encode()
                events.append(SavedEvent("t", 0, self._offset, now, key, value, ()))
                self._offset += 1
            await self._intake.ingest("t", events, {0: self._offset})
            self._on_progress({0: 0})


class Nowhere:
    async def send(self, messages: Any) -> None:
        """Taken."""


class Beside:
    """A daemon with ``CROWD`` and a few other linked customers."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.account = Account(IonOptions(calls_per_minute=RATE, customers=0), self.now)
        self.told = Told()
        environ = {
            "SYNCD_KAFKA__BOOTSTRAP_SERVERS": "none",
            "SYNCD_ION__URL": "http://ion.simulated",
            "SYNCD_ION__ACCOUNT_ID": "20481",
            "SYNCD_ION__REFRESH_TOKEN": "initial-refresh-token",
            "SYNCD_ION__CALLS_PER_MINUTE": str(RATE),
            "SYNCD_SUBSCRIPTIONS__INTERVAL_SECONDS": "0",
            **{f"SYNCD_GUARD__MAX_{kind}": "0" for kind in ("UPDATES", "LINK_CHANGES", "PERCENT")},
        }
        settings, _ = load(None, environ)
        mapping, posts = load_mapping(None), Nowhere()
        self.store = MemoryStore(Random(1), self.now)
        outside = Outside(
            store=self.store,
            clock=SharedClock(loop.time, Millis(START * 1000)),
            wire=LocalWire(LocalIon(IonServer(self.account))),
            posts=posts,
            sink=KafkaSink(posts, "commands", mapping),
            reader=None,
            read_events=self.told,
            read_orders=None,
            read_contracts=None,
            missing_topics=none_missing,
            fingerprint=lambda data: "0",
            rng=Random(1),
            owner="me",
            idle_seconds=15.0,
        )
        self.daemon = Daemon(build(settings, mapping, outside, Metrics()))

    def now(self) -> float:
        return START + self.loop.time()

    async def link(self) -> None:
        names = [f"B{number}" for number in range(CROWD)] + [f"S{number}" for number in range(MINUTES * 60)]
        events = []
        for name in names:
            values = customer(f"Company {name}")
            values.pop("status")
            ion_id = self.account.add(values)["id"]
            events.append({"type": "snapshot", "id": name, "ion_id": ion_id, "customer": values})
        self.told.batches.put_nowait(events)
        async with asyncio.timeout(600):
            while await self._links() < len(names):
                await asyncio.sleep(1)
        await asyncio.sleep(61)

    async def _links(self) -> int:
        async with self.store.begin() as unit:
            return sum((await unit.count_links()).values())

    def edit(self, names: Sequence[str]) -> str:
        """The title that they have from now on."""
        title = f"T{self.loop.time():.3f}"
        self.told.batches.put_nowait([{"type": "changed", "id": n, "customer": {"title": title}} for n in names])
        return title

    def writes_of(self, title: str) -> list[float]:
        """When each of them arrived."""
        return [call["at"] for call in self.account.journal if (call.get("sent") or {}).get("title") == title]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


async def _edits_beside_a_crowd(loop: VirtualLoop, every_seconds: int) -> tuple[int, list[float], int]:
    """How many of the crowd were written, how long each of the edits waited, and the calls of the busiest minute."""
    beside = Beside(loop)
    running = asyncio.create_task(beside.daemon.run())
    try:
        await beside.link()
        crowd = beside.edit([f"B{number}" for number in range(CROWD)])
        await asyncio.sleep(60)
        edited = list[tuple[float, str]]()
        for number in range(MINUTES * 60 // every_seconds):
            edited.append((beside.now(), beside.edit([f"S{number}"])))
            await asyncio.sleep(every_seconds)
        waited = [min(beside.writes_of(title), default=math.inf) - at for at, title in edited]
        return len(beside.writes_of(crowd)), waited, beside.account.busiest_minute()
    finally:
        beside.daemon.stop()
        await running


def test_one_edit_a_minute_goes_before_the_hundreds_that_wait(loop: VirtualLoop) -> None:
    written, waited, busiest = loop.run_until_complete(_edits_beside_a_crowd(loop, 60))
    assert max(waited) < 65, "at worst all slots were taken, and are free again after a minute"
    assert written > 0.8 * RATE * MINUTES
    assert busiest <= RATE


def test_edits_that_come_and_come_leave_the_crowd_its_part(loop: VirtualLoop) -> None:
    written, waited, busiest = loop.run_until_complete(_edits_beside_a_crowd(loop, 4))
    assert written > 0.7 * RATE * MINUTES
    assert sum(math.isfinite(seconds) for seconds in waited) > 0.8 * NEWCOMERS_SHARE * RATE * MINUTES / 2
    assert busiest <= RATE


def test_many_that_come_together_are_no_newcomers(loop: VirtualLoop) -> None:
    written, waited, _ = loop.run_until_complete(_edits_beside_a_crowd(loop, 1))
    assert written > 0.9 * RATE * MINUTES
    assert sum(map(math.isfinite, waited)) < 5
