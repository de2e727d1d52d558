"""Orders on their topics: what the CRM orders, and what it is told of it. Pure.

A record is JSON, plain or as the data of a CloudEvent:

    {"id": "SO-1001", "customer": "C7",
     "items": [{"product": "901", "sku": "CFQ7TTC0LCHC", "plan": "P1M", "quantity": 5}]}

An item may name a ``subscription`` instead of what is new: its seats become the quantity. What can't be used is
named by its field; where it can be told which order it was, the CRM is told too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from syncd.core.order import Item, Order, OrderState, money
from syncd.core.values import Millis
from syncd.core.work import Message
from syncd.crm.commands import CONTENT_TYPE, SOURCE, rfc3339
from syncd.crm.events import Bad
from syncd.engine.intake import RawEvent
from syncd.engine.orders import BadOrder

HIDDEN = "(hidden)"
MAX_ID, MAX_ITEMS, MAX_QUANTITY = 200, 500, 1_000_000
KNOWN = {"id", "customer", "items"}
KNOWN_OF_ITEM = {"product", "sku", "plan", "quantity", "subscription", "attributes"}


def read_order(event: RawEvent, now: Millis) -> Order | BadOrder:
    order_id = None
    try:
        told = _told(event)
        order_id = _id(told.get("id"), "the order's id")
        return _order(order_id, told, Millis(min(event.at, now)) if event.at > 0 else now, now)
    except Bad as bad:
        detail = bad.detail if order_id is None else f"order {order_id}: {bad.detail}"
        return BadOrder(order_id, bad.reason, detail, _without_attributes(event.value))


def _order(order_id: str, told: Mapping[str, Any], at: Millis, now: Millis) -> Order:
    _only(KNOWN, told, "an order")
    raws = told.get("items")
    if not isinstance(raws, list) or not 1 <= len(raws) <= MAX_ITEMS:
        raise Bad("wrong-type", f"items must be a list of 1 to {MAX_ITEMS} items")
    items = tuple(_item(raw, f"items[{number}]") for number, raw in enumerate(raws))
    return Order(order_id, _id(told.get("customer"), "customer"), items, OrderState.WAITING, at, now, now)


def _without_attributes(value: bytes | None) -> bytes | None:
    """What may be kept of a record: all but what may be a password; nothing where that can't be told."""
    try:
        return orjson.dumps(_hidden(orjson.loads(value or b"")))
    except orjson.JSONDecodeError:
        return None


def _hidden(told: Any) -> Any:
    if isinstance(told, Mapping):
        return {key: HIDDEN if key == "attributes" else _hidden(part) for key, part in told.items()}
    return [_hidden(part) for part in told] if isinstance(told, list) else told


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


def _told(event: RawEvent) -> Mapping[str, Any]:
    if not event.value:
        raise Bad("wrong-type", "an order can't be taken back by an empty record: cancel it in ION")
    try:
        told = orjson.loads(event.value)
    except orjson.JSONDecodeError as error:
        raise Bad("undecodable", f"the order is not JSON: {error.msg} at byte {error.pos}") from None
    if isinstance(told, Mapping) and "specversion" in told:
        told = told.get("data")
    if not isinstance(told, Mapping):
        raise Bad("wrong-type", "the order is not a JSON object")
    return told


def _only(known: Collection[str], told: Mapping[str, Any], what: str) -> None:
    unknown = sorted(told.keys() - set(known))
    if unknown:
        raise Bad("wrong-type", f"{what} has no {unknown[0]}, only {', '.join(sorted(known))}"[:300])


def _item(raw: object, at: str) -> Item:
    if not isinstance(raw, Mapping):
        raise Bad("wrong-type", f"{at} must be an object")
    _only(KNOWN_OF_ITEM, raw, f"{at}: an item")
    quantity = raw.get("quantity")
    if not isinstance(quantity, int) or isinstance(quantity, bool) or not 1 <= quantity <= MAX_QUANTITY:
        raise Bad(
            "wrong-type", f"{at}.quantity must be a whole number from 1 to {MAX_QUANTITY}, not {quantity!r}"[:300]
        )
    subscription = None if raw.get("subscription") is None else _id(raw["subscription"], f"{at}.subscription")
    attributes = raw.get("attributes") or {}
    if not isinstance(attributes, Mapping) or not all(isinstance(text, str) for text in attributes.values()):
        raise Bad("wrong-type", f"{at}.attributes must be an object of texts")
    ids = {
        name: "" if raw.get(name) is None else _id(raw[name], f"{at}.{name}") for name in ("product", "sku", "plan")
    }
    if not ids["product"] and subscription is None:
        raise Bad("wrong-type", f"{at} names neither a product nor a subscription")
    return Item(**ids, quantity=quantity, subscription=subscription, attributes=dict(attributes))


def _id(raw: object, what: str) -> str:
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str) or not raw or len(raw) > MAX_ID or not raw.isprintable():
        raise Bad("wrong-type", f"{what} must be a text of 1 to {MAX_ID} characters, not {raw!r}"[:300])
    return raw
