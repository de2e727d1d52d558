"""Who looks at whom, and when: claims from the queue, handed to ``reconcile`` and ``push``.

A claim is leased and renewed while it is worked on; if the process dies, the lease runs out and
another takes over. One customer's trouble never holds up another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from syncd.core.errors import LostLease, StoreConflict
from syncd.core.values import Millis
from syncd.core.work import Again, Claim, Stage
from syncd.engine.facts import Facts
from syncd.engine.ports import Clock, Gate, Loop, Store
from syncd.engine.push import Pusher
from syncd.engine.reconcile import Reconciler

LEASE_MS = 15_000
RENEW_SECONDS = 5.0
MAX_DECIDING, MAX_PUSHING = 100, 32
AT_ONCE = 8
"""Customers decided side by side: enough to keep PostgreSQL busy while we think."""

log = structlog.get_logger()


def batched(claims: Sequence[Claim], size: int) -> list[Sequence[Claim]]:
    return [claims[start : start + size] for start in range(0, len(claims), size)]


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
        wakes: Wakes,
        idle_seconds: float,
    ) -> None:
        self._store = store
        self._gate = gate
        self._clock = clock
        self._facts = facts
        self._reconciler = reconciler
        self._pusher = pusher
        self._wakes = wakes
        self._idle_seconds = idle_seconds
        self._held: dict[int, Claim] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._is_draining = False

    def drain(self) -> None:
        """Start nothing new, let calls under way end, give back what still waits for its turn."""
        self._is_draining = True
        for task in self._waiting:
            task.cancel()
        self._wakes.ring(*Loop)

    async def decide(self) -> None:
        """Reconcile whoever is due, until drained."""
        while not self._is_draining:
            claims = await self._claim(Stage.DECIDE, MAX_DECIDING)
            for few in batched(claims, AT_ONCE):
                await asyncio.gather(*(self._guarded(claim, self._reconciler.reconcile) for claim in few))
            if not claims:
                await self._idle(Stage.DECIDE)

    async def push(self) -> None:
        """Call ION for whoever is due, as many at a time as make sense, until drained."""
        places = asyncio.Semaphore(MAX_PUSHING)
        async with asyncio.TaskGroup() as tasks:
            while not self._is_draining:
                await places.acquire()
                claims = await self._claim(Stage.CALL, 1)
                for claim in claims:
                    task = tasks.create_task(self._guarded(claim, self._push_one))
                    self._waiting.add(task)
                    task.add_done_callback(self._waiting.discard)
                    task.add_done_callback(lambda _: places.release())
                if not claims:
                    places.release()
                    await self._idle(Stage.CALL)

    async def renew(self) -> None:
        """Keep the leases of what is being worked on, for ever."""
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            if self._held:
                async with self._store.begin() as unit:
                    await unit.renew(list(self._held.values()), Millis(self._clock.now() + LEASE_MS))

    async def _push_one(self, claim: Claim) -> None:
        need = await self._pusher.needs(claim.subject)
        async with self._gate.slots(need.lane, need.slots) as slots:
            if task := asyncio.current_task():
                self._waiting.discard(task)  # from here on it is let finish
            await self._pusher.push(claim, slots, need)

    async def _claim(self, stage: Stage, limit: int) -> list[Claim]:
        async with self._store.begin() as unit:
            claims = await unit.claim(stage, self._clock.now(), LEASE_MS, limit)
        self._held.update({claim.fence: claim for claim in claims})
        return claims

    async def _guarded(self, claim: Claim, work: Callable[[Claim], Awaitable[None]]) -> None:
        """Run one customer's work; whatever happens, the customer is looked at again."""
        try:
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
        again = Again(Millis(self._clock.now() + wait_ms), claim.stage, claim.attempts + 1)
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
        await self._wakes.wait(LOOP_OF[stage], min(self._idle_seconds, max(0.001, seconds)))
