"""What is asked of ION in either dialect, row by row, and what is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.core.errors import UserError
from syncd.core.policy import Dialect
from syncd.ion.operations import OPERATIONS, request_of, update_order
from syncd.ion.reports import read_report
from syncd.ion.rows import COLUMNS, row_of

NAMED = {"customer": "7", "product": "p1", "order": "o1", "subscription": "s1", "cart": "c1", "template": "t1"}
NAMED |= {"report": "r1"}
A, C = "accounts/1", "accounts/1/customers/7"
LIVE_ITEM = {"productId": "p", "skuId": "s", "planId": "m", "quantity": 2}
LIVE_ORDER = {"orderItems": [LIVE_ITEM]}
LIVE_CHANGE = {"orderItems": [{**LIVE_ITEM, "action": "UPDATE", "resourceId": "s1"}]}
SEED_ORDER = {"items": [{"productId": "p", "quantity": 2}]}

ASKED = [
    ("customers list", {}, ("GET", f"{A}/customers"), ("GET", f"{A}/customers")),
    ("customers get", None, ("GET", C), ("GET", C)),
    ("customers create", {}, ("POST", f"{A}/customers"), ("POST", f"{A}/customers")),
    ("customers update", {}, ("PUT", C), ("PUT", C)),
    ("products list", None, ("GET", f"{A}/products"), ("GET", f"{A}/products")),
    ("products get", None, ("GET", f"{A}/products/p1"), ("GET", f"{A}/products/p1")),
    ("verticals list", None, ("GET", f"{A}/verticals"), None),
    ("templates get", None, ("GET", f"{A}/provisioningTemplates/t1"), None),
    ("templates by-vendor", None, ("GET", f"{A}/provisioningTemplates"), None),
    ("orders list", None, ("GET", f"{A}/orders"), ("GET", f"{A}/orders")),
    ("orders get", None, ("GET", f"{C}/orders/o1"), ("GET", f"{A}/orders/o1")),
    ("orders create", LIVE_ORDER | SEED_ORDER, ("POST", f"{C}/orders"), ("POST", f"{A}/orders")),
    ("orders update", LIVE_CHANGE, ("POST", f"{C}/orders"), None),
    ("orders cancel", {}, ("POST", f"{C}/orders/o1:cancel"), None),
    ("subscriptions list", None, ("GET", f"{A}/subscriptions"), ("GET", f"{C}/subscriptions")),
    ("subscriptions get", None, ("GET", f"{C}/subscriptions/s1"), ("GET", f"{C}/subscriptions/s1")),
    (
        "subscriptions update",
        {"quantity": 2, **LIVE_CHANGE},
        ("POST", f"{C}/orders"),
        ("PUT", f"{C}/subscriptions/s1"),
    ),
    ("carts create", {}, ("POST", "customers/7/carts"), ("POST", f"{A}/cart")),
    ("carts add", LIVE_ITEM, ("POST", "customers/7/carts/c1/cartItems"), None),
    ("carts checkout", {}, ("POST", "customers/7/carts/c1:checkout"), ("POST", f"{A}/cart/c1/checkout")),
    ("reports list", None, ("GET", f"{A}/reports"), ("GET", f"{A}/reports")),
    ("reports data", {}, ("POST", f"{A}/reports/r1/reportDataCsv"), None),
]


def test_every_operation_is_in_the_table_below() -> None:
    assert [row[0] for row in ASKED] == list(OPERATIONS)


@pytest.mark.parametrize(("name", "body", "live", "seed"), ASKED, ids=[row[0] for row in ASKED])
def test_each_operation_is_asked_as_its_dialect_wants(
    name: str, body: Any, live: tuple[str, str], seed: tuple[str, str] | None
) -> None:
    for dialect, asked in ((Dialect.LIVE, live), (Dialect.SEED, seed)):
        if asked is None:
            with pytest.raises(UserError, match=r"^the seed dialect of ION "):
                OPERATIONS[name].call(dialect)
            continue
        call = OPERATIONS[name].call(dialect)
        places = {place: text for place, text in NAMED.items() if f"{{{place}}}" in call.path or place == "customer"}
        sent = {"quantity": 2} if name == "subscriptions update" and dialect is Dialect.SEED else body
        request = request_of(call, "1", places if call.rows is None else _without(places, call), sent)
        assert (request.method, request.path) == asked


def _without(places: dict[str, str], call: Any) -> dict[str, str]:
    return {place: text for place, text in places.items() if f"{{{place}}}" in call.path}


def test_the_seed_dialect_is_told_the_customer_of_an_order_and_of_a_cart_in_the_body() -> None:
    for name in ("orders create", "carts create"):
        call = OPERATIONS[name].call(Dialect.SEED)
        body = request_of(call, "1", {"customer": "7"}, SEED_ORDER).body
        assert body == {"customerId": "7", **SEED_ORDER}
        with pytest.raises(UserError, match="say which customer"):
            request_of(call, "1", {}, SEED_ORDER)


def test_a_list_is_narrowed_as_the_dialect_calls_it_and_never_silently_not() -> None:
    live, seed = (OPERATIONS["orders list"].call(dialect) for dialect in Dialect)
    assert request_of(live, "1", {"customer": "7"}, None).path == "accounts/1/customers/7/orders"
    assert request_of(live, "1", {"status": "NEW"}, None)[1:3] == ("accounts/1/orders", {"status": "NEW"})
    assert request_of(seed, "1", {"customer": "7"}, None).query == {}
    assert seed.sift == {"customer": "customerId"}
    with pytest.raises(UserError, match="can't narrow this list by vendor, only by language"):
        request_of(OPERATIONS["products list"].call(Dialect.LIVE), "1", {"vendor": "Microsoft"}, None)


@pytest.mark.parametrize("text", ["../7", "7/../8", "7?x=1", "", "..", "7#"])
def test_an_id_can_not_leave_its_place_in_the_path(text: str) -> None:
    with pytest.raises(UserError):
        request_of(OPERATIONS["customers get"].call(Dialect.LIVE), "1", {"customer": text}, None)


REFUSED = [
    ({}, "orderItems must be a list of at least one item"),
    ({"orderItems": []}, "orderItems must be a list of at least one item"),
    ({"orderItems": ["x"]}, r"orderItems\[0\] must be an object"),
    ({"orderItems": [{"quantity": 1}]}, r"orderItems\[0\].productId is missing"),
    ({"orderItems": [LIVE_ITEM | {"skuId": ""}]}, r"orderItems\[0\].skuId is missing"),
    ({"orderItems": [LIVE_ITEM, LIVE_ITEM | {"quantity": 0}]}, r"orderItems\[1\].quantity must be a whole number"),
    ({"orderItems": [LIVE_ITEM | {"quantity": -1}]}, "quantity must be a whole number above zero, not -1"),
    ({"orderItems": [LIVE_ITEM | {"quantity": "2"}]}, "quantity must be a whole number above zero, not '2'"),
    ({"orderItems": [LIVE_ITEM | {"quantity": True}]}, "quantity must be a whole number"),
    ({"orderItems": [{"action": "UPDATE", "quantity": 2}]}, r"orderItems\[0\].resourceId is missing"),
]


@pytest.mark.parametrize(("body", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_an_order_that_can_not_be_right_is_refused_with_its_field_before_it_is_sent(body: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        request_of(OPERATIONS["orders create"].call(Dialect.LIVE), "1", {"customer": "7"}, body)


@pytest.mark.parametrize("body", [{}, {"seats": 2}, {"quantity": 0}, {"status": "paused"}])
def test_a_subscription_changes_only_in_what_it_has(body: Any) -> None:
    with pytest.raises(UserError):
        request_of(OPERATIONS["subscriptions update"].call(Dialect.SEED), "1", NAMED, body)


def test_what_is_meant_to_change_subscriptions_buys_nothing() -> None:
    body = {"orderItems": [*LIVE_CHANGE["orderItems"], LIVE_ITEM]}
    with pytest.raises(UserError, match=r"orderItems\[1\].action must be UPDATE"):
        request_of(OPERATIONS["orders update"].call(Dialect.LIVE), "1", {"customer": "7"}, body)


def test_the_live_dialect_changes_seats_by_an_order() -> None:
    held = {"id": 12, "ccpProductId": "p", "ccpSkuId": "s", "ccpPlanId": "m", "subscriptionTotalLicenses": "3"}
    [item] = update_order(held, {"quantity": 5})["orderItems"]
    assert item == {
        "action": "UPDATE",
        "productId": "p",
        "skuId": "s",
        "planId": "m",
        "resourceId": "12",
        "quantity": 5,
    }
    for more in ({"status": "suspended"}, {"quantity": 5, "autoRenew": True}):
        with pytest.raises(UserError, match="quantity only"):
            update_order(held, more)


def test_rows_are_read_from_either_dialect_and_what_is_odd_is_blank() -> None:
    live = {"name": "accounts/1/customers/7/orders/9", "status": "NEW", "total": "66.5", "orderItems": [{}]}
    seed = {"orderId": "9", "customerId": "7", "status": "pending", "totalAmount": 66.5}
    for raw, dialect in ((live, Dialect.LIVE), (seed, Dialect.SEED)):
        row = row_of("orders", raw, dialect)
        assert (row["id"], row["customer"], row["currency"]) == ("9", "7", None)
    assert set(row_of("products", {"definition": {"skus": [{"plans": "none"}]}}, Dialect.LIVE).values()) == {None}
    assert {name.partition(" ")[0] for name, call in OPERATIONS.items() if name.endswith("list")} <= set(COLUMNS)


def test_a_report_is_read_and_a_broken_one_names_its_line() -> None:
    text = 'customer,note\n7,"two\nlines"\n8,x\n'
    assert read_report({"results": text}) == (["customer", "note"], [["7", "two\nlines"], ["8", "x"]])
    assert read_report({"results": ""}) == ([], [])
    for broken, said in (("a,b\n1,2\n1,2,3", "row 2 has 3 values for 2"), ('a,b\n"1,2', "broken"), (7, "results")):
        with pytest.raises(UserError, match=said):
            read_report({"results": broken})
