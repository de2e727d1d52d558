"""Orders: the module's table of verdicts, what an order costs, and which of ION's orders one is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from syncd.core.catalogue import Offer, OfferKey, Product
from syncd.core.order import (
    LIFE,
    Item,
    Order,
    OrderState,
    Seen,
    found_in,
    judge,
    settled,
    unlisted,
    value_of,
)
from syncd.core.values import Millis

NOW, LIMIT = Millis(1_000_000), Decimal(1_000)


def product(number: str = "901", **prices: str | None) -> Product:
    offers = [
        Offer(OfferKey("S1", "P1M", phase), name, None if price is None else Decimal(price), "USD")
        for phase, (name, price) in enumerate(prices.items())
    ]
    return Product(number, "Suite", None, None, tuple(offers))


SHELF = {
    "901": product(first="10", later="22.50"),
    "902": product("902", first=None),
    "903": product("903", first="0"),
}


def order(*items: Item, **more: object) -> Order:
    items = items or (Item("901", "S1", "P1M", 2),)
    made = Order("SO-1", "C1", items, OrderState.WAITING, Millis(NOW - 10), NOW, NOW)
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "ion_customer", "since", "state", "reason"),
    [
        (order(), None, 0, OrderState.WAITING, "customer C1 is not linked to ION"),
        (order(released_by="ann"), None, 0, OrderState.WAITING, "customer C1 is not linked to ION"),
        (order(Item("7", "S1", "P1M", 900), released_by="ann"), "3", NOW, OrderState.SENT, ""),
        (order(), "3", NOW, OrderState.HELD, "before syncd began to take orders"),
        (
            order(Item("7", "S1", "P1M", 1)),
            "3",
            0,
            OrderState.HELD,
            "items[0].product: the catalogue has no",
        ),
        (order(Item("902", "S1", "P1M", 1)), "3", 0, OrderState.HELD, "does not say what it costs"),
        (order(Item("903", "S1", "P1M", 1)), "3", 0, OrderState.HELD, "does not say what it costs"),
        (order(Item("901", "S1", "P1M", 45)), "3", 0, OrderState.HELD, "1012.50 USD, and the limit is 1000.00"),
        (order(Item("901", "S1", "P1M", 44)), "3", 0, OrderState.SENT, ""),
    ],
)
def test_what_becomes_of_an_order_that_was_not_sent(
    asked: Order, ion_customer: str | None, since: int, state: OrderState, reason: str
) -> None:
    found = judge(asked, ion_customer, SHELF, Millis(since), LIMIT)
    assert found.state is state
    assert (reason in found.reason) if reason else found.reason == ""


def test_each_thing_that_the_catalogue_lacks_is_named_by_its_field() -> None:
    items = [
        Item("901", "S1", "P1M", 1),
        Item("901", "S9", "", 1),
        Item("901", "S1", "P9", 1),
        Item("9", "", "", 1),
        Item("", "", "", 1, subscription="77"),
    ]
    assert unlisted(items, SHELF) == [
        "items[1].sku: product 901 has no SKU S9",
        "items[2].plan: SKU S1 has no plan P9",
        "items[3].product: the catalogue has no product 9",
    ]


def test_an_order_costs_what_its_dearest_phases_do_in_one_currency() -> None:
    two = [Item("901", "S1", "P1M", 2), Item("901", "", "", 1)]
    assert value_of(two, SHELF) == (Decimal("67.50"), "USD")
    assert value_of([Item("902", "", "", 1)], SHELF) == (None, None)
    euros = Product("904", None, None, None, (Offer(OfferKey("S3", "", 0), "Suite", Decimal(1), "EUR"),))
    assert value_of([*two, Item("904", "S3", "", 1)], {**SHELF, "904": euros}) == (None, None)


def seen(number: str, *, is_named: bool = False, status: str = "NEW") -> Seen:
    return Seen(number, status, Decimal(5), "EUR", is_named)


MINE, OTHER, THIRD = seen("1", is_named=True), seen("2"), seen("3")
AGAIN = seen("4", is_named=True)


@pytest.mark.parametrize(
    ("shown", "was_sent", "is_told", "found"),
    [
        ([OTHER, MINE], True, True, MINE),
        ([OTHER, MINE], False, False, MINE),
        ([MINE, AGAIN], True, True, (MINE, AGAIN)),
        ([OTHER], True, True, (OTHER,)),
        ([OTHER], False, True, ()),
        ([OTHER], True, False, OTHER),
        ([OTHER], False, False, (OTHER,)),
        ([THIRD, OTHER], True, False, (THIRD, OTHER)),
        ([seen("9"), seen("8", is_named=True)], True, False, ()),
        ([], True, True, ()),
    ],
)
def test_which_of_ions_orders_it_is(
    shown: list[Seen], was_sent: bool, is_told: bool, found: Seen | tuple[Seen, ...]
) -> None:
    assert found_in(shown, {"8", "9"}, was_sent=was_sent, is_told=is_told) == found


def test_what_ion_has_is_kept_as_it_says_and_without_what_only_the_sending_needed() -> None:
    sent = order(Item("901", "S1", "P1M", 2, attributes={"adminPassword": "hunter2"}), state=OrderState.SENT)
    placed = settled(sent, seen("7"), NOW, Millis(NOW + 60))
    assert (placed.state, placed.ion_order, placed.ion_status, placed.due) == (
        OrderState.PLACED,
        "7",
        "NEW",
        NOW + 60,
    )
    assert (placed.value, placed.currency) == (Decimal(5), "EUR")
    assert placed.items == sent.bare_items == (Item("901", "S1", "P1M", 2),)
    again = settled(placed, Seen("7", "ON_HOLD", None, None, True), Millis(NOW + 5), Millis(NOW + 99))
    assert (again.state, again.changed_at, again.value, again.due) == (OrderState.PLACED, NOW, Decimal(5), NOW + 99)
    done = settled(again, seen("7", status="COMPLETED"), Millis(NOW + 9), Millis(NOW + 99))
    assert (done.state, done.due, done.changed_at) == (OrderState.ENDED, None, NOW + 9)


def test_no_order_is_sent_from_a_state_in_which_it_may_be_in_ion() -> None:
    assert [before for before, after in LIFE if after is OrderState.SENT] == [OrderState.WAITING]
    assert {before for before, _ in LIFE} & {OrderState.ENDED, OrderState.REFUSED, OrderState.DROPPED} == {
        OrderState.REFUSED
    }
    with pytest.raises(ValueError, match="unknown cannot become sent"):
        order(state=OrderState.UNKNOWN).moved_to(OrderState.SENT, NOW, None)


def test_an_order_is_sent_soon_after_it_was_written_down_or_not_at_all() -> None:
    assert order(state=OrderState.UNKNOWN, sent_at=Millis(5)).send_by == 8_005
    assert order(state=OrderState.SENT).send_by == NOW - 10 + 8_000


def test_an_order_that_somebody_has_moved_is_another() -> None:
    assert order().is_as(order(reason="why", due=None))
    for moved in (order(state=OrderState.HELD), order(tries=1), order(changed_at=Millis(5))):
        assert not order().is_as(moved)
