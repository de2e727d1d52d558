"""Orders on their topics: what the CRM orders, and what it is told of it. Pure.

A record is JSON, plain or as the data of a CloudEvent:

    {"id": "SO-1001", "customer": "C7",
     "items": [{"product": "901", "sku": "CFQ7TTC0LCHC", "plan": "P1M", "quantity": 5}]}

An item may name a ``subscription`` instead of what is new: its seats become the quantity. What can't be used is
named by its field; where it can be told which order it was, the CRM is told too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from syncd.core.catalogue import money
from syncd.core.order import Item, Order, OrderState
from syncd.core.values import BEGINNING, Millis
from syncd.core.work import Message
from syncd.crm.commands import CONTENT_TYPE, SOURCE, rfc3339
from syncd.crm.documents import MAX_ID, document_of, id_of, number_of
from syncd.crm.events import Bad
from syncd.engine.intake import RawEvent
from syncd.engine.orders import BadOrder

MAX_ITEMS, MAX_QUANTITY = 500, 1_000_000
AHEAD_MS = 60_000
"""Clocks may be apart by so much."""
KNOWN = {"id", "customer", "items"}
IDS_OF_ITEM = ("product", "sku", "plan", "subscription")
KNOWN_OF_ITEM = {*IDS_OF_ITEM, "quantity", "attributes"}


def read_order(event: RawEvent, now: Millis) -> Order | BadOrder:
    order_id, told = None, dict[str, Any]()
    try:
        if not event.value:
            raise Bad("wrong-type", "an order can't be taken back by an empty record: cancel it in ION")
        told = dict(document_of(event.value, "the order"))
        order_id = id_of(told.get("id"), "the order's id")
        # Of no time, or of one that has not come yet, nobody can tell whether it is old.
        at = event.timestamp if 0 < event.timestamp <= now + AHEAD_MS else BEGINNING
        return _order(order_id, told, Millis(min(at, now)), now)
    except Bad as bad:
        detail = bad.detail if order_id is None else f"order {order_id}: {bad.detail}"
        return BadOrder(order_id, detail, _kept(told))
    except Exception as error:  # whatever else it is: one record must not hold up a partition
        return BadOrder(order_id, f"the order could not be read: {type(error).__name__}", None)


def _order(order_id: str, told: Mapping[str, Any], at: Millis, now: Millis) -> Order:
    _only(KNOWN, told, "an order")
    raws = told.get("items")
    if not isinstance(raws, list) or not 1 <= len(raws) <= MAX_ITEMS:
        raise Bad("wrong-type", f"items must be a list of 1 to {MAX_ITEMS} items")
    items = tuple(_item(raw, f"items[{number}]") for number, raw in enumerate(raws))
    return Order(order_id, id_of(told.get("customer"), "customer"), items, OrderState.WAITING, at, now, now)


def _kept(told: Mapping[str, Any]) -> bytes | None:
    """What may be kept of a record that can't be used: what is known to be no password."""
    if not told:
        return None
    raws = told.get("items")
    rows = [row for row in raws if isinstance(row, Mapping)] if isinstance(raws, list) else []
    items = [_short(row, (*IDS_OF_ITEM, "quantity")) for row in rows]
    return orjson.dumps({**_short(told, ("id", "customer")), "items": items})


def _short(told: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Of these names the numbers, and the texts that are short enough to be ids."""
    values = {name: told.get(name) for name in names}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_ID)
    }


def order_message(topic: str, order: Order, now: Millis) -> Message:
    """What has become of it, keyed by the CRM's id. Of its items nothing is repeated."""
    data = {
        "id": order.id,
        "customer": order.customer,
        "state": order.state.value,
        "reason": order.reason or None,
        "ion_customer": order.ion_customer,
        "ion_order": order.ion_order,
        "ion_status": order.ion_status,
        "value": None if order.value is None else money(order.value),
        "currency": order.currency,
    }
    return _event(topic, order.id, order.state, data, now)


def refusal_message(topic: str, order_id: str, reason: str, now: Millis) -> Message:
    """A record that can't be used was this order."""
    state = OrderState.REFUSED
    return _event(topic, order_id, state, {"id": order_id, "state": state.value, "reason": reason}, now)


def _event(topic: str, order_id: str, state: OrderState, data: Mapping[str, object], now: Millis) -> Message:
    event = {
        "specversion": "1.0",
        "id": f"{order_id}/{state}/{now}",
        "source": SOURCE,
        "type": f"syncd.order.{state}",
        "subject": order_id,
        "time": rfc3339(now),
        "datacontenttype": "application/json",
        "data": data,
    }
    return Message(topic, order_id.encode(), orjson.dumps(event), CONTENT_TYPE)


def _only(known: Collection[str], told: Mapping[str, Any], what: str) -> None:
    unknown = sorted(told.keys() - set(known))
    if unknown:
        raise Bad("wrong-type", f"{what} has no {unknown[0]}, only {', '.join(sorted(known))}"[:300])


def _item(raw: object, at: str) -> Item:
    if not isinstance(raw, Mapping):
        raise Bad("wrong-type", f"{at} must be an object")
    _only(KNOWN_OF_ITEM, raw, f"{at}: an item")
    quantity = number_of(raw.get("quantity"), f"{at}.quantity", 1, MAX_QUANTITY)
    attributes = raw.get("attributes") or {}
    if not isinstance(attributes, Mapping) or not all(isinstance(text, str) for text in attributes.values()):
        raise Bad("wrong-type", f"{at}.attributes must be an object of texts")
    ids = {name: id_of(raw[name], f"{at}.{name}") for name in IDS_OF_ITEM if raw.get(name) is not None}
    if not ids.keys() & {"product", "subscription"}:
        raise Bad("wrong-type", f"{at} names neither a product nor a subscription")
    product, sku, plan = (ids.get(name, "") for name in ("product", "sku", "plan"))
    return Item(product, sku, plan, quantity, ids.get("subscription"), dict(attributes))
