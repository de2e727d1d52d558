"""The catalogue: what a listing says that was not known, row by row of the module's table."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.catalogue import CatalogueChange, Offer, OfferKey, Price, Product, changes_between, money
from syncd.core.values import Millis

NOW = Millis(7)
MONTHLY, YEARLY = OfferKey("S1", "P1M", 0), OfferKey("S1", "P1Y", 0)


def product(number: str = "1", name: str = "Suite", **prices: str | None) -> Product:
    keys = {"monthly": MONTHLY, "yearly": YEARLY}
    offers = (
        Offer(keys[plan], plan, None if price is None else Decimal(price), "USD") for plan, price in prices.items()
    )
    return Product(number, name, "Vendor", None, tuple(offers))


def moved(key: OfferKey, price: str | None) -> Price:
    return Price("1", key, None if price is None else Decimal(price), "USD", NOW)


def test_what_is_new_is_told_with_all_its_prices() -> None:
    new = product(monthly="22", yearly="240")
    assert changes_between({}, [new], NOW) == [
        CatalogueChange(new, True, (moved(MONTHLY, "22"), moved(YEARLY, "240")))
    ]


def test_what_is_as_it_was_is_not_told_whatever_way_its_price_is_spelled() -> None:
    assert changes_between({"1": product(monthly="22.0")}, [product(monthly="22.00")], NOW) == []


def test_of_what_changed_only_the_prices_that_moved_go_on() -> None:
    after = product(name="Suite 2", monthly="22", yearly="250")
    known = {"1": product(monthly="22", yearly="240")}
    assert changes_between(known, [after], NOW) == [CatalogueChange(after, False, (moved(YEARLY, "250"),))]
    renamed = product(name="Suite 2", monthly="22")
    assert changes_between({"1": product(monthly="22")}, [renamed], NOW) == [CatalogueChange(renamed, False, ())]


def test_a_price_that_is_named_no_more_ends_and_so_does_that_of_an_offer_which_the_product_has_no_more() -> None:
    unpriced = product(monthly=None)
    known = {"1": product(monthly="22", yearly="240")}
    ended = (Price("1", MONTHLY, None, "USD", NOW), Price("1", YEARLY, None, None, NOW))
    assert changes_between(known, [unpriced], NOW) == [CatalogueChange(unpriced, False, ended)]


def test_what_is_not_listed_is_nothing_new() -> None:
    assert changes_between({"1": product(monthly="22")}, [], NOW) == []


def test_of_a_product_listed_twice_the_last_row_counts() -> None:
    first, last = product(monthly="1"), product(monthly="2")
    assert [change.product for change in changes_between({}, [first, last], NOW)] == [last]


prices = st.decimals(0, 10_000, places=2, allow_nan=False)
products = st.builds(
    lambda number, found: product(str(number), **{plan: str(price) for plan, price in found.items()}),
    st.integers(0, 4),
    st.dictionaries(st.sampled_from(["monthly", "yearly"]), prices),
)


@given(st.lists(products), st.lists(products))
def test_a_listing_taken_in_twice_changes_nothing_the_second_time(
    known: list[Product], listed: list[Product]
) -> None:
    held = {one.id: one for one in known}
    held |= {change.product.id: change.product for change in changes_between(held, listed, NOW)}
    latest = list({one.id: one for one in listed}.values())
    assert changes_between(held, latest, NOW) == []
    assert all(held[one.id] == one for one in latest)


def test_money_has_two_decimals_or_as_many_as_it_needs() -> None:
    told = [money(Decimal(text)) for text in ("5", "1.5", "22.500", "0.0042", "1E+30", "0")]
    assert told == ["5.00", "1.50", "22.50", "0.0042", f"1{'0' * 30}.00", "0.00"]
