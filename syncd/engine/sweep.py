"""Finding ION's edits: one complete listing, compared with the records (S2, S10).

ION has no webhooks. A sweep that finds nothing new writes nothing; a customer that a sweep does
not list is not gone, it only counts as not listed, and only if the sweep was complete. After three
such sweeps in a row it is queued, and ``push`` asks ION for it by its id.

Next in the flow: ``reconcile``, for the customers whose reading differs from their record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from syncd.core.budget import Lane
from syncd.core.errors import SideError
from syncd.core.link import Link
from syncd.core.listing import RECENT_SWEEPS, Listing, SweepOutcome, judge
from syncd.core.record import Reading, Record, new_record, observe_reading
from syncd.core.values import Millis, Side, Subject, subject_of
from syncd.core.work import SWEEP, Sweep
from syncd.engine.facts import Facts
from syncd.engine.ports import Clock, Counters, Ion, Page, Store


class Sweeper:
    def __init__(self, store: Store, ion: Ion, clock: Clock, facts: Facts, counters: Counters) -> None:
        self._store = store
        self._ion = ion
        self._clock = clock
        self._facts = facts
        self._counters = counters

    async def remember_last(self) -> None:
        """The last complete sweep, before a restart or by another replica: it says when everyone was last seen."""
        async with self._store.begin() as unit:
            sweeps = await unit.recent_sweeps(RECENT_SWEEPS)
        complete = [sweep for sweep in sweeps if sweep.outcome is SweepOutcome.COMPLETE]
        if complete and complete[0].started > self._facts.listed_from:
            self._facts.listed_from = complete[0].started
            self._facts.listing_ms = complete[0].ended - complete[0].started

    async def sweep(self) -> Sweep:
        """List ION once. A failed page ends the sweep; what was read until then counts.

        Raises the ``SideError`` that ended it, after the sweep has been recorded as failed.
        """
        started = self._clock.now()
        listed: set[str] = set()
        pages, changed, announced, prints = 0, 0, None, set[bytes]()
        is_repeated, failure = False, None
        try:
            async for page in self._ion.list_customers(Lane.SWEEP):
                pages += 1
                announced = page.announced
                listed.update(reading.ion_id for reading in page.readings)
                is_repeated |= page.is_repeated or _is_repeat(page, prints)
                changed += await self._observe(page.readings, changed)
                if is_repeated:
                    break  # it proves nothing any more, and may never end
        except SideError as error:
            failure = error
        listing = Listing(len(listed), failure is None, is_repeated, announced)
        sweep = await self._record(listing, listed, started, pages, changed)
        if failure is not None:
            raise failure
        return sweep

    async def _observe(self, readings: Sequence[Reading], so_far: int) -> int:
        """Fold one page in; how many records changed."""
        now = self._clock.now()
        readings = list({reading.ion_id: reading for reading in readings}.values())
        for reading in readings:
            self._facts.fresh.remember(reading)
        async with self._store.begin() as unit:
            known = await unit.records(Side.ION, [reading.ion_id for reading in readings])
            changed: list[Record] = []
            for reading in readings:
                before = known.get(reading.ion_id)
                after = observe_reading(
                    before or new_record(Side.ION, reading.ion_id), reading, self._facts.listed_from
                )
                if after is not before:
                    changed.append(after)
                elif before.written_until > self._facts.listed_from and reading.asked >= before.written_until:
                    self._counters.echo(Side.ION)  # the first sweep since our write shows what we wrote
            await unit.save_records(changed)
            links = await unit.links(Side.ION, [record.customer_id for record in changed])
            await unit.enqueue([_subject(record.customer_id, links) for record in changed], now)
            if changed:
                await unit.save_progress(SWEEP, so_far + len(changed))
        return len(changed)

    async def _record(self, listing: Listing, listed: set[str], started: Millis, pages: int, changed: int) -> Sweep:
        ended = self._clock.now()
        async with self._store.begin() as unit:
            recent = await unit.recent_sweeps(RECENT_SWEEPS * 4)
            sizes = [sweep.customers for sweep in recent if sweep.outcome.was_read_through]
            outcome = judge(listing, sizes)
            if outcome is SweepOutcome.COMPLETE:
                due = await unit.note_missing(listed, started)
                links = await unit.links(Side.ION, due)
                await unit.enqueue([_subject(ion_id, links) for ion_id in due], ended)
            sweep = Sweep(started, ended, pages, listing.customers, changed, outcome)
            await unit.save_sweep(sweep)
            await unit.save_progress(SWEEP, 0)
        if outcome is SweepOutcome.COMPLETE:
            self._facts.listed_from = started
            self._facts.listing_ms = ended - started
        self._counters.sweep(outcome.value, (ended - started) / 1000)
        return sweep


def _subject(ion_id: str, links: Mapping[str, Link]) -> Subject:
    link = links.get(ion_id)
    return subject_of(Side.ION, ion_id) if link is None else subject_of(Side.CRM, link.crm_id)


def _is_repeat(page: Page, prints: set[bytes]) -> bool:
    """The same page once more, under whatever token or number."""
    if not page.readings:
        return False
    digest = hashlib.sha256("\x1f".join(reading.ion_id for reading in page.readings).encode()).digest()
    if digest in prints:
        return True
    prints.add(digest)
    return False
