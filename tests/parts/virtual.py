"""A daemon on virtual time that a test can tell of customers and edits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from random import Random
from typing import Any

from syncd.core.values import Millis
from syncd.engine.clock import SharedClock
from syncd.engine.intake import Intake, SavedEvent
from syncd.sim.ion import Account, IonOptions
from syncd.sim.time import VirtualLoop
from syncd.store.memory import MemoryStore
from tests.parts.local import local_daemon
from tests.system.test_day import customer

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


class VirtualDaemon:
    """The daemon as it is, with ION, the events and the store in memory, and the loop's time."""

    def __init__(self, loop: VirtualLoop, calls_per_minute: int, max_page_size: int = 1_000) -> None:
        self.loop = loop
        options = IonOptions(calls_per_minute=calls_per_minute, customers=0, max_page_size=max_page_size)
        self.account = Account(options, self.now)
        self.told = Told()
        self.store = MemoryStore(Random(1), self.now)
        clock = SharedClock(loop.time, Millis(START * 1000))
        unlimited = {f"SYNCD_GUARD__MAX_{kind}": "0" for kind in ("UPDATES", "LINK_CHANGES", "PERCENT")}
        self.daemon = local_daemon(
            self.account, self.store, clock, self.told, calls_per_minute, Random(1), **unlimited
        )

    def now(self) -> float:
        return START + self.loop.time()

    async def link(self, names: Sequence[str]) -> None:
        """Customers that both sides have, and a CRM that notes ION's number."""
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
