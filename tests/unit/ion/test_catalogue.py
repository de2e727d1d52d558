"""Products as both dialects show them; what can't be read is named and the rest is taken."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from syncd.core.catalogue import Offer, OfferKey, Product
from syncd.core.policy import Dialect
from syncd.ion.catalogue import read_product


def live(**phase: Any) -> dict[str, Any]:
    plan = {"planId": "P1M", "displayName": "Monthly", "phases": [phase]}
    return {
        "name": "accounts/1/products/901",
        "categories": ["Productivity"],
        "marketing": {"displayName": "Suite", "vendor": "Microsoft"},
        "definition": {"skus": [{"skuId": "S1", "displayName": "Suite", "plans": [plan]}]},
    }


SEED = {"productId": "901", "name": "Suite", "vendor": "Microsoft", "category": "Productivity", "sku": "S1"}


def test_both_dialects_name_the_same_product() -> None:
    found = read_product(live(price="22.50", currency="USD"), Dialect.LIVE)
    offer = Offer(OfferKey("S1", "P1M", 0), "Suite · Monthly", Decimal("22.5"), "USD")
    assert found.product == Product("901", "Suite", "Microsoft", "Productivity", (offer,))
    assert found.problems == []
    found = read_product({**SEED, "price": 22.5, "currency": "USD"}, Dialect.SEED)
    offer = Offer(OfferKey("S1", "", 0), "Suite", Decimal("22.5"), "USD")
    assert found.product == Product("901", "Suite", "Microsoft", "Productivity", (offer,))


PRICES = [
    ("22.50", Decimal("22.5"), "USD"),
    (" 22 ", Decimal(22), "USD"),
    (14.4, Decimal("14.4"), "USD"),
    (0, Decimal(0), "USD"),
    (None, None, "USD"),
    ("", None, "USD"),
    ({"currencyCode": "EUR", "units": "22", "nanos": 500_000_000}, Decimal("22.5"), "EUR"),
]


@pytest.mark.parametrize(("raw", "price", "currency"), PRICES, ids=[str(row[0]) for row in PRICES])
def test_a_price_is_a_number_a_text_or_units_and_nanos(raw: Any, price: Decimal | None, currency: str) -> None:
    found = read_product(live(price=raw, currency="USD"), Dialect.LIVE)
    assert found.product is not None
    [offer] = found.product.offers
    assert (offer.price, offer.currency, found.problems) == (price, currency, [])


@pytest.mark.parametrize("raw", ["a lot", "1,234.50", -1, True, "NaN", "Infinity", [1], {"units": "x"}])
def test_what_is_no_price_is_named_with_its_field_and_the_product_is_taken(raw: Any) -> None:
    found = read_product(live(price=raw, currency="USD"), Dialect.LIVE)
    assert found.product is not None
    assert [offer.price for offer in found.product.offers] == [None]
    [problem] = found.problems
    assert problem.startswith("product 901: definition.skus[0].plans[0].phases[0].price is ")


ODD = [
    ({"definition": None}, 0, 0),
    ({"definition": {"skus": {"skuId": "S1"}}}, 0, 1),
    ({"definition": {"skus": ["S1", {"plans": []}]}}, 0, 2),
    ({"definition": {"skus": [{"id": "S1", "plans": [{"phases": [{"price": 1}, {"price": 2}]}]}]}}, 2, 0),
    ({"definition": {"skus": [{"id": "S1", "plans": [{"phases": [{"price": 1}]}] * 2}]}}, 1, 0),
]


@pytest.mark.parametrize(("more", "offers", "problems"), ODD, ids=[str(row[0]) for row in ODD])
def test_whatever_shape_it_has_nothing_is_raised(more: dict[str, Any], offers: int, problems: int) -> None:
    found = read_product({**live(), **more}, Dialect.LIVE)
    assert found.product is not None
    assert (len(found.product.offers), len(found.problems)) == (offers, problems)


def test_a_product_without_an_id_is_left_out_and_said_to_be() -> None:
    for dialect in Dialect:
        product, problems = read_product({"name": 7}, dialect)
        assert product is None
        assert problems == ["a product without an id was left out"]
