"""Many changed customers at once: one listing serves them all (S5).

A look at each would take as many calls as the writes. So the leader lists ION, as for a sweep, and
after each page writes whoever on it waits. An ION edit made in between would be overwritten unseen,
which is why only a crowd is served like this, and a lone write takes its own look.

A listing for a crowd proves nothing about who is missing: it may come far too soon after another.
"""

from __future__ import annotations

import math

from syncd.core.budget import Lane
from syncd.core.listing import is_crowd
from syncd.core.values import Side, Subject, subject_of
from syncd.engine.facts import Facts
from syncd.engine.ports import Clock, Ion, Store
from syncd.engine.sweep import Sweeper
from syncd.engine.workers import Workers

MAX_CROWD = 100_000
MAX_UNLISTED = 1_000
SPREAD = 1.5
"""A page may hold more of the crowd than its share."""


class Crowd:
    def __init__(
        self, store: Store, ion: Ion, clock: Clock, facts: Facts, sweeper: Sweeper, workers: Workers
    ) -> None:
        self._store = store
        self._ion = ion
        self._clock = clock
        self._facts = facts
        self._sweeper = sweeper
        self._workers = workers

    async def serve(self) -> bool:
        """List ION once for a crowd, if there is one."""
        now = self._clock.now()
        pages = self._facts.crowd_pages(now)
        async with self._store.begin() as unit:
            crowd = set(await unit.crowd(now, MAX_CROWD)) if pages else set[Subject]()
        if not is_crowd(len(crowd), pages):
            return False

        def writes() -> int:
            return math.ceil(SPREAD * len(crowd) / max(1, pages))

        async for page in self._ion.list_customers(Lane.RECOVERY, writes):
            pages -= 1
            async with self._store.begin() as unit:
                links = await unit.links(Side.ION, [reading.ion_id for reading in page.readings])
            readings = {
                subject_of(Side.CRM, links[reading.ion_id].crm_id): reading
                for reading in page.readings
                if reading.ion_id in links
            }
            await self._workers.push_listed({who: readings[who] for who in crowd & readings.keys()}, page.slots)
            crowd -= readings.keys()
            await self._sweeper.observe(page.readings)
            if page.is_repeated:
                break
        await self._workers.push_unlisted(sorted(crowd)[:MAX_UNLISTED])
        return True
