"""What the CRM is told of the catalogue: a product as it is now, on a compacted topic. Pure."""

from __future__ import annotations

import orjson

from syncd.core.catalogue import DISTRIBUTOR, CatalogueChange
from syncd.core.values import Millis
from syncd.core.work import Message
from syncd.crm.commands import rfc3339


def product_message(topic: str, change: CatalogueChange, now: Millis) -> Message:
    """The whole product, keyed by distributor and id. Prices are decimal numbers as text, so that none is rounded."""
    product = change.product
    told = {
        "distributor": DISTRIBUTOR,
        "id": product.id,
        "name": product.name,
        "vendor": product.vendor,
        "category": product.category,
        "offers": [
            {
                **offer.key._asdict(),
                "name": offer.name,
                "price": None if offer.price is None else format(offer.price, "f"),
                "currency": offer.currency,
            }
            for offer in product.offers
        ],
        "changed_at": rfc3339(now),
    }
    return Message(topic, f"{DISTRIBUTOR}/{product.id}".encode(), orjson.dumps(told))
