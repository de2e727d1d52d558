"""Subscriptions as both dialects show them; what can't be read is named with its field."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from syncd.core.licences import Subscription
from syncd.core.policy import Dialect
from syncd.ion.licences import read_subscription

LIVE: dict[str, Any] = {
    "id": "7", "customerId": "301", "subscriptionName": "Suite", "cloudProviderName": "Microsoft",
    "mfgPartNumber": "S1", "subscriptionTotalLicenses": "5", "subscriptionStatus": "active",
    "price": 20.5, "cost": "17.42", "currency": "USD", "renewalDate": "2026-06-01",
}  # fmt: skip
SEED: dict[str, Any] = {
    "subscriptionId": "7", "productName": "Suite", "vendor": "Microsoft", "quantity": 5, "status": "Active",
    "renewalDate": "2026-06-01",
}  # fmt: skip


def test_both_dialects_say_the_same_in_their_ways() -> None:
    prices = (Decimal("20.5"), Decimal("17.42"), "USD")
    expected = Subscription("7", "301", "Suite", "Microsoft", "S1", 5, "active", *prices, "2026-06-01")
    assert read_subscription(LIVE, Dialect.LIVE) == (expected, "")
    found, problem = read_subscription(SEED, Dialect.SEED, "301")
    assert (found, problem) == (
        Subscription("7", "301", "Suite", "Microsoft", "Suite", 5, "active", renews="2026-06-01"),
        "",
    )


@pytest.mark.parametrize(
    ("changes", "seats", "problem"),
    [
        ({"subscriptionTotalLicenses": None}, 0, ""),
        ({"subscriptionTotalLicenses": 5}, 5, ""),
        ({"subscriptionTotalLicenses": "many"}, None, "subscription 7: the number of seats is 'many'"),
        ({"subscriptionTotalLicenses": "-1"}, None, "subscription 7: the number of seats is '-1'"),
        ({"price": "cheap"}, None, "subscription 7: price is 'cheap', which is no price"),
        ({"cost": []}, None, "subscription 7: cost is [], which is no price"),
        ({"price": ""}, 5, ""),
        ({"subscriptionTotalLicenses": 5.0}, 5, ""),
        ({"subscriptionTotalLicenses": 5.5}, None, "subscription 7: the number of seats is 5.5"),
        ({"subscriptionTotalLicenses": 2**40}, None, "subscription 7: the number of seats is 1099511627776"),
        ({"price": "NaN"}, None, "subscription 7: price is 'NaN', which is no price"),
        ({"id": None}, None, "a subscription without an id, or without a customer, was left out"),
        ({"customerId": ""}, None, "a subscription without an id, or without a customer, was left out"),
    ],
)
def test_what_cant_be_read_is_named_with_its_field(changes: dict[str, Any], seats: int | None, problem: str) -> None:
    found, said = read_subscription({**LIVE, **changes}, Dialect.LIVE)
    assert (found.seats if found else None, said) == (seats, problem)
