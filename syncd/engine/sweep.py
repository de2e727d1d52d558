"""Finding ION's edits: one complete listing, compared with the records (S2, S10).

ION has no webhooks. A sweep that finds nothing new writes nothing; a customer that a sweep does
not list is not gone, it only counts as not listed, and only if the sweep was complete. After three
such sweeps in a row it is queued, and ``push`` asks ION for it by its id.

Next in the flow: ``reconcile``, for the customers whose reading differs from their record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial

from syncd.core.batches import batched
from syncd.core.budget import WINDOW_MS, Lane
from syncd.core.link import Link
from syncd.core.listing import RECENT_SWEEPS, Listing, SweepOutcome, judge
from syncd.core.record import Reading, Record, new_record, observe_reading
from syncd.core.values import Millis, Side, Subject, subject_of
from syncd.core.work import SWEEP, Sweep
from syncd.engine import spans
from syncd.engine.crowd import Crowds
from syncd.engine.facts import Facts
from syncd.engine.ports import Clock, Counters, Ion, Page, Store
from syncd.engine.tries import insist

AT_ONCE = 200
"""So many of a page are compared in one go: while they are, nothing else is done."""
SPACED = 0.9
"""So much of the poll interval lies at least between two sweeps that count who is missing: ION may lag."""


class Sweeper:
    def __init__(
        self, store: Store, ion: Ion, clock: Clock, facts: Facts, counters: Counters, crowds: Crowds
    ) -> None:
        self._store = store
        self._ion = ion
        self._clock = clock
        self._facts = facts
        self._counters = counters
        self._crowds = crowds

    async def remember_last(self) -> None:
        """The last sweeps, before a restart or by another replica: they say when everyone was last seen."""
        async with self._store.begin() as unit:
            last = await unit.recent_sweeps(1)
            read_through = await unit.measuring_sweeps(RECENT_SWEEPS)
        self._facts.listed_last = max((sweep.started for sweep in last), default=self._facts.listed_last)
        self._facts.pages = max((sweep.pages for sweep in read_through), default=1)
        complete = [sweep for sweep in read_through if sweep.outcome is SweepOutcome.COMPLETE]
        if complete and complete[0].started > self._facts.listed_from:
            self._facts.listed_from = complete[0].started
            self._facts.listing_ms = complete[0].ended - complete[0].started

    async def sweep(self) -> Sweep:
        """List ION once. A failed page ends the sweep; what was read until then counts.

        Raises what ended it, a ``SideError`` as a rule, after the sweep has been recorded as failed.
        """
        started = self._clock.now()
        patience = Millis(started + self._facts.poll_ms + WINDOW_MS)
        listed: set[str] = set()
        pages, changed, announced, prints = 0, 0, None, set[bytes]()
        is_repeated, failure = False, None
        try:
            await self._begin()
            await self._crowds.wait_for_slots(pages, patience)
            async with aclosing(self._ion.list_customers(Lane.SWEEP)) as listing:
                async for page in listing:
                    pages += 1
                    announced = page.announced
                    listed.update(reading.ion_id for reading in page.readings)
                    is_repeated |= page.is_repeated or _is_repeat(page, prints)
                    for some in batched(page.readings, AT_ONCE):
                        changed += await insist(partial(self._observe, some, changed))
                    await self._crowds.keep(page.readings)
                    if is_repeated:
                        break  # it proves nothing any more, and may never end
                    if not page.is_last:
                        await self._crowds.wait_for_slots(pages, patience)
        except Exception as error:  # however it ended: those who waited for it wait no more
            failure = error
        seen = Listing(len(listed), failure is None, is_repeated, announced)
        sweep = await insist(partial(self._record, seen, listed, started, pages, changed))
        if failure is not None:
            raise failure
        return sweep

    async def _begin(self) -> None:
        """What an earlier sweep has found was counted, or died with it."""
        async with self._store.begin() as unit:
            await unit.save_progress(SWEEP, 0)

    async def _observe(self, readings: Sequence[Reading], so_far: int) -> int:
        """Fold a part of a page in; how many records changed."""
        now = self._clock.now()
        readings = list({reading.ion_id: reading for reading in readings}.values())
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
            due = [_subject(record.customer_id, links) for record in changed]
            await unit.enqueue(due, now, spans.carry(due))
            if changed:
                await unit.save_progress(SWEEP, so_far + len(changed))
        return len(changed)

    async def _record(self, listing: Listing, listed: set[str], started: Millis, pages: int, changed: int) -> Sweep:
        ended = self._clock.now()
        async with self._store.begin() as unit:
            recent = await unit.measuring_sweeps(RECENT_SWEEPS)
            outcome = judge(listing, [sweep.customers for sweep in recent])
            is_early = bool(recent) and started - recent[0].started < self._facts.poll_ms * SPACED
            proves_absence = outcome is SweepOutcome.COMPLETE and not is_early
            if proves_absence:
                due = await unit.note_missing(listed, started)
                links = await unit.links(Side.ION, due)
                await unit.enqueue([_subject(ion_id, links) for ion_id in due], ended)
            sweep = Sweep(started, ended, pages, listing.customers, changed, outcome, is_early)
            await unit.save_sweep(sweep)
            await unit.save_progress(SWEEP, 0)
        self._facts.listed_last = started
        if proves_absence:
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
