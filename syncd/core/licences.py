"""Licences: what customers are subscribed to, how seats moved between two snapshots, and what that is worth. Pure.

    known            listed           drift
    ───────────────  ───────────────  ──────────────────────────────────────────────
    nothing          a subscription   new, with its seats
    other seats      other seats      seats, was and is
    active           not active       seats: those of one that is not active count as none
    listed           not listed       not listed: nothing is deleted, and it comes back when it is listed again

Rows carry the distributor that they come from, so that others' can stand beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from syncd.core.values import Millis


@dataclass(frozen=True, slots=True)
class Subscription:
    id: str
    ion_customer: str
    name: str | None
    vendor: str | None
    sku: str
    """The SKU, or where the dialect names none, the product's name."""
    seats: int
    status: str
    """In small letters."""
    price: Decimal | None = None
    """What one seat is sold for, for one billing cycle."""
    cost: Decimal | None = None
    """What one seat costs the reseller, for one billing cycle."""
    currency: str | None = None
    renews: str | None = None
    is_listed: bool = True

    @property
    def active_seats(self) -> int:
        return self.seats if self.is_listed and self.status == "active" else 0


class DriftKind(StrEnum):
    NEW = "new"
    SEATS = "seats"
    NOT_LISTED = "not-listed"


class Drift(NamedTuple):
    """How one subscription's active seats moved, found at ``at``."""

    at: Millis
    kind: DriftKind
    subscription: Subscription
    was: int

    @property
    def seats(self) -> int:
        return self.subscription.active_seats


class Roll(NamedTuple):
    """One SKU over all customers. Money is for one billing cycle; ``None`` where one price is not known."""

    vendor: str
    sku: str
    name: str
    customers: int
    seats: int
    cost: Decimal | None
    revenue: Decimal | None
    currency: str | None

    @property
    def margin(self) -> Decimal | None:
        return None if self.cost is None or self.revenue is None else self.revenue - self.cost


@dataclass(frozen=True, slots=True)
class Snapshot:
    at: Millis
    """When it began."""
    ended: Millis
    """What is found to have moved after that belongs to the next one."""
    subscriptions: int
    seats: int
    added: int
    """So many active seats more than in the snapshot before, where there are more."""
    removed: int
    calls: int
    rolls: tuple[Roll, ...]
    """By vendor and SKU."""


class Contract(NamedTuple):
    """So many seats of a SKU are what the CRM has under contract with a customer; by the CRM's id."""

    customer: str
    sku: str
    seats: int


class Gap(NamedTuple):
    """Seats in ION and seats under contract that are not the same."""

    customer: str | None
    """The CRM's id; ``None``: nobody knows whose the subscription is."""
    ion_customer: str | None
    sku: str
    seats: int
    contracted: int

    @property
    def uncontracted(self) -> int:
        return max(0, self.seats - self.contracted)


class Moved(NamedTuple):
    """What a page says that was not known."""

    changed: list[Subscription]
    drift: list[Drift]


def moved(known: Mapping[str, Subscription], listed: Sequence[Subscription], now: Millis, *, is_first: bool) -> Moved:
    """``is_first``: there is no snapshot before, so nothing has moved yet."""
    latest = {one.id: one for one in listed}
    changed = [one for one in latest.values() if known.get(one.id) != one]
    return Moved(changed, [] if is_first else [d for one in changed if (d := _drift(known.get(one.id), one, now))])


def _drift(before: Subscription | None, after: Subscription, now: Millis) -> Drift | None:
    if before is None:
        return Drift(now, DriftKind.NEW, after, 0)
    if before.active_seats == after.active_seats:
        return None
    return Drift(now, DriftKind.SEATS, after, before.active_seats)


def unlisted(known: Iterable[Subscription], listed: frozenset[str], now: Millis) -> Moved:
    """Of those that are known, who is not in a listing that came whole."""
    gone = [one for one in known if one.is_listed and one.id not in listed]
    changed = [replace(one, is_listed=False) for one in gone]
    return Moved(
        changed,
        [
            Drift(now, DriftKind.NOT_LISTED, after, before.active_seats)
            for before, after in zip(gone, changed, strict=True)
            if before.active_seats
        ],
    )


def roll_up(subscriptions: Iterable[Subscription]) -> tuple[Roll, ...]:
    """Active seats by vendor, SKU and currency."""
    groups = dict[tuple[str, str, str], list[Subscription]]()
    for one in subscriptions:
        if one.active_seats:
            groups.setdefault((one.vendor or "", one.sku, one.currency or ""), []).append(one)
    return tuple(
        Roll(
            vendor,
            sku,
            next((one.name for one in group if one.name), sku),
            len({one.ion_customer for one in group}),
            sum(one.active_seats for one in group),
            _sum(group, [one.cost for one in group]),
            _sum(group, [one.price for one in group]),
            currency or None,
        )
        for (vendor, sku, currency), group in sorted(
            groups.items(), key=lambda found: (*found[0][:2], found[0][2] or "")
        )
    )


def _sum(group: Sequence[Subscription], prices: Sequence[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for one, price in zip(group, prices, strict=True):
        if price is None:
            return None
        total += price * one.active_seats
    return total


def balance(drift: Iterable[Drift]) -> tuple[int, int]:
    """Seats that came and seats that went."""
    moves = [one.seats - one.was for one in drift]
    return sum(move for move in moves if move > 0), -sum(move for move in moves if move < 0)


def gaps(
    subscriptions: Iterable[Subscription], crm_ids: Mapping[str, str], contracts: Iterable[Contract]
) -> list[Gap]:
    """Where seats are not what the contracts say; ``crm_ids``: by ION's id of the customer."""
    held, whose = dict[tuple[str, str], int](), dict[str, str]()
    for one in subscriptions:
        crm_id = crm_ids.get(one.ion_customer)
        owner = f"crm:{crm_id}" if crm_id is not None else f"ion:{one.ion_customer}"
        whose[owner] = one.ion_customer
        held[owner, one.sku] = held.get((owner, one.sku), 0) + one.active_seats
    agreed = {(f"crm:{contract.customer}", contract.sku): contract.seats for contract in contracts}
    return [
        Gap(
            owner.removeprefix("crm:") if owner.startswith("crm:") else None,
            whose.get(owner),
            sku,
            held.get((owner, sku), 0),
            agreed.get((owner, sku), 0),
        )
        for owner, sku in sorted(held.keys() | agreed.keys())
        if held.get((owner, sku), 0) != agreed.get((owner, sku), 0)
    ]
