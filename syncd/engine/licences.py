"""Snapshots of licences: every subscription in ION, page by page, into the store and onto its topics.

listed page → what moved → kept, with the drift → published, in one transaction a page; then who is not listed any
more, and the whole rolled up. A snapshot that is broken off is none: what it has seen counts, and the next goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from typing import NamedTuple

import structlog

from syncd.core.batches import batched
from syncd.core.licences import (
    Contract,
    Drift,
    Gap,
    Moved,
    Snapshot,
    Subscription,
    balance,
    gaps,
    moved,
    roll_up,
    unlisted,
)
from syncd.core.listing import RECENT_SWEEPS, Listing, SweepOutcome, judge
from syncd.core.values import BEGINNING, Millis, Side
from syncd.core.work import DeadLetter, Message
from syncd.engine.ingest import Unusable
from syncd.engine.intake import RawEvent, dead_letter
from syncd.engine.ports import Store, Unit

AT_ONCE = 1_000
AS_RECENT = 10
"""Snapshots among which those are that a listing is measured by."""

log = structlog.get_logger()

ListedPage = tuple[Sequence[Subscription], Sequence[str]]
"""What a page holds that can be read, and the ids of all that it lists."""


class Describe(NamedTuple):
    """How the CRM is told."""

    subscription: Callable[[Subscription, str | None, Millis], Message]
    drift: Callable[[Drift, str | None], Message]


class Change(NamedTuple):
    """What moved in one snapshot, and since which one before."""

    snapshot: Snapshot
    before: Snapshot | None
    drift: list[Drift]
    gaps: list[Gap]
    """Empty where there are no contracts."""
    names: Mapping[str, str]
    """ION's id of a customer to the CRM's."""
    companies: Mapping[str, str]
    """ION's id of a customer to the company."""


class ContractIntake:
    """Takes in what the CRM has under contract: the last word on a customer and a SKU counts."""

    def __init__(self, read: Callable[[RawEvent], Contract | Unusable]) -> None:
        self._read = read

    async def take(self, unit: Unit, events: Sequence[RawEvent], now: Millis) -> list[DeadLetter]:
        told = [(event, self._read(event)) for event in events]
        await unit.save_contracts([one for _, one in told if isinstance(one, Contract)])
        return [dead_letter(e, bad.reason, bad.detail, now) for e, bad in told if isinstance(bad, Unusable)]


async def take_snapshot(
    store: Store,
    pages: AsyncIterable[ListedPage],
    describe: Describe,
    calls: Callable[[], int],
    told: Callable[[int], None],
) -> Snapshot:
    """``told`` how many are listed, after each page. Raises what the pages do."""
    async with store.begin() as unit:
        began, before = await unit.time(), await unit.snapshots(AS_RECENT)
    listed = set[str]()
    async for subscriptions, ids in pages:
        async with store.begin() as unit:
            now = await unit.time()
            known = await unit.subscriptions([one.id for one in subscriptions])
            await _keep(unit, moved(known, subscriptions, now, is_first=not before), describe, now)
        listed.update(ids)
        told(len(listed))
    sizes = [snapshot.subscriptions for snapshot in before if snapshot.subscriptions][:RECENT_SWEEPS]
    if listed and judge(Listing(len(listed), True, False, None), sizes) is SweepOutcome.COMPLETE:
        if before:
            await _note_unlisted(store, frozenset(listed), describe)
    elif sizes:  # so many less at once are rather ION's fault
        log.warning("licences_shrunk", listed=len(listed), before=max(sizes))
    everybody = [one async for one in _all(store)]
    rolls = roll_up(everybody)
    async with store.begin() as unit:
        moves = balance(await unit.drift_after(_end_of(before)))
        seats, ended = sum(roll.seats for roll in rolls), await unit.time()
        snapshot = Snapshot(began, ended, len(listed), seats, *moves, calls(), rolls)
        await unit.save_snapshot(snapshot)
    return snapshot


async def _note_unlisted(store: Store, listed: frozenset[str], describe: Describe) -> None:
    after = ""
    while True:
        async with store.begin() as unit:
            some = await unit.list_subscriptions(after, AT_ONCE)
            now = await unit.time()
            await _keep(unit, unlisted(some, listed, now), describe, now)
        if len(some) < AT_ONCE:
            return
        after = some[-1].id


async def _keep(unit: Unit, found: Moved, describe: Describe, now: Millis) -> None:
    if not found.changed:
        return
    links = await unit.links(Side.ION, {one.ion_customer for one in found.changed})
    crm_ids = {ion_id: link.crm_id for ion_id, link in links.items()}
    await unit.save_subscriptions(found.changed, now)
    await unit.add_drift(found.drift)
    messages = [describe.subscription(one, crm_ids.get(one.ion_customer), now) for one in found.changed]
    messages += [describe.drift(one, crm_ids.get(one.subscription.ion_customer)) for one in found.drift]
    await unit.post(messages)


async def _all(store: Store) -> AsyncIterable[Subscription]:
    after = ""
    while True:
        async with store.begin() as unit:
            some = await unit.list_subscriptions(after, AT_ONCE)
        for one in some:
            yield one
        if len(some) < AT_ONCE:
            return
        after = some[-1].id


async def last_change(store: Store, since: Millis | None = None) -> Change | None:
    """What moved in the newest snapshot, or since a time; ``None``: there is no snapshot yet."""
    async with store.begin() as unit:
        snapshots = await unit.snapshots(2)
        if not snapshots:
            return None
        newest, before = snapshots[0], snapshots[1] if len(snapshots) > 1 else None
        drift = await unit.drift_after(_end_of(snapshots[1:]) if since is None else Millis(since - 1))
        contracts = await unit.contracts()
    found = await _gaps(store, contracts) if contracts else []
    ids = {one.subscription.ion_customer for one in drift} | {gap.ion_customer for gap in found if gap.ion_customer}
    async with store.begin() as unit:
        links = await unit.links(Side.ION, ids)
        records = await unit.peek(Side.ION, ids)
    companies = {ion_id: str(record.value("company") or "") for ion_id, record in records.items()}
    names = {ion_id: str(link.crm_id) for ion_id, link in links.items()}
    return Change(newest, before, drift, found, names, companies)


def _end_of(before: Sequence[Snapshot]) -> Millis:
    """Since then seats have moved: also what a listing that broke off has found."""
    return before[0].ended if before else BEGINNING


async def _gaps(store: Store, contracts: Sequence[Contract]) -> list[Gap]:
    everybody = [one async for one in _all(store)]
    crm_ids = dict[str, str]()
    ids = sorted({one.ion_customer for one in everybody})
    for some in batched(ids, AT_ONCE):
        async with store.begin() as unit:
            links = await unit.links(Side.ION, some)
        crm_ids |= {ion_id: str(link.crm_id) for ion_id, link in links.items()}
    return gaps(everybody, crm_ids, contracts)
