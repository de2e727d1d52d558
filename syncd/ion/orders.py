"""Where ION takes the CRM's orders: how either dialect is asked, and what it shows of them.

The live dialect is told the CRM's id as ``referenceId``, so an order can be found by it. The seed dialect is told
nothing of the kind: there an order is known again by its customer, its items and when it was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any

from syncd.core.budget import Lane
from syncd.core.errors import OutcomeUnknown, Transient, UserError
from syncd.core.order import Item, Order, Seen
from syncd.core.policy import Dialect
from syncd.core.values import Millis
from syncd.engine.ports import Slots, Store
from syncd.ion.client import IonClient
from syncd.ion.live import instant, number, text
from syncd.ion.market import Market
from syncd.ion.operations import OPERATIONS, Request, request_of
from syncd.ion.rows import row_of


class IonSeller:
    def __init__(self, ion: IonClient, store: Store) -> None:
        self._ion = ion
        self._market = Market(ion, store)

    def slots(self, lane: Lane, count: int) -> AbstractAsyncContextManager[Slots]:
        return self._ion.slots(lane, count)

    async def is_told_references(self) -> bool:
        return await self._ion.dialect() is Dialect.LIVE

    async def placed(self, order: Order, since: Millis) -> list[Seen]:
        dialect, found = await self._ion.dialect(), list[Seen]()
        # The seed dialect lists those of everybody: whose does not say whose it is, may be it.
        named = {"customer": order.ion_customer or ""} if dialect is Dialect.LIVE else {}
        async for page in self._market.pages("orders list", named, is_whole=True):
            for raw in page:
                if text(row_of("orders", raw, dialect)["customer"]) not in (None, order.ion_customer):
                    continue
                is_named = raw.get("referenceId") == order.id
                if is_named or _may_be(raw, order, since, dialect):
                    found.append(_seen(raw, dialect, is_named=is_named))
        return found

    async def check(self, order: Order) -> None:
        await self._request(order)

    async def place(self, order: Order, slots: Slots, not_after: Millis) -> Seen:
        request = await self._request(order)
        answer = await self._ion.ask("orders create", request, slots, not_after)
        try:
            return _seen(answer, await self._ion.dialect(), is_named=True)
        except Transient as error:  # an answer without an id: it may have been made all the same
            raise OutcomeUnknown(error.sentence) from None

    async def _request(self, order: Order) -> Request:
        dialect = await self._ion.dialect()
        body = _live_body(order) if dialect is Dialect.LIVE else _seed_body(order)
        call = OPERATIONS["orders create"].call(dialect)
        return request_of(call, self._ion.account, {"customer": order.ion_customer or ""}, body)

    async def look(self, order: Order) -> Seen:
        named = {"order": order.ion_order or "", "customer": order.ion_customer or ""}
        return _seen(await self._market.do("orders get", named), await self._ion.dialect(), is_named=True)


def _live_body(order: Order) -> dict[str, Any]:
    return {"referenceId": order.id, "orderItems": [_live_item(item) for item in order.items]}


def _live_item(item: Item) -> dict[str, Any]:
    named = {"productId": item.product, "skuId": item.sku, "planId": item.plan}
    told: dict[str, Any] = {name: value for name, value in named.items() if value}
    told |= {"action": "CREATE" if item.subscription is None else "UPDATE", "quantity": item.quantity}
    if item.subscription is not None:
        told["resourceId"] = item.subscription
    if item.attributes:
        told["attributes"] = [{"name": name, "value": value} for name, value in item.attributes.items()]
    return told


def _seed_body(order: Order) -> dict[str, Any]:
    items = []
    for place, item in enumerate(order.items):
        if item.subscription is not None:
            raise UserError(f"items[{place}].subscription: the seed dialect of ION has no orders that change one")
        if item.attributes:
            raise UserError(f"items[{place}].attributes: the seed dialect of ION takes none with an order")
        items.append({"productId": item.product, "quantity": item.quantity})
    return {"items": items}


def _may_be(raw: Mapping[str, Any], order: Order, since: Millis, dialect: Dialect) -> bool:
    """Of the same items, and not made before then; where ION does not say, it may be."""
    rows = raw.get("orderItems" if dialect is Dialect.LIVE else "items")
    if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
        theirs = _sums((text(row.get("productId")) or "", number(row.get("quantity"))) for row in rows)
        if theirs is not None and theirs != _sums((item.product, Decimal(item.quantity)) for item in order.items):
            return False
    made = instant(raw.get("createTime" if dialect is Dialect.LIVE else "createdAt"))
    return made is None or made >= since


def _sums(items: Iterable[tuple[str, Decimal | None]]) -> dict[str, Decimal] | None:
    """By product, however it is spread over lines; ``None`` where a quantity can't be read."""
    found = dict[str, Decimal]()
    for product, quantity in items:
        if quantity is None:
            return None
        found[product] = found.get(product, Decimal(0)) + quantity
    return found


def _seen(raw: Any, dialect: Dialect, *, is_named: bool) -> Seen:
    row = row_of("orders", raw, dialect) if isinstance(raw, Mapping) else {}
    ion_order = text(row.get("id"))
    if ion_order is None:
        raise Transient("ION answered an order with something that has no id")
    return Seen(ion_order, text(row["status"]) or "", number(row["total"]), text(row["currency"]), is_named)
