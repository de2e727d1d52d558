"""JSON Schemas of all that goes over Kafka, made from the core's own tables. Pure.

``python -m tools.generate`` writes them to ``schemas/``; a test holds real messages against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syncd.core.catalogue import DISTRIBUTOR
from syncd.core.licences import DriftKind
from syncd.core.link import How, LinkState
from syncd.core.order import OrderState
from syncd.core.values import Address, Field, Side
from syncd.crm.events import CLOUD_EVENTS_TYPES, MAX_ID_LENGTH
from syncd.crm.licences import MAX_SEATS
from syncd.crm.orders import MAX_ITEMS, MAX_QUANTITY
from syncd.mapping import MAX_LENGTH

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
KINDS = ("changed", "deleted", "snapshot", "command-rejected")
TEXT: Schema = {"type": "string"}
ID: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH}
TIME: Schema = {"type": "string", "format": "date-time"}


def _object(properties: Mapping[str, Schema], required: tuple[str, ...], *, closed: bool = True) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": not closed,
    }


def _value(name: Field) -> Schema:
    if name is Field.ADDRESS:
        parts = {part: {"type": ["string", "null"]} for part in Address.__slots__}
        return {"type": ["object", "null"], "properties": parts, "additionalProperties": False}
    if name is Field.STATUS:
        return {"enum": ["active", "inactive", "", None]}
    return {"type": ["string", "null"], "maxLength": MAX_LENGTH}


def customer() -> Schema:
    """A missing field is unchanged; ``null`` or ``""`` is cleared."""
    return _object({name.value: _value(name) for name in Field}, (), closed=False)


def plain_event() -> Schema:
    properties: dict[str, Schema] = {
        "type": {"enum": list(KINDS)},
        "id": {"type": ["string", "integer"]},
        "time": {"type": ["string", "integer"]},
        "version": {"type": ["integer", "string", "null"]},
        "caused_by": {"type": ["string", "null"]},
        "ion_id": {"type": ["string", "integer", "null"]},
        "customer": customer(),
    }
    return _object(properties, ("type",), closed=False)


def cloud_event() -> Schema:
    properties: dict[str, Schema] = {
        "specversion": {"const": "1.0"},
        "type": {"enum": [CLOUD_EVENTS_TYPES + kind for kind in KINDS]},
        "source": TEXT,
        "id": TEXT,
        "subject": ID,
        "time": TIME,
        "causedby": TEXT,
        "ionid": TEXT,
        "data": customer(),
    }
    return _object(properties, ("specversion", "type", "source", "id"), closed=False)


def debezium_event() -> Schema:
    row = {"type": ["object", "null"]}
    source = _object({"ts_ms": {"type": "integer"}}, (), closed=False)
    properties = {"op": {"enum": ["c", "u", "d", "r"]}, "before": row, "after": row, "source": source}
    return _object(properties, ("op",), closed=False)


def command() -> Schema:
    """What the CRM should change, as a structured CloudEvent."""
    why: Schema = {"type": "object"}
    data: dict[str, Schema] = {
        "crm_id": ID,
        "ion_id": {"type": ["string", "null"]},
        "set": customer(),
        "expect": customer(),
        "why": why,
    }
    properties: dict[str, Schema] = {
        "specversion": {"const": "1.0"},
        "id": ID,
        "source": {"const": "syncd"},
        "type": {"enum": [f"syncd.customer.{kind}" for kind in ("create", "update", "notice")]},
        "subject": TEXT,
        "time": TIME,
        "datacontenttype": {"const": "application/json"},
        "data": _object(data, ("ion_id", "set", "expect", "why")),
    }
    return _object(properties, tuple(properties))


def link() -> Schema:
    """The compacted link record; a null value removes the link."""
    prints = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
    agreed = _object({name.value: prints for name in Field}, ())
    properties: dict[str, Schema] = {
        "crm_id": ID,
        "ion_id": ID,
        "state": {"enum": [state.value for state in LinkState]},
        "since": {"type": "integer"},
        "how": {"enum": [how.value for how in How]},
        "agreed": agreed,
        "spelt": _object({side.value: agreed for side in Side}, ()),
    }
    return _object(properties, tuple(name for name in properties if name != "spelt"))


def dead_letter() -> Schema:
    """An event set aside: as it came, with the reason and its coordinates."""
    text = {"type": ["string", "null"]}
    header = {"type": "array", "prefixItems": [TEXT, TEXT], "minItems": 2, "maxItems": 2}
    properties: dict[str, Schema] = {
        "reason": TEXT,
        "detail": TEXT,
        "topic": TEXT,
        "partition": {"type": "integer"},
        "offset": {"type": "integer"},
        "time": TIME,
        "key": text,
        "value": text,
        "value_base64": text,
        "headers": {"type": "array", "items": header},
    }
    return _object(properties, tuple(properties))


def product() -> Schema:
    """A product as it is now; told when it is new and when it changed. Prices are decimal numbers as text."""
    text: Schema = {"type": ["string", "null"]}
    offer: dict[str, Schema] = {
        "sku": TEXT,
        "plan": TEXT,
        "phase": {"type": "integer", "minimum": 0},
        "name": TEXT,
        "price": {"type": ["string", "null"], "pattern": r"^\d+(\.\d+)?$"},
        "currency": text,
    }
    properties: dict[str, Schema] = {
        "distributor": {"const": DISTRIBUTOR},
        "id": ID,
        "name": text,
        "vendor": text,
        "category": text,
        "offers": {"type": "array", "items": _object(offer, tuple(offer))},
        "changed_at": TIME,
    }
    return _object(properties, tuple(properties))


def order() -> Schema:
    """What the CRM orders: plain, or as the data of a CloudEvent."""
    item: dict[str, Schema] = {
        "product": ID,
        "sku": ID,
        "plan": ID,
        "quantity": {"type": "integer", "minimum": 1, "maximum": MAX_QUANTITY},
        "subscription": ID,
        "attributes": {"type": "object", "additionalProperties": TEXT},
    }
    items: Schema = {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": _object(item, ("quantity",))}
    return _object({"id": ID, "customer": ID, "items": items}, ("id", "customer", "items"))


def order_status() -> Schema:
    """What became of an order, as a structured CloudEvent."""
    text: Schema = {"type": ["string", "null"]}
    states = [state.value for state in OrderState if state is not OrderState.SENT]
    data: dict[str, Schema] = {
        "id": ID,
        "customer": ID,
        "state": {"enum": states},
        **dict.fromkeys(("reason", "ion_customer", "ion_order", "ion_status", "value", "currency"), text),
    }
    properties: dict[str, Schema] = {
        "specversion": {"const": "1.0"},
        "id": TEXT,
        "source": {"const": "syncd"},
        "type": {"enum": [f"syncd.order.{state}" for state in states]},
        "subject": ID,
        "time": TIME,
        "datacontenttype": {"const": "application/json"},
        "data": _object(data, ("id", "state", "reason")),
    }
    return _object(properties, tuple(properties))


def contract() -> Schema:
    """Seats of a SKU that the CRM has under contract with a customer; an empty record ends it."""
    seats: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_SEATS}
    return _object({"customer": ID, "sku": ID, "seats": seats}, ("customer", "sku", "seats"), closed=False)


def _licence() -> dict[str, Schema]:
    text: Schema = {"type": ["string", "null"]}
    amount: Schema = {"type": ["string", "null"], "pattern": r"^-?\d+(\.\d+)?$"}
    return {
        "distributor": {"const": DISTRIBUTOR},
        "id": ID,
        "customer": text,
        "ion_customer": ID,
        "name": text,
        "vendor": text,
        "sku": TEXT,
        "seats": {"type": "integer", "minimum": 0},
        "status": TEXT,
        "price": amount,
        "cost": amount,
        "currency": text,
        "renews": text,
        "is_listed": {"type": "boolean"},
    }


def subscription() -> Schema:
    """A subscription as it was last listed. Money is a decimal number as text, for one seat and billing cycle."""
    properties = {**_licence(), "changed_at": TIME}
    return _object(properties, tuple(properties))


def licence_drift() -> Schema:
    """How a subscription's active seats moved between two snapshots."""
    properties: dict[str, Schema] = {
        "kind": {"enum": [kind.value for kind in DriftKind]},
        "was": {"type": "integer", "minimum": 0},
        "is": {"type": "integer", "minimum": 0},
        "found_at": TIME,
        "subscription": _object(_licence(), tuple(_licence())),
    }
    return _object(properties, tuple(properties))


SCHEMAS = {
    "event-plain": plain_event,
    "event-cloudevents": cloud_event,
    "event-debezium": debezium_event,
    "command": command,
    "link": link,
    "dead-letter": dead_letter,
    "product": product,
    "order": order,
    "order-status": order_status,
    "contract": contract,
    "subscription": subscription,
    "licence-drift": licence_drift,
}


def all_schemas() -> dict[str, Schema]:
    """File stem to schema."""
    return {
        name: {"$schema": DIALECT, "title": f"syncd {name}", "description": (make.__doc__ or "").strip(), **make()}
        for name, make in SCHEMAS.items()
    }


def asyncapi(version: str) -> Schema:
    """The topics with what is on them, as AsyncAPI 3."""

    def channel(address: str, text: str, *names: str) -> Schema:
        messages = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
        return {"address": address, "description": text, "messages": messages}

    messages = {name: {"contentType": "application/json", "payload": {"$ref": f"./{name}.json"}} for name in SCHEMAS}
    channels = {
        "events": channel("crm.customers", "CRM change events, key = CRM id", *(n for n in SCHEMAS if "event" in n)),
        "commands": channel(
            "syncd.crm.commands", "What the CRM should change, key = CRM id or command id", "command"
        ),
        "links": channel("syncd.links", "Compacted; the mapping table, key = CRM id", "link"),
        "deadLetters": channel("syncd.dead-letters", "Events that could not be used", "dead-letter"),
        "products": channel("syncd.products", "Compacted; the catalogue, key = distributor/product id", "product"),
    }
    channels |= {
        "orders": channel("crm.orders", "What the CRM orders, key = its order id", "order"),
        "orderStatus": channel("syncd.orders", "What became of it, key = the order id", "order-status"),
        "contracts": channel("crm.contracts", "Compacted; seats under contract, key = customer/SKU", "contract"),
        "subscriptions": channel("syncd.subscriptions", "Compacted; key = distributor/subscription", "subscription"),
        "licenceDrift": channel("syncd.licence-drift", "How seats moved; the same key", "licence-drift"),
    }
    received = ("events", "orders", "contracts")
    actions = {name: "receive" if name in received else "send" for name in channels}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "syncd", "version": version},
        "channels": channels,
        "operations": {
            name: {"action": action, "channel": {"$ref": f"#/channels/{name}"}} for name, action in actions.items()
        },
        "components": {"messages": messages},
    }
