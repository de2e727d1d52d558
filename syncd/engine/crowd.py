"""The crowd's way to ION: who waits for a listing, and how the listing is paced (S5, ``core/crowd.py``).

The leader lists when a crowd waits that nobody goes before, and asks for a page when there are slots for the writes
that it serves. The page's readings of those who wait lie in the store for as long as they are fresh, so
any replica builds its write on them.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncd.core.crowd import (
    CROWD,
    FEW,
    GATHER_MS,
    LATE_MS,
    MANY,
    NEWCOMERS,
    Turn,
    enough,
    newcomers,
    newcomers_pace_ms,
    slots_wanted,
)
from syncd.core.record import Reading
from syncd.core.values import Millis, Subject
from syncd.core.work import NEWCOMER, Stage
from syncd.engine.facts import Facts
from syncd.engine.ports import Clock, Gate, Store, Unit

CLAIMED_WITHIN = 0.9
"""Of the time that a reading is fresh: whoever is claimed later would find it old, and take a look of its own."""
MAX_SLEEP_SECONDS = 5.0
"""The longest sleep between two questions whether a page is worth its call."""


class Crowds:
    def __init__(self, store: Store, gate: Gate, clock: Clock, facts: Facts) -> None:
        self._store = store
        self._gate = gate
        self._clock = clock
        self._facts = facts
        self._seen_at: Millis | None = None
        """Since when there has been a crowd without a break."""

    async def turn(self, unit: Unit, *, is_full: bool) -> Turn | None:
        """Who may be claimed for a call, where not everybody may; ``is_full``: so many wait for slots already."""
        now, turn, least = self._clock.now(), self._turn(), enough(self._facts.pages)
        if is_full:
            return turn._replace(is_only_for_shown=True)
        crowd = await unit.crowd(turn, now, least)
        if crowd.unshown >= least:
            return turn
        if crowd.deciding + crowd.unshown >= least:  # it may become a crowd in a moment
            return turn._replace(listed=max(turn.listed, Millis(now - GATHER_MS)))
        return None

    async def newcomers(self, unit: Unit, stage: Stage) -> list[Subject]:
        """Who is no part of a crowd, and goes before all others who wait for the same."""
        newest = await unit.newest(self._clock.now(), NEWCOMERS + FEW)
        return [each.subject for each in newcomers(newest) if each.stage is stage]

    async def let_by(self, unit: Unit, newcomer: Subject) -> bool:
        """Others may be made to wait for this one now; not for another until after a while, in no replica."""
        now, pace_ms = self._clock.now(), newcomers_pace_ms(self._facts.calls_per_minute)
        return await unit.lease(NEWCOMER, f"{newcomer} at {now}", now, pace_ms)

    async def is_waiting(self) -> bool:
        """There is a crowd, and it has been decided, or was waited for long enough; and nobody goes before it."""
        now, least = self._clock.now(), enough(self._facts.pages)
        async with self._store.begin() as unit:
            crowd = await unit.crowd(self._turn(), now, least)
        self._seen_at = (self._seen_at or now) if crowd.unshown >= least else None
        is_gathered = self._seen_at is not None and (crowd.deciding < least or now - self._seen_at >= GATHER_MS)
        return is_gathered and crowd.shown < least

    async def wait_for_slots(self, pages_read: int, patience: Millis) -> None:
        """Wait until the next page is worth its call: without slots its readings grow old unused.

        Not longer than until ``patience``: others may take each slot that comes free, and creates and
        the guard wait for the listing.
        """
        left, least = max(1, self._facts.pages - pages_read), enough(self._facts.pages)
        while self._clock.now() < patience:
            async with self._store.begin() as unit:
                crowd = await unit.crowd(self._turn(), self._clock.now(), max(least, MANY * left))
            if crowd.unshown < least:
                return
            wait_ms = await self._gate.wait_ms(slots_wanted(crowd, left))
            if not wait_ms:
                return
            await self._clock.sleep(min(MAX_SLEEP_SECONDS, wait_ms / 1000))

    async def keep(self, readings: Sequence[Reading]) -> None:
        """Leave a page's readings to those who wait for them; a few who wait take a look of their own.

        Who was shown before and still waits is shown again: this listing passed nobody by. A page that came late
        leaves none: they would be old before anybody had a slot.
        """
        now, turn = self._clock.now(), self._turn()
        fresh = [reading for reading in readings if reading.asked >= self._fresh_from(now, 0.5)]
        async with self._store.begin() as unit:
            await unit.drop_readings(self._fresh_from(now))
            if fresh:
                crowd = await unit.crowd(turn, now, CROWD)
                if crowd.unshown + crowd.shown >= CROWD:
                    await unit.keep_readings(fresh, now)

    def _turn(self) -> Turn:
        now = self._clock.now()
        return Turn(self._facts.listed_last, self._fresh_from(now, CLAIMED_WITHIN), Millis(now - LATE_MS))

    def _fresh_from(self, now: Millis, share: float = 1) -> Millis:
        return Millis(now - int(share * self._facts.fresh_ms))
