"""What can be asked of ION beside customer sync: each operation in either dialect, as one table. Pure.

The live shapes are those of the vendor's API reference and client; where neither speaks (the paths of
verticals and of provisioning templates), the table holds the likeliest, and ``syncd ion request`` reaches any other.

Next: ``market``, which makes the calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from syncd.core.errors import Transient, UserError
from syncd.core.policy import Dialect

Body = Mapping[str, Any]


class Pages(StrEnum):
    """How a list goes on after its first page."""

    CURSOR = "cursor"
    NUMBERED = "numbered"
    OFFSET = "offset"


@dataclass(frozen=True, slots=True)
class Call:
    """How one dialect is asked. ``path`` lies below ``/api/v3``; what stands in braces is named by the caller."""

    method: str
    path: str
    rows: str | None = None
    """Where the answer keeps the rows of a list; ``None``: it is one object."""
    pages: Pages | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    """What a caller may narrow it by, and how ION calls that."""
    sift: Mapping[str, str] = field(default_factory=dict)
    """What ION can't narrow it by and we can, and the key of a row that says it."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """What stands in the path where the caller names nothing."""
    body: Callable[[Mapping[str, str], Body], Body] | None = None
    """From the names in the path and what was given, what is sent; ``None``: as it was given."""
    check: Callable[[Body], None] | None = None
    is_read: bool = False
    """It changes nothing, whatever its method."""
    within: str | None = None
    """The path where a customer is named, if that is another."""


@dataclass(frozen=True, slots=True)
class Operation:
    does: str
    live: Call | str
    """Or what the dialect lacks, in a sentence."""
    seed: Call | str

    def call(self, dialect: Dialect) -> Call:
        found = self.live if dialect is Dialect.LIVE else self.seed
        if isinstance(found, str):
            raise UserError(f"the {dialect} dialect of ION {found}")
        return found


class Request(NamedTuple):
    method: str
    path: str
    query: Mapping[str, str]
    body: Body | None
    writes: bool


def request_of(call: Call, account: str, named: Mapping[str, str], body: Body | None) -> Request:
    """What is sent. ``named``: ids for the path, and what a list is narrowed by.

    Raises a ``UserError`` for what is missing, can't be an id, or would not narrow the list.
    """
    path = call.within if call.within and named.get("customer") else call.path
    places = re.findall(r"{(\w+)}", path)
    narrowing = {*places, *call.query, *call.sift} - {"account"} | ({"customer"} if call.within else set())
    unused = sorted(named.keys() - narrowing)
    if unused and call.rows is not None:
        known = ", ".join(sorted(narrowing)) or "nothing"
        raise UserError(f"this dialect of ION can't narrow this list by {', '.join(unused)}, only by {known}")
    for name in places:
        text = {"account": account, **call.defaults, **named}.get(name)
        if not text:
            raise UserError(f"say which {name}: this dialect of ION needs it")
        path = path.replace(f"{{{name}}}", _segment(text, name))
    if body is not None:
        if call.check is not None:
            call.check(body)
        body = body if call.body is None else call.body(named, body)
    query = {parameter: named[name] for name, parameter in call.query.items() if name in named}
    return Request(call.method, path, query, body, call.method != "GET" and not call.is_read)


def _segment(text: str, name: str) -> str:
    """An id as a part of a path, which it must not leave."""
    if not re.fullmatch(r"[\w.@-]+", text) or set(text) == {"."}:
        raise UserError(f"{text!r} is no id of a {name} in ION")
    return text


# -- what is checked before anything is sent


def check_order(body: Body) -> None:
    _check_items(body.get("orderItems"), "orderItems", ("productId", "skuId", "planId"))


def check_update(body: Body) -> None:
    """An order that only changes subscriptions: whatever else it held would be bought."""
    check_order(body)
    for number, item in enumerate(body["orderItems"]):
        if item.get("action") != "UPDATE":
            raise UserError(
                f"orderItems[{number}].action must be UPDATE: `syncd ion orders create` orders what is new"
            )


def check_seed_order(body: Body) -> None:
    _check_items(body.get("items"), "items", ("productId",))


def check_cart_item(body: Body) -> None:
    _check_items([body], "", ("productId",))


def check_cart(body: Body) -> None:
    if "items" in body:
        _check_items(body["items"], "items", ("productId",))


def check_seats(body: Body) -> None:
    unknown = sorted(body.keys() - {"quantity", "status", "autoRenew"})
    if unknown or not body:
        raise UserError(f"a subscription's quantity, status or autoRenew can be changed, not {unknown or 'nothing'}")
    if "quantity" in body:
        _check_quantity(body["quantity"], "quantity")
    if body.get("status", "active") not in ("active", "suspended", "cancelled"):
        raise UserError(f"status must be active, suspended or cancelled, not {body['status']!r}")


def _check_items(items: object, where: str, needed: tuple[str, ...]) -> None:
    if not isinstance(items, list) or not items:
        raise UserError(f"{where} must be a list of at least one item")
    for number, item in enumerate(items):
        at = f"{where}[{number}]." if where else ""
        if not isinstance(item, Mapping):
            raise UserError(f"{at.removesuffix('.') or 'the item'} must be an object")
        for name in needed:
            if item.get("action") != "UPDATE" and not item.get(name):
                raise UserError(f"{at}{name} is missing")
        if item.get("action") == "UPDATE" and not item.get("resourceId"):
            raise UserError(f"{at}resourceId is missing: an UPDATE names the subscription that it changes")
        _check_quantity(item.get("quantity"), f"{at}quantity")


def _check_quantity(quantity: object, where: str) -> None:
    if not isinstance(quantity, int) or isinstance(quantity, bool) or quantity < 1:
        raise UserError(f"{where} must be a whole number above zero, not {quantity!r}")


# -- the table


def _with_customer(names: Mapping[str, str], body: Body) -> Body:
    if not names.get("customer"):
        raise UserError("say which customer: this dialect of ION needs it")
    return {"customerId": names["customer"], **body}


ACCOUNT, CUSTOMER = "accounts/{account}", "accounts/{account}/customers/{customer}"
CARTS = "customers/{customer}/carts"


def _listed(path: str, rows: str, **query: str) -> Call:
    """A list of the live dialect, page by page with a cursor."""
    return Call("GET", path, rows, Pages.CURSOR, query)


def _items(path: str, **query: str) -> Call:
    """A list of the seed dialect, in numbered pages."""
    return Call("GET", path, "items", Pages.NUMBERED, query)


OPERATIONS: Mapping[str, Operation] = {
    "customers list": Operation(
        "the customers of the account",
        _listed(f"{ACCOUNT}/customers", "customers", email="filter.customerEmail", contact="filter.customerName"),
        _items(f"{ACCOUNT}/customers"),
    ),
    "customers get": Operation("one customer", Call("GET", CUSTOMER), Call("GET", CUSTOMER)),
    "customers create": Operation(
        "a new customer", Call("POST", f"{ACCOUNT}/customers"), Call("POST", f"{ACCOUNT}/customers")
    ),
    "customers update": Operation(
        "a customer's record, replaced whole", Call("PUT", CUSTOMER), Call("PUT", CUSTOMER)
    ),
    "products list": Operation(
        "the catalogue",
        _listed(
            f"{ACCOUNT}/products",
            "products",
            name="filter.name",
            sku="filter.skuId",
            part="filter.mfgPartNumber",
            provider="filter.cloudProviderId",
            language="language",
        ),
        _items(f"{ACCOUNT}/products", vendor="vendor", category="category", currency="currency"),
    ),
    "products get": Operation(
        "one product with its SKUs and prices",
        Call("GET", f"{ACCOUNT}/products/{{product}}"),
        Call("GET", f"{ACCOUNT}/products/{{product}}"),
    ),
    "verticals list": Operation(
        "the verticals that products are sold in",
        Call("GET", f"{ACCOUNT}/verticals", "verticals"),
        "has no list of verticals",
    ),
    "templates get": Operation(
        "a provisioning template: what a vendor wants to know with an order",
        Call("GET", f"{ACCOUNT}/provisioningTemplates/{{template}}"),
        "has no provisioning templates",
    ),
    "templates by-vendor": Operation(
        "a vendor's provisioning templates",
        Call("GET", f"{ACCOUNT}/provisioningTemplates", "provisioningTemplates", None, {"vendor": "vendor"}),
        "has no provisioning templates",
    ),
    "orders list": Operation(
        "the orders of the account, or of one customer",
        replace(_listed(f"{ACCOUNT}/orders", "orders", status="status"), within=f"{CUSTOMER}/orders"),
        replace(_items(f"{ACCOUNT}/orders", status="status"), sift={"customer": "customerId"}),
    ),
    "orders get": Operation(
        "one order",
        Call("GET", f"{CUSTOMER}/orders/{{order}}", defaults={"customer": "-"}),
        Call("GET", f"{ACCOUNT}/orders/{{order}}"),
    ),
    "orders create": Operation(
        "a new order",
        Call("POST", f"{CUSTOMER}/orders", check=check_order),
        Call("POST", f"{ACCOUNT}/orders", body=_with_customer, check=check_seed_order),
    ),
    "orders update": Operation(
        "an order that changes subscriptions: each item has the action UPDATE and its resourceId",
        Call("POST", f"{CUSTOMER}/orders", check=check_update),
        "has no orders that change something: use `syncd ion subscriptions update`",
    ),
    "orders cancel": Operation(
        "an order that is NEW or ON_HOLD, cancelled",
        Call("POST", f"{CUSTOMER}/orders/{{order}}:cancel"),
        "can't cancel an order",
    ),
    "subscriptions list": Operation(
        "the subscriptions of a customer, or of all",
        Call(
            "GET",
            f"{ACCOUNT}/subscriptions",
            "items",
            Pages.OFFSET,
            {"customer": "customerId", "status": "subscriptionStatus", "provider": "cloudProviderName"},
        ),
        _items(f"{CUSTOMER}/subscriptions"),
    ),
    "subscriptions get": Operation(
        "one subscription",
        Call("GET", f"{CUSTOMER}/subscriptions/{{subscription}}"),
        Call("GET", f"{CUSTOMER}/subscriptions/{{subscription}}"),
    ),
    "subscriptions update": Operation(
        "a subscription's seats; in the live dialect by an order",
        Call("POST", f"{CUSTOMER}/orders", check=check_update),
        Call("PUT", f"{CUSTOMER}/subscriptions/{{subscription}}", check=check_seats),
    ),
    "carts create": Operation(
        "a new cart",
        Call("POST", CARTS),
        Call("POST", f"{ACCOUNT}/cart", body=_with_customer, check=check_cart),
    ),
    "carts add": Operation(
        "one more item in a cart",
        Call("POST", f"{CARTS}/{{cart}}/cartItems", check=check_cart_item),
        "takes a cart's items when it is made: give them to `syncd ion carts create`",
    ),
    "carts checkout": Operation(
        "the cart made an order",
        Call("POST", f"{CARTS}/{{cart}}:checkout"),
        Call("POST", f"{ACCOUNT}/cart/{{cart}}/checkout"),
    ),
    "reports list": Operation(
        "the reports there are",
        Call("GET", f"{ACCOUNT}/reports", "reports", None, {"module": "module"}),
        Call("GET", f"{ACCOUNT}/reports", "", None, {"format": "format"}),
    ),
    "reports data": Operation(
        "a report's rows",
        Call("POST", f"{ACCOUNT}/reports/{{report}}/reportDataCsv", is_read=True),
        "names its reports and does not give their rows",
    ),
}


def update_order(subscription: Any, changes: Body) -> Body:
    """The order by which the live dialect changes a subscription's seats."""
    if not isinstance(subscription, Mapping) or not subscription.get("id"):
        raise Transient("ION answered a subscription with something that has no id")
    if "quantity" not in changes or len(changes) > 1:
        raise UserError("the live dialect of ION changes a subscription's quantity only")
    wanted = {"productId": "ccpProductId", "skuId": "ccpSkuId", "planId": "ccpPlanId"}
    item = {name: str(subscription[key]) for name, key in wanted.items() if subscription.get(key)}
    return {
        "orderItems": [
            {"action": "UPDATE", **item, "resourceId": str(subscription["id"]), "quantity": changes["quantity"]}
        ]
    }
