"""Who looks at whom, and when: claims from the queue, handed to ``reconcile`` and ``push``.

A claim is leased and renewed while it is worked on; if the process dies, the lease runs out and
another takes over. One customer's trouble never holds up another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from syncd.core.batches import batched
from syncd.core.crowd import NEWCOMERS
from syncd.core.errors import LostLease, NoSlotInTime, StoreConflict
from syncd.core.values import Millis
from syncd.core.work import Again, Claim, Stage
from syncd.engine import spans
from syncd.engine.crowd import Crowds
from syncd.engine.facts import Facts
from syncd.engine.ports import Clock, Gate, Loop, Store, Unit
from syncd.engine.push import Need, Pusher
from syncd.engine.reconcile import Reconciler

LEASE_MS = 15_000
RENEW_SECONDS = 5.0
MAX_DECIDING, MAX_PUSHING = 32, 32
NEWCOMER_WAITS_MS = 120_000
"""So long a newcomer waits for slots before all others, and then it is claimed anew."""
CALLS_AT_ONCE = 4
"""So many of a crowd are claimed together."""
PLACES_KEPT, NEWCOMERS_PLACES = 8, 4
"""So many of those are kept for newcomers, and for whom a page has shown: they can't wait for slots for long; and
so many of these for newcomers alone, since a page shows enough to fill the others."""
CROWD_SECONDS, QUIET_SECONDS = 0.5, 0.1
"""How often to look whether the crowd is gone, beside being woken by a page that serves it. And how often at most,
also where who is due is in other hands."""
BEHIND_SECONDS = 0.1
AT_ONCE = 8
"""Customers decided side by side: enough to keep PostgreSQL busy while we think."""

log = structlog.get_logger()


class Wakes:
    """Tells loops that sleep that there may be something to do: the store rings them."""

    def __init__(self) -> None:
        self._rung = {loop: asyncio.Event() for loop in Loop}

    def ring(self, *loops: Loop) -> None:
        for loop in loops:
            self._rung[loop].set()

    async def wait(self, loop: Loop, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._rung[loop].wait()
        except TimeoutError:
            pass
        self._rung[loop].clear()


Work = Callable[[Claim], Awaitable[None]]
LOOP_OF = {Stage.DECIDE: Loop.DECIDE, Stage.CALL: Loop.PUSH}


class Workers:
    def __init__(
        self,
        store: Store,
        gate: Gate,
        clock: Clock,
        facts: Facts,
        reconciler: Reconciler,
        pusher: Pusher,
        crowds: Crowds,
        wakes: Wakes,
        idle_seconds: float,
        is_behind: Callable[[], bool],
    ) -> None:
        self._store = store
        self._gate = gate
        self._clock = clock
        self._facts = facts
        self._reconciler = reconciler
        self._pusher = pusher
        self._crowds = crowds
        self._wakes = wakes
        self._idle_seconds = idle_seconds
        self._is_behind = is_behind
        """A backlog of events is being read: who is decided now may be told of again in a moment."""
        self._held: dict[int, Claim] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(MAX_PUSHING)
        self._is_draining = False

    def drain(self) -> None:
        """Start nothing new, let calls under way end, give back what still waits for its turn."""
        self._is_draining = True
        for task in self._waiting:
            task.cancel()
        self._wakes.ring(*Loop)

    async def decide(self) -> None:
        """Reconcile whoever is due, until drained; while a backlog is read, that comes first."""
        while not self._is_draining:
            if self._is_behind():
                await self._clock.sleep(BEHIND_SECONDS)
                continue
            claims = await self._claim_undecided()
            for few in batched(claims, AT_ONCE):
                await asyncio.gather(*(self._guarded(claim, self._reconciler.reconcile) for claim in few))
            if len(claims) < MAX_DECIDING:
                await self._idle(Stage.DECIDE)

    async def push(self, calls: asyncio.TaskGroup) -> None:
        """Call ION for whoever is due, as many at a time as make sense, until drained.

        Calls under way in ``calls`` end well though the queue can't be asked for more.
        """
        while not self._is_draining:
            places = await self._take_places()
            is_crowd, claims = False, list[Claim]()
            push: Work = self._push_one
            try:
                if not self._is_draining:
                    is_crowd, claims, push = await self._claim_calls(places)
            finally:
                for _ in range(places - len(claims)):
                    self._places.release()
            for claim in claims:
                task = calls.create_task(self._guarded(claim, push))
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)
                task.add_done_callback(lambda _: self._places.release())
            if is_crowd:
                self._wakes.ring(Loop.SWEEP)
            if not claims and is_crowd:
                await self._clock.sleep(QUIET_SECONDS)
                await self._wakes.wait(Loop.PUSH, CROWD_SECONDS)
            elif not claims:
                await self._idle(Stage.CALL)

    async def renew(self) -> None:
        """Keep the leases of what is being worked on, for ever."""
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            if self._held:
                async with self._store.begin() as unit:
                    await unit.renew(list(self._held.values()), Millis(self._clock.now() + LEASE_MS))

    async def _push_one(self, claim: Claim) -> None:
        await self._push_in_turn(claim, [await self._pusher.needs(claim.subject)])

    async def _push_newcomer(self, claim: Claim) -> None:
        """Before all others; if a page has shown it and no slot comes in time, with a look of its own."""
        need, patience = await self._pusher.needs(claim.subject), Millis(self._clock.now() + NEWCOMER_WAITS_MS)
        if need.reading is None:
            needs = [replace(need, not_after=patience)]
        else:
            needs = [need, Need(ion_id=need.ion_id, not_after=patience)]
        await self._push_in_turn(claim, needs, goes_first=True)

    async def _push_in_turn(self, claim: Claim, needs: Sequence[Need], *, goes_first: bool = False) -> None:
        """With the first of these for which there are slots in time."""
        for need in needs:
            with suppress(NoSlotInTime):
                async with self._gate.slots(need.lane, need.slots, need.not_after, goes_first=goes_first) as slots:
                    if task := asyncio.current_task():
                        self._waiting.discard(task)  # from here on it is let finish
                    await self._pusher.push(claim, slots, need)
                    return
        # The reading grew old: the next page brings a new one.
        await self._finish(claim, Again(self._clock.now(), Stage.CALL, claim.attempts))

    async def _claim_undecided(self) -> list[Claim]:
        """The next, and before them newcomers, where there are so many that newcomers would have to wait."""
        async with self._store.begin() as unit:
            claims = await unit.claim(Stage.DECIDE, self._clock.now(), LEASE_MS, MAX_DECIDING)
            if len(claims) == MAX_DECIDING:
                first = await self._crowds.newcomers(unit, Stage.DECIDE)
                claims = [
                    *await unit.claim(Stage.DECIDE, self._clock.now(), LEASE_MS, NEWCOMERS, only=first),
                    *claims,
                ]
        return self._hold(claims)

    async def _take_places(self) -> int:
        """One, however long that takes, and a few more that are free."""
        await self._places.acquire()
        places = 1
        while places < CALLS_AT_ONCE and not self._places.locked():
            await self._places.acquire()
            places += 1
        return places

    async def _claim_calls(self, places: int) -> tuple[bool, list[Claim], Work]:
        """Is there a crowd that waits for a listing; the next who need not wait, and what is done with them.

        Of a crowd several at once, since a page's readings are fresh for seconds only; else one by
        one, so that whoever is claimed has the newest reason to be.
        """
        async with self._store.begin() as unit:
            free = MAX_PUSHING - len(self._waiting)
            turn = await self._crowds.turn(unit, is_full=free <= PLACES_KEPT)
            if claims := await self._claim_newcomer(unit):
                return turn is not None, self._hold(claims), self._push_newcomer
            limit = min(places if turn is not None else 1, free - NEWCOMERS_PLACES)
            claims = []
            if limit > 0:
                claims = await unit.claim(Stage.CALL, self._clock.now(), LEASE_MS, limit, turn)
        return turn is not None, self._hold(claims), self._push_one

    async def _claim_newcomer(self, unit: Unit) -> list[Claim]:
        first = await self._crowds.newcomers(unit, Stage.CALL)
        if not first or not await self._crowds.let_by(unit, first[-1]):
            return []
        return await unit.claim(Stage.CALL, self._clock.now(), LEASE_MS, 1, only=first[-1:])

    def _hold(self, claims: list[Claim]) -> list[Claim]:
        self._held.update({claim.fence: claim for claim in claims})
        return claims

    async def _guarded(self, claim: Claim, work: Work) -> None:
        """Run one customer's work; whatever happens, the customer is looked at again."""
        try:
            with spans.span(claim.stage.value, claim.trace, customer=claim.subject, attempts=claim.attempts):
                await work(claim)
        except LostLease:
            log.warning("lease_lost", subject=claim.subject)
        except StoreConflict:
            await self._again(claim, self._facts.back_off_ms(claim.attempts) // 10)
        except asyncio.CancelledError:
            await asyncio.shield(self._again(claim, 0))
            raise
        except Exception:
            log.exception("customer_failed", subject=claim.subject, attempts=claim.attempts)
            await self._again(claim, self._facts.back_off_ms(claim.attempts))
        finally:
            self._held.pop(claim.fence, None)

    async def _again(self, claim: Claim, wait_ms: int) -> None:
        await self._finish(claim, Again(Millis(self._clock.now() + wait_ms), claim.stage, claim.attempts + 1))

    async def _finish(self, claim: Claim, again: Again) -> None:
        try:
            async with self._store.begin() as unit:
                await unit.finish(claim, again)
        except LostLease:
            pass
        except Exception as error:  # the store is away: the lease runs out by itself
            log.warning("claim_left_to_its_lease", subject=claim.subject, reason=type(error).__name__)

    async def _idle(self, stage: Stage) -> None:
        async with self._store.begin() as unit:
            due = await unit.next_due(stage)
        seconds = self._idle_seconds if due is None else (due - self._clock.now()) / 1000
        await self._wakes.wait(LOOP_OF[stage], min(self._idle_seconds, max(QUIET_SECONDS, seconds)))
