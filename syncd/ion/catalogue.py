"""Products as ION's dialects show them, read into the core's. Pure.

What can't be read is named with its path. Such a product is left as it was known: half of it would look like
a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from syncd.core.catalogue import Offer, OfferKey, Product
from syncd.core.policy import Dialect
from syncd.ion.live import text
from syncd.ion.rows import row_of

NANOS = 9


class ReadProduct(NamedTuple):
    product: Product | None
    problems: list[str]
    """Each names the product and the field."""


def read_product(raw: Mapping[str, Any], dialect: Dialect) -> ReadProduct:
    row = row_of("products", raw, dialect)
    product_id = text(row["id"])
    if product_id is None:
        return ReadProduct(None, ["a product without an id was left out"])
    problems: list[str] = []
    found = _live_offers(raw, problems) if dialect is Dialect.LIVE else _seed_offers(raw, problems)
    offers = {offer.key: offer for offer in found}
    product = Product(
        product_id,
        text(row["name"]),
        text(row["vendor"]),
        text(row["category"]),
        tuple(offers[k] for k in sorted(offers)),
    )
    return ReadProduct(product, [f"product {product_id}: {problem}" for problem in problems])


def _seed_offers(raw: Mapping[str, Any], problems: list[str]) -> Iterator[Offer]:
    sku = text(raw.get("sku"))
    if sku is not None:
        price, currency = _price(raw, "price", problems)
        yield Offer(OfferKey(sku, "", 0), text(raw.get("name")) or sku, price, currency)


def _live_offers(raw: Mapping[str, Any], problems: list[str]) -> Iterator[Offer]:
    """Every phase of every plan of every SKU."""
    definition = raw.get("definition")
    for s, sku in _objects(
        definition if isinstance(definition, Mapping) else {}, "skus", problems, "definition.skus"
    ):
        sku_id = text(sku.get("skuId")) or text(sku.get("id"))
        at = f"definition.skus[{s}]"
        if sku_id is None:
            problems.append(f"{at}.skuId is missing")
            continue
        for p, plan in _objects(sku, "plans", problems, f"{at}.plans"):
            plan_id = text(plan.get("planId")) or text(plan.get("id")) or ""
            names = [text(part.get("displayName")) or text(part.get("name")) for part in (sku, plan)]
            name = " · ".join(part for part in names if part) or sku_id
            for n, phase in _objects(plan, "phases", problems, f"{at}.plans[{p}].phases"):
                price, currency = _price(phase, f"{at}.plans[{p}].phases[{n}].price", problems)
                yield Offer(OfferKey(sku_id, plan_id, n), name, price, currency)


def _objects(
    within: Mapping[str, Any], key: str, problems: list[str], at: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows = within.get(key)
    if rows is not None and not isinstance(rows, list):
        problems.append(f"{at} is no list")
        return
    for number, row in enumerate(rows or []):
        if isinstance(row, Mapping):
            yield number, row
        else:
            problems.append(f"{at}[{number}] is no object")


def _price(within: Mapping[str, Any], at: str, problems: list[str]) -> tuple[Decimal | None, str | None]:
    """A price as a number or as a text, or as units and nanos with a currency of its own."""
    raw, currency = within.get("price"), text(within.get("currency")) or text(within.get("currencyCode"))
    if raw is None or raw == "":
        return None, currency
    try:
        if isinstance(raw, Mapping):
            whole = Decimal(str(raw.get("units") or 0)) + Decimal(str(raw.get("nanos") or 0)).scaleb(-NANOS)
            price, currency = whole, text(raw.get("currencyCode")) or currency
        elif isinstance(raw, bool) or not isinstance(raw, str | int | float):
            raise InvalidOperation
        else:
            price = Decimal(str(raw).strip())
        if not price.is_finite() or price < 0:
            raise InvalidOperation
    except InvalidOperation:
        problems.append(f"{at} is {raw!r}, which is no price")
        return None, currency
    return price, currency
