"""Licences on their topics: contracts as the CRM tells them, subscriptions and their drift as it is told. Pure.

A contract is ``{"customer": "C7", "sku": "CFQ7TTC0LCHC", "seats": 10}``; none any more is zero seats, or an empty
record under the key ``C7/CFQ7TTC0LCHC``.
"""

from __future__ import annotations

import orjson

from syncd.core.catalogue import DISTRIBUTOR, money
from syncd.core.licences import Contract, Drift, Subscription
from syncd.core.values import Millis
from syncd.core.work import Message
from syncd.crm.commands import rfc3339
from syncd.crm.documents import document_of, id_of, number_of
from syncd.crm.events import Bad
from syncd.engine.ingest import Unusable
from syncd.engine.intake import RawEvent

MAX_SEATS = 10_000_000


def read_contract(event: RawEvent) -> Contract | Unusable:
    try:
        return _contract(event)
    except Bad as bad:
        return Unusable("contract", bad.reason, bad.detail)
    except Exception as error:  # whatever else it is: one record must not hold up a partition
        return Unusable("contract", "undecodable", f"the contract could not be read: {type(error).__name__}")


def _contract(event: RawEvent) -> Contract:
    if not event.value:
        customer, _, sku = (event.key or b"").decode(errors="replace").partition("/")
        return Contract(id_of(customer, "the key's customer"), id_of(sku, "the key's SKU"), 0)
    told = document_of(event.value, "the contract")
    seats = number_of(told.get("seats"), "seats", 0, MAX_SEATS)
    return Contract(id_of(told.get("customer"), "customer"), id_of(told.get("sku"), "sku"), seats)


def subscription_message(topic: str, one: Subscription, crm_id: str | None, now: Millis) -> Message:
    """The whole subscription as it is now, keyed by distributor and id, for a compacted topic."""
    told = {**_told(one, crm_id), "changed_at": rfc3339(now)}
    return Message(topic, f"{DISTRIBUTOR}/{one.id}".encode(), orjson.dumps(told))


def drift_message(topic: str, drift: Drift, crm_id: str | None) -> Message:
    """One move of seats, keyed as the subscription is."""
    told = {
        "kind": drift.kind.value,
        "was": drift.was,
        "is": drift.seats,
        "found_at": rfc3339(drift.at),
        "subscription": _told(drift.subscription, crm_id),
    }
    return Message(topic, f"{DISTRIBUTOR}/{drift.subscription.id}".encode(), orjson.dumps(told))


def _told(one: Subscription, crm_id: str | None) -> dict[str, object]:
    return {
        "distributor": DISTRIBUTOR,
        "id": one.id,
        "customer": crm_id,
        "ion_customer": one.ion_customer,
        "name": one.name,
        "vendor": one.vendor,
        "sku": one.sku,
        "seats": one.seats,
        "status": one.status,
        "price": None if one.price is None else money(one.price),
        "cost": None if one.cost is None else money(one.cost),
        "currency": one.currency,
        "renews": one.renews,
        "is_listed": one.is_listed,
    }
