"""The only door to ION: a call is made with a slot of the shared budget in hand, or not at all (S11).

The ledger lives in the store, so all replicas take from one budget; if the store is lost, taking a
slot fails and no call is made. Waiting is by computed wake-up: nobody polls. While ION does not
answer at all the door is shut, and opens for one probe at a time (S14).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from syncd.core.budget import (
    Granted,
    Lane,
    Ledger,
    Refused,
    end,
    give_back,
    new_ledger,
    take,
    throttle,
    wait_ms,
    with_limits,
)
from syncd.core.circuit import Circuit
from syncd.core.errors import NoSlotInTime
from syncd.core.values import Millis
from syncd.engine.ports import Clock, Store

MAX_WAIT_SECONDS = 5.0
"""The longest sleep between two questions: another replica may have given slots back."""
THROTTLE_MS, LEAST_THROTTLE_MS = 10_000, 1_000
"""How long everyone waits after a 429 that names no time; and at least, until what was under way is answered too."""


class BudgetGate:
    def __init__(self, store: Store, clock: Clock, calls_per_minute: int, call_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._limit = calls_per_minute
        self._call_ms = call_ms
        self._turn: dict[tuple[Lane, int, bool, bool], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._first = Counter[Lane]()
        self._freed = asyncio.Event()
        self.circuit = Circuit()

    @asynccontextmanager
    async def slots(
        self, lane: Lane, count: int = 1, not_after: Millis | None = None, *, goes_first: bool = False
    ) -> AsyncIterator[SlotsInHand]:
        """Wait for ``count`` slots, all at once; what is not used goes back untouched.

        ``goes_first``: before whoever waits in the same lane, who would take each slot before there are ``count``;
        and of the spare ones.
        """
        taken = await self.take(lane, count, not_after, goes_first=goes_first)
        hand = SlotsInHand(self, lane, *taken, goes_first=goes_first)
        try:
            yield hand
        finally:
            await asyncio.shield(hand.give_back())

    async def take(
        self, lane: Lane, count: int, not_after: Millis | None = None, *, goes_first: bool = False
    ) -> tuple[list[int], Millis]:
        """The slots, and when the ledger says that they were taken."""
        self._first[lane] += goes_first
        try:
            return await self._take(lane, count, not_after, goes_first)
        finally:
            self._first[lane] -= goes_first
            if goes_first:
                self._freed.set()

    async def _take(
        self, lane: Lane, count: int, not_after: Millis | None, goes_first: bool
    ) -> tuple[list[int], Millis]:
        # First come, first served within a lane; who can't wait for long has a queue of its own, and who needs more.
        async with self._turn[lane, count, not_after is not None, goes_first]:
            while True:
                if not_after is not None and self._clock.now() > not_after:
                    raise NoSlotInTime
                self._freed.clear()
                if self._first[lane] and not goes_first:
                    await self._wait(MAX_WAIT_SECONDS)
                    continue
                if wait_ms := self.circuit.wait_ms(self._clock.now()):
                    await self._wait(wait_ms / 1000)
                    continue
                now = self._clock.now()
                answer = await self._ask(lane, count, now, goes_first)
                if isinstance(answer, Granted):
                    self.circuit = self.circuit.probing(self._clock.now())
                    return list(answer.slots), now
                await self._wait(min(MAX_WAIT_SECONDS, answer.wait_ms / 1000))

    async def wait_ms(self, count: int) -> int:
        """How long until it is worth while to begin what needs so many slots, as things stand."""
        now = self._clock.now()
        return max(self.circuit.wait_ms(now), wait_ms(await self.ledger(), count, now))

    def is_lapsed(self, taken: Millis) -> bool:
        """A call under this slot might not end while the slot still counts: this process was stopped for long."""
        return self._clock.now() - taken > self._call_ms // 2

    async def ended(self, slot: int) -> None:
        await self._change(lambda ledger: end(ledger, slot, self._clock.now()))

    async def unused(self, slot: int) -> None:
        await self._change(lambda ledger: give_back(ledger, slot))
        self._freed.set()

    async def throttled(self, wait_ms: int | None) -> None:
        """The server said 429: close the door for everyone."""
        wait = THROTTLE_MS if wait_ms is None else max(LEAST_THROTTLE_MS, wait_ms)
        await self._change(lambda ledger: throttle(ledger, wait, self._clock.now()))

    def answered(self, status: int) -> None:
        """ION answered. A gateway that says it can't reach ION counts as nobody there."""
        if status in (502, 503, 504):
            self.unavailable()
        elif self.circuit.failures:
            self.circuit = Circuit()
            self._freed.set()

    def unavailable(self) -> None:
        """Nobody answered."""
        self.circuit = self.circuit.failed(self._clock.now())

    async def ledger(self) -> Ledger:
        async with self._store.begin() as unit:
            return await unit.ledger() or new_ledger(self._limit, self._call_ms)

    async def _ask(self, lane: Lane, count: int, now: Millis, goes_first: bool) -> Granted | Refused:
        async with self._store.begin() as unit:
            known = await unit.ledger() or new_ledger(self._limit, self._call_ms)
            ledger = with_limits(known, self._limit, self._call_ms)
            answer = take(ledger, lane, count, now, goes_first=goes_first)
            await unit.save_ledger(answer.ledger)
        return answer

    async def _change(self, change: Callable[[Ledger], Ledger]) -> None:
        async with self._store.begin() as unit:
            known = await unit.ledger()
            if known is not None:
                await unit.save_ledger(change(known))

    async def _wait(self, seconds: float) -> None:
        freed = asyncio.ensure_future(self._freed.wait())
        asleep = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({freed, asleep}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in (freed, asleep):
                future.cancel()
            await asyncio.gather(freed, asleep, return_exceptions=True)


class SlotsInHand:
    """Slots already taken. A call beyond them waits for one more."""

    def __init__(self, gate: BudgetGate, lane: Lane, slots: list[int], taken: Millis, *, goes_first: bool) -> None:
        self._gate = gate
        self.lane = lane
        self._slots = slots
        self._taken = taken
        self._goes_first = goes_first

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Spend one slot; it counts until a minute after this block has ended."""
        while not self._slots or self._gate.is_lapsed(self._taken):
            await self.give_back()
            self._slots, self._taken = await self._gate.take(self.lane, 1, goes_first=self._goes_first)
        slot = self._slots.pop(0)
        try:
            yield
        finally:
            await asyncio.shield(self._gate.ended(slot))

    async def give_back(self) -> None:
        while self._slots:
            await self._gate.unused(self._slots.pop())
