"""The rows of licences: what ``SqlUnit`` keeps of subscriptions, their drift, snapshots and contracts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from syncd.core.catalogue import DISTRIBUTOR
from syncd.core.licences import Contract, Drift, DriftKind, Roll, Snapshot, Subscription
from syncd.core.values import Millis
from syncd.store import codec
from syncd.store.statements import NOTHING, among, ids_of, upsert
from syncd.store.tables import CONTRACTS, DRIFT, SNAPSHOTS, SUBSCRIPTIONS

COUNTS = ("ended", "subscriptions", "seats", "added", "removed", "calls")


class LicenceRows:
    """A part of the unit; its subscriptions are those of one distributor, of however many stand beside."""

    _connection: AsyncConnection
    _dialect: str

    async def subscriptions(self, ids: Collection[str]) -> dict[str, Subscription]:
        mine = _SUBSCRIPTIONS.where(among(self._dialect, SUBSCRIPTIONS.c.id)).with_for_update()
        return {one.id: one for one in await self._subscriptions(mine, ids_of(self._dialect, ids))}

    async def list_subscriptions(self, after: str, limit: int) -> list[Subscription]:
        return await self._subscriptions(_SUBSCRIPTIONS.where(SUBSCRIPTIONS.c.id > after).limit(limit))

    async def save_subscriptions(self, subscriptions: Collection[Subscription], now: Millis) -> None:
        rows = [
            {
                "distributor": DISTRIBUTOR,
                "id": one.id,
                "ion_customer": one.ion_customer,
                "body": codec.dumps(subscription_body(one)),
                "known_since": now,
                "changed_at": now,
            }
            for one in subscriptions
        ]
        if rows:
            await self._connection.execute(
                upsert(self._dialect, SUBSCRIPTIONS, tuple(rows[0]), ("known_since",)), rows
            )

    async def add_drift(self, drift: Sequence[Drift]) -> None:
        rows = [
            {
                "distributor": DISTRIBUTOR,
                "subscription": one.subscription.id,
                "at": one.at,
                "kind": one.kind.value,
                "was": one.was,
                "ion_customer": one.subscription.ion_customer,
                "body": codec.dumps(subscription_body(one.subscription)),
            }
            for one in drift
        ]
        if rows:
            await self._connection.execute(upsert(self._dialect, DRIFT, tuple(rows[0])), rows)

    async def drift_after(self, at: Millis) -> list[Drift]:
        query = select(DRIFT).where(DRIFT.c.at > at).order_by(DRIFT.c.at, DRIFT.c.subscription)
        return [
            Drift(
                Millis(row.at),
                DriftKind(row.kind),
                subscription_from(row.subscription, row.ion_customer, row.body),
                row.was,
            )
            for row in (await self._connection.execute(query)).all()
        ]

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        rolls = [[*roll[:5], _text(roll.cost), _text(roll.revenue), roll.currency] for roll in snapshot.rolls]
        counts = {name: getattr(snapshot, name) for name in COUNTS}
        row = {"at": snapshot.at, "body": codec.dumps({**counts, "rolls": rolls})}
        await self._connection.execute(upsert(self._dialect, SNAPSHOTS, tuple(row)), [row])

    async def snapshots(self, limit: int) -> list[Snapshot]:
        query = select(SNAPSHOTS).order_by(SNAPSHOTS.c.at.desc()).limit(limit)
        found = []
        for row in (await self._connection.execute(query)).all():
            body = codec.loads(row.body)
            rolls = tuple(
                Roll(vendor, sku, name, customers, seats, _decimal(cost), _decimal(revenue), currency)
                for vendor, sku, name, customers, seats, cost, revenue, currency in body["rolls"]
            )
            found.append(Snapshot(Millis(row.at), **{name: body[name] for name in COUNTS}, rolls=rolls))
        return found

    async def save_contracts(self, contracts: Collection[Contract]) -> None:
        """Those of no seats are forgotten; of one named twice the last counts."""
        latest = {(one.customer, one.sku): one for one in contracts}
        for customer, sku in latest:
            mine = (CONTRACTS.c.customer == customer) & (CONTRACTS.c.sku == sku)
            await self._connection.execute(delete(CONTRACTS).where(mine))
        rows = [one._asdict() for one in latest.values() if one.seats]
        if rows:
            await self._connection.execute(insert(CONTRACTS), rows)

    async def contracts(self) -> list[Contract]:
        query = select(CONTRACTS).order_by(CONTRACTS.c.customer, CONTRACTS.c.sku)
        rows = (await self._connection.execute(query)).all()
        return [Contract(row.customer, row.sku, row.seats) for row in rows]

    async def _subscriptions(self, query: Select[Any], parameters: Mapping[str, Any] = NOTHING) -> list[Subscription]:
        rows = (await self._connection.execute(query, parameters)).all()
        return [subscription_from(row.id, row.ion_customer, row.body) for row in rows]


_SUBSCRIPTIONS = select(SUBSCRIPTIONS).where(SUBSCRIPTIONS.c.distributor == DISTRIBUTOR).order_by(SUBSCRIPTIONS.c.id)


def subscription_body(one: Subscription) -> dict[str, Any]:
    return {
        "name": one.name,
        "vendor": one.vendor,
        "sku": one.sku,
        "seats": one.seats,
        "status": one.status,
        "price": _text(one.price),
        "cost": _text(one.cost),
        "currency": one.currency,
        "renews": one.renews,
        "is_listed": one.is_listed,
    }


def subscription_from(number: str, ion_customer: str, text: str) -> Subscription:
    body = codec.loads(text)
    prices = {name: _decimal(body[name]) for name in ("price", "cost")}
    return Subscription(id=number, ion_customer=ion_customer, **{**body, **prices})


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
