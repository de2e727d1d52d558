"""Who looks at whom, and when: claims from the queue, handed to ``reconcile`` and ``push``.

A claim is leased and renewed while it is worked on; if the process dies, the lease runs out and
another takes over. One customer's trouble never holds up another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import structlog

from syncd.core.budget import Lane
from syncd.core.errors import LostLease, StoreConflict
from syncd.core.listing import enough_for_a_crowd, is_crowd
from syncd.core.record import Reading
from syncd.core.values import Millis, Subject
from syncd.core.work import Again, Claim, Stage
from syncd.engine.facts import Facts
from syncd.engine.ports import Clock, Gate, Loop, Slots, Store
from syncd.engine.push import CALLS, Pusher
from syncd.engine.reconcile import Reconciler

LEASE_MS = 15_000
RENEW_SECONDS = 5.0
MAX_DECIDING, MAX_PUSHING = 100, 32
CROWD_SECONDS = 1.0
"""The longest rest of a replica that leaves a crowd to the leader."""
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
        self._places = asyncio.Semaphore(MAX_PUSHING)
        self._waiting: asyncio.Task[None] | None = None
        """The push that waits for its slots; while it does, the others stay in the queue, for anybody."""
        self._is_draining = False

    def drain(self) -> None:
        """Start nothing new, let calls under way end, give back what still waits for its turn."""
        self._is_draining = True
        if self._waiting is not None:
            self._waiting.cancel()
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
        """Call ION for whoever is due, as many at a time as make sense, until drained.

        One at a time waits for its slots; the others stay in the queue, for anybody. A crowd is left
        to ``crowd.Crowd``.
        """
        async with asyncio.TaskGroup() as tasks:
            while not self._is_draining:
                await self._places.acquire()
                is_crowd, claims = await self._claim_call()
                for claim in claims:
                    turn = asyncio.Event()
                    self._waiting = tasks.create_task(self._guarded(claim, partial(self._push_alone, turn=turn)))
                    self._waiting.add_done_callback(lambda _, turn=turn: turn.set())  # type: ignore[misc]
                    self._waiting.add_done_callback(lambda _: self._places.release())
                    await turn.wait()
                if is_crowd:
                    self._wakes.ring(Loop.SWEEP)
                if not claims:
                    self._places.release()
                    await self._idle(Stage.CALL, CROWD_SECONDS if is_crowd else 0.001)
        for _ in range(MAX_PUSHING):
            await self._places.acquire()  # what a crowd has under way ends too

    async def push_listed(self, readings: Mapping[Subject, Reading], slots: Slots) -> None:
        """Call ION for those of these customers who are due, as far as the slots reach."""
        claims = await self._claim(Stage.CALL, 0 if self._is_draining else slots.left, readings)
        with self._letting_go(claims):
            async with asyncio.TaskGroup() as tasks:
                for claim in claims:
                    await self._places.acquire()
                    push = partial(self._pusher.push, slots=slots, listed=readings[claim.subject])
                    task = tasks.create_task(self._guarded(claim, push))
                    task.add_done_callback(lambda _: self._places.release())

    async def push_unlisted(self, subjects: Collection[Subject]) -> None:
        """Call ION for some of these customers, with a look at each."""
        claims = await self._claim(Stage.CALL, 0 if self._is_draining else AT_ONCE, subjects)
        with self._letting_go(claims):
            for claim in claims:
                await self._guarded(claim, self._push_alone)

    @contextmanager
    def _letting_go(self, claims: Iterable[Claim]) -> Iterator[None]:
        """Whose turn has not come when a listing is cut short is left to the lease: it is renewed no more."""
        try:
            yield
        finally:
            for claim in claims:
                self._held.pop(claim.fence, None)

    async def renew(self) -> None:
        """Keep the leases of what is being worked on, for ever."""
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            if self._held:
                async with self._store.begin() as unit:
                    await unit.renew(list(self._held.values()), Millis(self._clock.now() + LEASE_MS))

    async def _push_alone(self, claim: Claim, turn: asyncio.Event | None = None) -> None:
        async with self._gate.slots(Lane.WRITE, CALLS) as slots:
            if turn is not None:
                self._waiting = None  # from here on it is let finish
                turn.set()
            await self._pusher.push(claim, slots)

    async def _claim_call(self) -> tuple[bool, list[Claim]]:
        """Is there a crowd, and the next to be pushed who is no part of it."""
        now, pages = self._clock.now(), self._facts.crowd_pages(self._clock.now())
        async with self._store.begin() as unit:
            waiting = len(await unit.crowd(now, enough_for_a_crowd(pages))) if pages else 0
            crowd = is_crowd(waiting, pages)
            return crowd, self._hold(await unit.claim(Stage.CALL, now, LEASE_MS, 1, unlinked=crowd))

    async def _claim(self, stage: Stage, limit: int, among: Collection[Subject] | None = None) -> list[Claim]:
        async with self._store.begin() as unit:
            claims = await unit.claim(stage, self._clock.now(), LEASE_MS, limit, among)
        return self._hold(claims)

    def _hold(self, claims: list[Claim]) -> list[Claim]:
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

    async def _idle(self, stage: Stage, least: float = 0.001) -> None:
        async with self._store.begin() as unit:
            due = await unit.next_due(stage)
        seconds = self._idle_seconds if due is None else (due - self._clock.now()) / 1000
        await self._wakes.wait(LOOP_OF[stage], min(self._idle_seconds, max(least, seconds)))
