"""What is done now and then beside customer sync, by the daemon as by hand: the catalogue's import, the snapshot of
licences. All calls are made in the market's lane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import NamedTuple

from syncd.core.catalogue import Product
from syncd.core.licences import Snapshot
from syncd.crm.catalogue import product_message
from syncd.crm.licences import drift_message, subscription_message
from syncd.engine.catalogue import Imported, import_catalogue
from syncd.engine.licences import Describe, take_snapshot
from syncd.engine.ports import Store
from syncd.ion.catalogue import read_product
from syncd.ion.licences import all_subscriptions
from syncd.ion.market import Market
from syncd.settings import Kafka


class DoneImport(NamedTuple):
    imported: Imported
    problems: list[str]
    """What could not be read, each with its field."""


class DoneSnapshot(NamedTuple):
    snapshot: Snapshot
    problems: list[str]


def tell_nobody(_: int) -> None:
    """Nobody watches."""


async def import_products(
    market: Market, store: Store, kafka: Kafka, told: Callable[[int], None] = tell_nobody
) -> DoneImport:
    """Raises a ``SideError`` where the listing does not come whole; what came is kept."""
    problems, dialect = list[str](), await market.dialect()

    async def pages() -> AsyncIterator[list[Product]]:
        async for rows in market.pages("products list"):
            read = [read_product(row, dialect) for row in rows]
            problems.extend(problem for one in read for problem in one.problems)
            yield [one.product for one in read if one.product is not None and not one.problems]

    describe = partial(product_message, kafka.products_topic)
    return DoneImport(await import_catalogue(store, pages(), describe, lambda done: told(done.listed)), problems)


async def snapshot_licences(
    market: Market, store: Store, kafka: Kafka, told: Callable[[int], None] = tell_nobody
) -> DoneSnapshot:
    """Raises a ``SideError`` where the listing does not come whole; what came counts for the next."""
    problems = list[str]()
    describe = Describe(
        partial(subscription_message, kafka.subscriptions_topic), partial(drift_message, kafka.drift_topic)
    )
    pages, before = all_subscriptions(market, problems), market.calls
    return DoneSnapshot(await take_snapshot(store, pages, describe, lambda: market.calls - before, told), problems)
