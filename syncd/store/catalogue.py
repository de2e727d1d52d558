"""The catalogue's rows: what ``SqlUnit`` keeps of products and prices."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from syncd.core.catalogue import DISTRIBUTOR, Offer, OfferKey, Price, Product
from syncd.core.values import Millis
from syncd.store import codec
from syncd.store.statements import NOTHING, among, ids_of, upsert
from syncd.store.tables import PRICES, PRODUCTS


class CatalogueRows:
    """A part of the unit; its rows are those of one distributor, of however many stand beside."""

    _connection: AsyncConnection
    _dialect: str

    async def products(self, ids: Collection[str]) -> dict[str, Product]:
        mine = _PRODUCTS.where(among(self._dialect, PRODUCTS.c.id))
        return {product.id: product for product in await self._products(mine, ids_of(self._dialect, ids))}

    async def list_products(self, after: str, limit: int) -> list[Product]:
        return await self._products(_PRODUCTS.where(PRODUCTS.c.id > after).limit(limit))

    async def save_products(self, products: Collection[Product], now: Millis) -> None:
        rows = [
            {"distributor": DISTRIBUTOR, **product_row(product), "known_since": now, "changed_at": now}
            for product in products
        ]
        if rows:
            statement = upsert(self._dialect, PRODUCTS, tuple(rows[0]), ("known_since",))
            await self._connection.execute(statement, rows)

    async def add_prices(self, prices: Sequence[Price]) -> None:
        rows = [
            {
                "distributor": DISTRIBUTOR,
                "product": price.product,
                **price.key._asdict(),
                "since": price.since,
                "price": None if price.price is None else format(price.price, "f"),
                "currency": price.currency,
            }
            for price in prices
        ]
        if rows:
            await self._connection.execute(insert(PRICES), rows)

    async def prices_of(self, product: str) -> list[Price]:
        mine = (PRICES.c.distributor == DISTRIBUTOR) & (PRICES.c.product == product)
        order = (PRICES.c.sku, PRICES.c.plan, PRICES.c.phase, PRICES.c.since)
        rows = (await self._connection.execute(select(PRICES).where(mine).order_by(*order))).all()
        return [
            Price(
                row.product,
                OfferKey(row.sku, row.plan, row.phase),
                None if row.price is None else Decimal(row.price),
                row.currency,
                Millis(row.since),
            )
            for row in rows
        ]

    async def _products(self, query: Select[Any], parameters: Mapping[str, Any] = NOTHING) -> list[Product]:
        return [product_from_row(row) for row in (await self._connection.execute(query, parameters)).all()]


_PRODUCTS = select(PRODUCTS).where(PRODUCTS.c.distributor == DISTRIBUTOR).order_by(PRODUCTS.c.id)


def product_row(product: Product) -> dict[str, Any]:
    offers = [
        [*offer.key, offer.name, None if offer.price is None else format(offer.price, "f"), offer.currency]
        for offer in product.offers
    ]
    body = {"name": product.name, "vendor": product.vendor, "category": product.category, "offers": offers}
    return {"id": product.id, "body": codec.dumps(body)}


def product_from_row(row: Any) -> Product:
    body: Mapping[str, Any] = codec.loads(row.body)
    offers = tuple(
        Offer(OfferKey(sku, plan, phase), name, None if price is None else Decimal(price), currency)
        for sku, plan, phase, name, price, currency in body["offers"]
    )
    return Product(row.id, body["name"], body["vendor"], body["category"], offers)
