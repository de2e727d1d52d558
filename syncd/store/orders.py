"""The rows of orders from the CRM: what ``SqlUnit`` keeps of them. What they hold is sealed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from syncd.core.order import Item, Order, OrderState
from syncd.core.values import Millis
from syncd.engine.ports import Loop
from syncd.store import codec
from syncd.store.seal import Seal
from syncd.store.statements import upsert
from syncd.store.tables import ORDERS


class OrderRows:
    """A part of the unit."""

    _connection: AsyncConnection
    _dialect: str
    _seal: Seal
    rung: set[Loop]

    async def order(self, order_id: str) -> Order | None:
        rows = await self._orders(select(ORDERS).where(ORDERS.c.id == order_id).with_for_update())
        return rows[0] if rows else None

    async def save_order(self, order: Order) -> None:
        row = {
            "id": order.id,
            "customer": order.customer,
            "state": order.state.value,
            "at": order.at,
            "changed_at": order.changed_at,
            "due": order.due,
            "ion_customer": order.ion_customer,
            "ion_order": order.ion_order,
            "body": self._seal.seal(codec.dumps(order_body(order))),
        }
        await self._connection.execute(upsert(self._dialect, ORDERS, tuple(row)), [row])
        if order.due is not None:
            self.rung.add(Loop.ORDERS)

    async def order_due(self, now: Millis) -> Order | None:
        is_placed = case((ORDERS.c.state == OrderState.PLACED.value, 1), else_=0)
        query = select(ORDERS).where(ORDERS.c.due <= now).order_by(is_placed, ORDERS.c.due, ORDERS.c.id).limit(1)
        return next(iter(await self._orders(query)), None)

    async def next_order_due(self) -> Millis | None:
        due = (await self._connection.execute(select(func.min(ORDERS.c.due)))).scalar_one()
        return None if due is None else Millis(due)

    async def list_orders(self, state: OrderState | None, after: str, limit: int) -> list[Order]:
        query = select(ORDERS).where(ORDERS.c.id > after).order_by(ORDERS.c.id).limit(limit)
        return await self._orders(query if state is None else query.where(ORDERS.c.state == state.value))

    async def orders_of(self, customer: str) -> list[Order]:
        return await self._orders(select(ORDERS).where(ORDERS.c.customer == customer).order_by(ORDERS.c.id))

    async def count_orders(self) -> dict[OrderState, int]:
        query = select(ORDERS.c.state, func.count()).group_by(ORDERS.c.state)
        return {OrderState(state): count for state, count in (await self._connection.execute(query)).all()}

    async def ion_orders(self, ion_customer: str) -> set[str]:
        mine = (ORDERS.c.ion_customer == ion_customer) & ORDERS.c.ion_order.is_not(None)
        return set((await self._connection.execute(select(ORDERS.c.ion_order).where(mine))).scalars())

    async def _orders(self, query: Any) -> list[Order]:
        rows = (await self._connection.execute(query)).all()
        return [order_from_row(row, self._seal.open(row.body)) for row in rows]


def order_body(order: Order) -> dict[str, Any]:
    return {
        "items": [
            [item.product, item.sku, item.plan, item.quantity, item.subscription, dict(item.attributes)]
            for item in order.items
        ],
        "reason": order.reason,
        "released_by": order.released_by,
        "value": None if order.value is None else format(order.value, "f"),
        "currency": order.currency,
        "tries": order.tries,
        "sent_at": order.sent_at,
        "ion_status": order.ion_status,
        "not_it": list(order.not_it),
    }


def order_from_row(row: Any, text: str) -> Order:
    body = codec.loads(text)
    return Order(
        id=row.id,
        customer=row.customer,
        items=tuple(Item(*item) for item in body["items"]),
        state=OrderState(row.state),
        at=Millis(row.at),
        changed_at=Millis(row.changed_at),
        due=None if row.due is None else Millis(row.due),
        reason=body["reason"],
        released_by=body["released_by"],
        value=None if body["value"] is None else Decimal(body["value"]),
        currency=body["currency"],
        tries=body["tries"],
        sent_at=None if body["sent_at"] is None else Millis(body["sent_at"]),
        ion_customer=row.ion_customer,
        ion_order=row.ion_order,
        ion_status=body["ion_status"],
        not_it=tuple(body["not_it"]),
    )
