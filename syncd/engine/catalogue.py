"""The catalogue's import: a listing of ION's products, page by page, into the store and onto its topic.

listed page → what changed → kept, with the history of prices → published, in one transaction a page.

After the first time only changes are published. It can be broken off at any page and begun again.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass

from syncd.core.catalogue import CatalogueChange, Product, changes_between
from syncd.core.values import Millis
from syncd.core.work import Message
from syncd.engine.ports import Store

Describe = Callable[[CatalogueChange, Millis], Message]


@dataclass(slots=True)
class Imported:
    listed: int = 0
    new: int = 0
    changed: int = 0
    prices: int = 0
    """So many prices moved, or were seen for the first time."""


async def import_catalogue(
    store: Store, pages: AsyncIterable[Sequence[Product]], describe: Describe, told: Callable[[Imported], None]
) -> Imported:
    """Take in a whole listing; ``told`` after each page."""
    done = Imported()
    async for page in pages:
        async with store.begin() as unit:
            now = await unit.time()
            changes = changes_between(await unit.products([product.id for product in page]), page, now)
            await unit.save_products([change.product for change in changes], now)
            await unit.add_prices([price for change in changes for price in change.prices])
            await unit.post([describe(change, now) for change in changes])
        done.listed += len(page)
        done.new += sum(change.is_new for change in changes)
        done.changed += sum(not change.is_new for change in changes)
        done.prices += sum(len(change.prices) for change in changes)
        told(done)
    return done
