"""Subscriptions as ION's dialects show them, read into the core's, and where a snapshot gets them from.

What can't be read is named with its field, and left as it was known. The live dialect lists the account's; the seed
dialect lists customer by customer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from syncd.core.licences import Subscription
from syncd.core.policy import Dialect
from syncd.ion.live import number, text
from syncd.ion.market import Market
from syncd.ion.rows import row_of

MAX_SEATS = 2**31 - 1


class ReadSubscription(NamedTuple):
    subscription: Subscription | None
    problem: str
    """Names the subscription and the field."""


def read_subscription(raw: Mapping[str, Any], dialect: Dialect, customer: str | None = None) -> ReadSubscription:
    """``customer``: whose list it is in, where the row does not say."""
    row = row_of("subscriptions", raw, dialect)
    own_id, ion_customer = text(row["id"]), text(row["customer"]) or customer
    if own_id is None or ion_customer is None:
        return ReadSubscription(None, "a subscription without an id, or without a customer, was left out")
    seats = number(row["seats"] or 0)  # what is billed by use has none
    if seats is None or seats != int(seats) or not 0 <= seats <= MAX_SEATS:
        return ReadSubscription(None, f"subscription {own_id}: the number of seats is {row['seats']!r}"[:300])
    money = dict[str, Decimal | None]()
    for field, told in (("price", row["price"]), ("cost", raw.get("cost"))):
        money[field] = number(told)
        if money[field] is None and told not in (None, ""):
            return ReadSubscription(None, f"subscription {own_id}: {field} is {told!r}, which is no price"[:300])
    name = text(row["product"])
    found = Subscription(
        own_id,
        ion_customer,
        name,
        text(row["vendor"]),
        text(row["sku"]) or name or "",
        int(seats),
        (text(row["status"]) or "").casefold(),
        money["price"],
        money["cost"],
        currency=text(row["currency"]),
        renews=text(row["renews"]),
    )
    return ReadSubscription(found, "")


async def all_subscriptions(
    market: Market, problems: list[str]
) -> AsyncGenerator[tuple[list[Subscription], list[str]]]:
    """Those of everybody, page by page, with the ids of all that the page lists."""
    dialect = await market.dialect()
    if dialect is Dialect.LIVE:
        async for rows in market.pages("subscriptions list", is_whole=True):
            yield _page(rows, dialect, None, problems)
        return
    async for listed in market.pages("customers list", is_whole=True):
        ids = [text(row_of("customers", row, dialect)["id"]) for row in listed]
        problems += ["a customer without an id was left out" for number in ids if number is None]
        for customer in filter(None, ids):
            async for rows in market.pages("subscriptions list", {"customer": customer}, is_whole=True):
                yield _page(rows, dialect, customer, problems)


def _page(
    rows: list[dict[str, Any]], dialect: Dialect, customer: str | None, problems: list[str]
) -> tuple[list[Subscription], list[str]]:
    read = [read_subscription(row, dialect, customer) for row in rows]
    problems += [one.problem for one in read if one.problem]
    ids = [number for row in rows if (number := text(row_of("subscriptions", row, dialect)["id"]))]
    return [one.subscription for one in read if one.subscription is not None], ids
