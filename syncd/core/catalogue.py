"""The catalogue: products with their offers, and what changed since they were last seen. Pure.

    known          listed         outcome
    ─────────────  ─────────────  ─────────────────────────────────────────────────────────
    nothing        a product      new: kept, published, its prices begin their history
    the same       the same       nothing
    another        a product      changed: kept, published; prices that moved go on, those of offers gone end
    a product      nothing        nothing: a listing proves no absence, and nothing is deleted

Rows are tagged with the distributor, so that others' products can stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from syncd.core.values import Millis

DISTRIBUTOR = "synnex"


class OfferKey(NamedTuple):
    sku: str
    plan: str
    """``""`` where the dialect knows no plans."""
    phase: int
    """Which phase of the plan, from 0: a plan may begin with another price than it goes on with."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one SKU costs in one phase of one plan."""

    key: OfferKey
    name: str
    price: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class Product:
    id: str
    name: str | None
    vendor: str | None
    category: str | None
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Price:
    """From then on an offer costs so much; ``None``: ION names no price any more."""

    product: str
    key: OfferKey
    price: Decimal | None
    currency: str | None
    since: Millis


class CatalogueChange(NamedTuple):
    product: Product
    is_new: bool
    prices: tuple[Price, ...]


def changes_between(known: Mapping[str, Product], listed: Sequence[Product], now: Millis) -> list[CatalogueChange]:
    """What a page of the catalogue says that was not known; of a product listed twice the last row counts."""
    latest = {product.id: product for product in listed}
    return [
        CatalogueChange(product, product.id not in known, _moved(known.get(product.id), product, now))
        for product in latest.values()
        if known.get(product.id) != product
    ]


def _moved(before: Product | None, after: Product, now: Millis) -> tuple[Price, ...]:
    had = {offer.key: (offer.price, offer.currency) for offer in before.offers} if before else {}
    has = {offer.key: (offer.price, offer.currency) for offer in after.offers}
    gone = {key: (None, None) for key in had if key not in has}
    return tuple(
        Price(after.id, key, *now_costs, now)
        for key, now_costs in {**has, **gone}.items()
        if had.get(key, (None, None)) != now_costs
    )


def money(amount: Decimal) -> str:
    """With two decimals, or as many as it needs."""
    exponent = amount.normalize().as_tuple().exponent
    return format(amount, ".2f" if isinstance(exponent, int) and exponent >= -2 else "f")
