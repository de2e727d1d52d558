"""The budget of calls: one ledger for all replicas, kept in the store (S11).

Rules
1. A slot is taken before a call and is free again 60 s after that call has *ended*. So in any
   sliding 60 s the server receives at most ``limit`` calls, whatever the latency.
2. A slot whose owner died counts as ended when its call can no longer be under way.
3. Each lane has a minimum share. A lane may borrow what others leave idle, never what a lane in which
   somebody waits has a right to. The operator's lane, which is not customer sync's, borrows only while
   nobody waits in another.
4. The last two slots are spare: only who goes first, a newcomer, takes them, whatever lanes have a right to. So he
   waits for nobody's minute to end.
5. 429 stops everyone until ``Retry-After``, and halves the rate; the rate then recovers by adding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from syncd.core.values import Millis

WINDOW_MS = 60_000
MARGIN_MS = 50
"""Above the window, for the rounding of clocks."""
DEMAND_MS = 7_000
"""How long a lane in which somebody had to wait keeps its claim: longer than it takes until who waits asks again, and
than who has waited is busy with what it was given before it asks for more."""
SOON_MS = 3_000
"""So long it is worth while to wait for one slot more."""
AHEAD_MS = 1_000
"""A page takes about so long: slots that come free meanwhile are there in time."""
SPARE = 2
"""A look and a write; less where that is more than a fifteenth of the rate."""
RECOVERY_MS = 10_000
"""After a throttle the rate grows by one call a minute in each such span."""


class Lane(StrEnum):
    OPERATOR = "operator"
    WRITE = "write"
    VERIFY = "verify"
    SWEEP = "sweep"
    RECOVERY = "recovery"


SHARES: Mapping[Lane, float] = {
    Lane.OPERATOR: 0.1,
    Lane.WRITE: 0.4,
    Lane.VERIFY: 0.1,
    Lane.SWEEP: 0.3,
    Lane.RECOVERY: 0.1,
}


class Slot(NamedTuple):
    id: int
    lane: Lane
    taken: Millis
    ended: Millis | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    limit: int
    """Calls a minute, the operator's hard ceiling."""
    call_ms: int
    """The longest that one call can take; a slot older than that without an end was orphaned."""
    rate: float
    """Calls a minute at present; below ``limit`` after a throttle."""
    slots: tuple[Slot, ...] = ()
    next_id: int = 1
    closed_until: Millis = Millis(0)
    """No call before this moment: ``Retry-After``."""
    recovering_since: Millis = Millis(0)
    demand: Mapping[Lane, Millis] = field(default_factory=dict)
    """When somebody was last known to wait in each lane."""

    def used(self, lane: Lane | None = None) -> int:
        return len(self.slots) if lane is None else sum(slot.lane is lane for slot in self.slots)

    def capacity(self, *, goes_first: bool) -> int:
        """So many slots may be taken in all; the spare ones only by who goes first."""
        return int(self.rate) - (0 if goes_first else min(SPARE, int(self.rate) // 15))


@dataclass(frozen=True, slots=True)
class Granted:
    ledger: Ledger
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    ledger: Ledger
    wait_ms: int
    """How long until asking again can have another answer."""


def new_ledger(limit: int, call_ms: int) -> Ledger:
    return Ledger(limit, call_ms, float(limit))


def take(ledger: Ledger, lane: Lane, count: int, now: Millis, *, goes_first: bool = False) -> Granted | Refused:
    """Ask for ``count`` slots at once, all or none."""
    ledger = _aged(ledger, now)
    count = min(count, ledger.limit)
    if now < ledger.closed_until:
        return _refused(ledger, lane, now, ledger.closed_until - now)
    free = max(ledger.capacity(goes_first=goes_first), count) - len(ledger.slots)
    reserved = _reserved(ledger, lane, now)
    mine = SHARES[lane] * ledger.rate
    within_share = ledger.used(lane) + count <= max(1.0, mine)  # a share below one call would be none
    may_borrow = lane is not Lane.OPERATOR or not (ledger.demand.keys() - {lane})
    if free >= count and (goes_first or within_share or (may_borrow and free - count >= reserved)):
        taken = tuple(Slot(ledger.next_id + n, lane, now) for n in range(count))
        grown = replace(ledger, slots=ledger.slots + taken, next_id=ledger.next_id + count)
        return Granted(grown, tuple(slot.id for slot in taken))
    return _refused(ledger, lane, now, _wait_ms(ledger, count - free, now))


def wait_ms(ledger: Ledger, count: int, now: Millis) -> int:
    """How long until it is worth while to begin what needs ``count`` slots one by one; zero: now.

    That is when so many are free; or two at least, and the others will be in a moment, or the next
    will not come soon.
    """
    ledger = _aged(ledger, now)
    capacity = ledger.capacity(goes_first=False)
    count = min(count, capacity)
    free, at = capacity - len(ledger.slots), Millis(max(now, ledger.closed_until))
    times = sorted(_free_at(ledger, slot) for slot in ledger.slots)
    last = times[count - free - 1] if free < count else at
    for frees in times:
        if free >= count or (free >= 2 and (last <= at + AHEAD_MS or frees > at + SOON_MS)):
            break
        free, at = free + 1, Millis(max(at, frees))
    return at - now


def end(ledger: Ledger, slot_id: int, now: Millis) -> Ledger:
    """The slot's call has ended, with whatever result."""
    slots = tuple(slot._replace(ended=now) if slot.id == slot_id else slot for slot in ledger.slots)
    return replace(ledger, slots=slots)


def give_back(ledger: Ledger, slot_id: int) -> Ledger:
    """The slot was never used: no byte was sent for it."""
    return replace(ledger, slots=tuple(slot for slot in ledger.slots if slot.id != slot_id))


def throttle(ledger: Ledger, wait_ms: int, now: Millis) -> Ledger:
    """The server said 429: everyone waits, and the rate is halved; once, however many were under way by then."""
    ledger = _aged(ledger, now)
    closed = Millis(max(ledger.closed_until, now + wait_ms))
    rate = ledger.rate if now < ledger.closed_until else max(1.0, ledger.rate / 2)
    return replace(ledger, rate=rate, closed_until=closed, recovering_since=closed)


def with_limits(ledger: Ledger, limit: int, call_ms: int) -> Ledger:
    """The operator changed the ceiling: it holds from now on."""
    if (ledger.limit, ledger.call_ms) == (limit, call_ms):
        return ledger
    rate = float(limit) if ledger.rate >= ledger.limit else min(ledger.rate, limit)
    return replace(ledger, limit=limit, call_ms=call_ms, rate=rate)


def _free_at(ledger: Ledger, slot: Slot) -> int:
    ended = slot.ended if slot.ended is not None else slot.taken + ledger.call_ms
    return ended + WINDOW_MS + MARGIN_MS


def _aged(ledger: Ledger, now: Millis) -> Ledger:
    slots = tuple(slot for slot in ledger.slots if _free_at(ledger, slot) > now)
    rate, since = ledger.rate, ledger.recovering_since
    if rate < ledger.limit and now > since:
        steps = (now - since) // RECOVERY_MS
        rate, since = min(float(ledger.limit), rate + steps), Millis(since + steps * RECOVERY_MS)
    demand = {lane: at for lane, at in ledger.demand.items() if now - at < DEMAND_MS}
    return replace(ledger, slots=slots, rate=rate, recovering_since=since, demand=demand)


def _reserved(ledger: Ledger, asking: Lane, now: Millis) -> float:
    """Slots that other waiting lanes still have a right to."""
    return sum(
        max(0.0, SHARES[lane] * ledger.rate - ledger.used(lane)) for lane in ledger.demand if lane is not asking
    )


def _refused(ledger: Ledger, lane: Lane, now: Millis, wait_ms: int) -> Refused:
    demand = {**ledger.demand, lane: now}
    return Refused(replace(ledger, demand=demand), max(1, wait_ms))


def _wait_ms(ledger: Ledger, missing: int, now: Millis) -> int:
    """Until ``missing`` slots have come free, or, when a reservation is in the way, has lapsed."""
    if missing <= 0:
        return DEMAND_MS // 5
    times = sorted(_free_at(ledger, slot) for slot in ledger.slots)
    return (times[min(missing, len(times)) - 1] - now) if times else DEMAND_MS
