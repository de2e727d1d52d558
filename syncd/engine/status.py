"""The state of things, as `status`, the probes and the gauges tell it: read from the store alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from syncd.core.budget import Ledger
from syncd.core.intent import IntentState
from syncd.core.licences import Roll
from syncd.core.order import OrderState
from syncd.core.values import Millis, Side
from syncd.core.verify import OPEN, Divergence
from syncd.core.work import FOR_GUARD, VERIFY, HoldKind, Stage, Sweep
from syncd.engine.ports import Store


@dataclass(frozen=True, slots=True)
class Status:
    at: Millis
    links: dict[str, int]
    pending: dict[str, int]
    """Customers to look at (``decide``), changes that the guard still counts (``guard``), and customers to be
    written to ION (``call``)."""
    oldest_pending_seconds: float
    commands_open: int
    oldest_command_seconds: float
    unknown_outcomes: int
    holds: dict[str, int]
    held_changes: int
    """Changes that wait for a person, because the guard holds or writes are paused."""
    held_reason: str
    is_paused: bool
    budget_limit: int
    budget_rate: float
    budget_used: int
    budget_closed_seconds: float
    last_sweep: Sweep | None
    complete_sweep_age_seconds: float | None
    token_age_seconds: float | None
    token_expires_seconds: float | None
    token_problem: str | None
    verified_age_seconds: float | None = None
    """Since everybody was last compared."""
    divergent: int = 0
    """Customers found to differ then, with nothing under way."""
    oldest_unverified_seconds: float | None = None
    """For how long one customer or another has not been proven equal."""
    offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    orders: dict[str, int] = field(default_factory=dict)
    """Of the CRM, by state."""
    licence_seats: dict[str, int] = field(default_factory=dict)
    """Active ones in the newest snapshot, by vendor."""
    licence_drift: dict[str, int] = field(default_factory=dict)
    """Seats ``added`` and ``removed`` in it."""
    snapshot_age_seconds: float | None = None


async def survey(store: Store, events_topic: str) -> Status:
    async with store.begin() as unit:
        now = await unit.time()
        links = await unit.count_links()
        pending = await unit.pending()
        intents = await unit.count_open_intents()
        holds = await unit.count_holds()
        ledger = await unit.ledger()
        sweeps, complete = await unit.recent_sweeps(1), await unit.last_complete()
        tokens = await unit.tokens()
        offsets = await unit.offsets(events_topic)
        guard = await unit.guard_state()
        verified = await unit.note(VERIFY)
        divergences = await unit.divergences()
        orders = await unit.count_orders()
        snapshot = next(iter(await unit.snapshots(1)), None)
    waiting = [
        found for (side, state), found in intents.items() if side is Side.CRM and state is not IntentState.UNKNOWN
    ]
    held, _ = pending.pop(FOR_GUARD, (0, now)) if guard.is_closed else (0, now)
    oldest = min((since for _, since in pending.values()), default=now)
    return Status(
        at=now,
        links={state.value: count for state, count in links.items()},
        pending={place: pending.get(place, (0, now))[0] for place in (*Stage, FOR_GUARD)},
        oldest_pending_seconds=max(0, now - oldest) / 1000,
        commands_open=sum(count for count, _ in waiting),
        oldest_command_seconds=max(0, now - min((at for _, at in waiting), default=now)) / 1000,
        unknown_outcomes=sum(count for (_, state), (count, _) in intents.items() if state is IntentState.UNKNOWN),
        holds={kind.value: holds.get(kind, 0) for kind in HoldKind},
        held_changes=held,
        held_reason=guard.reason if guard.held_since is not None else "",
        is_paused=guard.paused_since is not None,
        budget_limit=ledger.limit if ledger else 0,
        budget_rate=ledger.rate if ledger else 0.0,
        budget_used=_used(ledger, now),
        budget_closed_seconds=max(0, ledger.closed_until - now) / 1000 if ledger else 0.0,
        last_sweep=sweeps[0] if sweeps else None,
        complete_sweep_age_seconds=None if complete is None else (now - complete) / 1000,
        token_age_seconds=(now - tokens.obtained) / 1000 if tokens else None,
        token_expires_seconds=(tokens.refresh_expires - now) / 1000 if tokens else None,
        token_problem=tokens.refused if tokens else None,
        verified_age_seconds=(now - int(verified)) / 1000 if verified else None,
        divergent=sum(divergence.standing in OPEN for divergence in divergences),
        oldest_unverified_seconds=_unverified(now, verified, divergences),
        offsets={events_topic: offsets},
        orders={state.value: orders.get(state, 0) for state in OrderState},
        licence_seats=_by_vendor(snapshot.rolls) if snapshot else {},
        licence_drift={"added": snapshot.added, "removed": snapshot.removed} if snapshot else {},
        snapshot_age_seconds=(now - snapshot.at) / 1000 if snapshot else None,
    )


def _by_vendor(rolls: Sequence[Roll]) -> dict[str, int]:
    vendors = sorted({roll.vendor for roll in rolls})
    return {vendor: sum(roll.seats for roll in rolls if roll.vendor == vendor) for vendor in vendors}


def _unverified(now: Millis, verified: str | None, divergences: Sequence[Divergence]) -> float | None:
    if verified is None:
        return None
    return (now - min((divergence.equal_until for divergence in divergences), default=int(verified))) / 1000


def _used(ledger: Ledger | None, now: Millis) -> int:
    """Slots taken within the last minute; older ones are free, though nobody swept them yet."""
    if ledger is None:
        return 0
    return sum(1 for slot in ledger.slots if slot.ended is None or now - slot.ended < 60_000)
