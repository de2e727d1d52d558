"""The rest of a simulated ION: products, orders, subscriptions, carts and reports, small and believable.

Both dialects; the shapes follow the same documents as the customers.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Named = Callable[[str, Handler], Handler]

CATALOGUE = (
    ("Microsoft 365 Business Premium", "Microsoft", "Productivity", "CFQ7TTC0LCHC", 22.0),
    ("Microsoft 365 E3", "Microsoft", "Productivity", "CFQ7TTC0LFLX", 36.0),
    ("Google Workspace Business Standard", "Google", "Productivity", "GAPPS-BST-1", 14.4),
    ("Azure Plan", "Microsoft", "Infrastructure", "DZH318Z0BPS6", 1.0),
    ("Endpoint Security Complete", "Trend Micro", "Security", "TM-EP-0042", 4.5),
)


@dataclass(slots=True)
class Shop:
    products: list[dict[str, Any]] = field(default_factory=list)
    subscriptions: list[dict[str, Any]] = field(default_factory=list)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    carts: dict[str, dict[str, Any]] = field(default_factory=dict)
    next_number: int = 7001
    customers: Collection[str] = ()
    """Ids of the customers there are."""
    answers: dict[str, Any] = field(default_factory=dict)
    """By operation, what is answered instead of the truth."""

    def stock(self, rng: Random, customers: Collection[str], more_products: int = 0) -> None:
        self.customers = customers
        for number, (name, vendor, category, sku, price) in enumerate([*CATALOGUE, *_more(rng, more_products)], 1):
            self.products.append(
                {
                    "id": str(900 + number),
                    "name": name,
                    "vendor": vendor,
                    "category": category,
                    "sku": sku,
                    "price": price,
                }
            )
        for customer in list(customers)[:50]:
            product = rng.choice(self.products[: len(CATALOGUE)])
            self.subscriptions.append(
                {"id": str(self.number()), "customer": customer, "product": product, "seats": rng.randrange(1, 60)}
            )

    def number(self) -> int:
        self.next_number += 1
        return self.next_number

    def edit(self, kind: str, id: str, changes: dict[str, Any]) -> dict[str, Any]:
        rows = {"products": self.products, "subscriptions": self.subscriptions, "orders": self.orders.values()}
        row = next(row for row in rows[kind] if row["id"] == id)
        row.update({name: value for name, value in changes.items() if name in row or name == "status"})
        return row

    def product(self, product_id: str) -> dict[str, Any] | None:
        return next((product for product in self.products if product["id"] == product_id), None)


def _more(rng: Random, count: int) -> Iterator[tuple[str, str, str, str, float]]:
    """Made-up products, to make the catalogue long."""
    for number in range(count):
        _, vendor, category, _, _ = rng.choice(CATALOGUE)
        yield f"{vendor} {category} {number}", vendor, category, f"MADE-{number:06d}", rng.randrange(100, 9_000) / 100


class NotThere(Exception):
    """The thing named in the path does not exist."""


def routes(shop: Shop, is_live: bool, named: Named, authorise: Callable[[web.Request], None]) -> list[web.RouteDef]:
    wire = _Live(shop) if is_live else _Seed(shop)

    def route(
        method: str, path: str, handler: Callable[[web.Request, dict[str, Any]], tuple[int, Any]]
    ) -> web.RouteDef:
        async def handle(request: web.Request) -> web.StreamResponse:
            authorise(request)
            try:
                raw = await request.read()
                body = orjson.loads(raw) if raw else {}
                status, answer = handler(request, body if isinstance(body, dict) else {})
                answer = shop.answers.get(handler.__name__, answer)
            except orjson.JSONDecodeError:
                status, answer = 400, _error(400, "INVALID_REQUEST", "the body is not JSON")
            except NotThere as missing:
                status, answer = 404, _error(404, "NOT_FOUND", f"resource '{missing}' not found")
            except ValueError as wrong:
                status, answer = 400, _error(400, "INVALID_ARGUMENT", str(wrong))
            if status == 204:
                return web.Response(status=204)
            return web.Response(body=orjson.dumps(answer), status=status, content_type="application/json")

        return web.route(method, path, named(handler.__name__, handle))

    return [route(method, path, handler) for method, path, handler in wire.table()]


Row = tuple[str, str, Callable[[web.Request, dict[str, Any]], tuple[int, Any]]]
ACCOUNT = "/api/v3/accounts/{account}"
CUSTOMER = ACCOUNT + "/customers/{customer}"


class _Live:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def table(self) -> list[Row]:
        cart = "/api/v3/customers/{customer}/carts"
        return [
            ("GET", f"{ACCOUNT}/products", self.list_products),
            ("GET", f"{ACCOUNT}/products/{{product}}", self.get_product),
            ("GET", f"{ACCOUNT}/verticals", self.list_verticals),
            ("GET", f"{ACCOUNT}/provisioningTemplates/{{template}}", self.get_template),
            ("GET", f"{ACCOUNT}/provisioningTemplates", self.list_templates),
            ("GET", f"{ACCOUNT}/orders", self.list_orders),
            ("GET", f"{CUSTOMER}/orders", self.list_orders),
            ("POST", f"{CUSTOMER}/orders", self.create_order),
            ("POST", f"{CUSTOMER}/orders/", self.create_order),
            ("GET", f"{CUSTOMER}/orders/{{order}}", self.get_order),
            ("POST", f"{CUSTOMER}/orders/{{order}}:cancel", self.cancel_order),
            ("GET", f"{ACCOUNT}/subscriptions", self.list_subscriptions),
            ("GET", f"{CUSTOMER}/subscriptions/{{subscription}}", self.get_subscription),
            ("GET", cart, self.list_carts),
            ("POST", cart, self.create_cart),
            ("GET", f"{cart}/{{cart}}", self.get_cart),
            ("DELETE", f"{cart}/{{cart}}", self.delete_cart),
            ("POST", f"{cart}/{{cart}}/cartItems", self.add_item),
            ("POST", f"{cart}/{{cart}}:checkout", self.check_out),
            ("GET", f"{ACCOUNT}/reports", self.list_reports),
            ("GET", f"{ACCOUNT}/reports/{{report}}", self.get_report),
            ("POST", f"{ACCOUNT}/reports/{{report}}/reportDataCsv", self.report_data),
        ]

    def list_products(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        name = request.query.get("filter.name", "").casefold()
        rows = [product for product in self.shop.products if name in product["name"].casefold()]
        page, token = _page(request, rows)
        return 200, _with_token({"products": [self._product(request, row) for row in page]}, token)

    def get_product(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        product = self.shop.product(request.match_info["product"])
        if product is None:
            raise NotThere(f"products/{request.match_info['product']}")
        return 200, self._product(request, product)

    def list_verticals(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"verticals": [{"id": "1", "displayName": "Commercial"}, {"id": "2", "displayName": "Education"}]}

    def list_templates(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        vendor = request.query.get("vendor", "Microsoft")
        return 200, {"provisioningTemplates": [_template("1", vendor)]}

    def get_template(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, _template(request.match_info["template"], "Microsoft")

    def list_orders(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        customer = request.match_info.get("customer", "-")
        rows = [order for order in self.shop.orders.values() if customer in ("-", order["customer"])]
        page, token = _page(request, rows)
        return 200, _with_token({"orders": [self._order(request, row) for row in page]}, token)

    def create_order(self, request: web.Request, body: dict[str, Any]) -> tuple[int, Any]:
        order = make_order(self.shop, request.match_info["customer"], body.get("orderItems"), body.get("referenceId"))
        return 200, self._order(request, order)

    def get_order(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, self._order(request, self._known_order(request))

    def cancel_order(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        order = self._known_order(request)
        if order["status"] not in ("NEW", "ON_HOLD"):
            return 412, _error(412, "FAILED_PRECONDITION", f"an order that is {order['status']} can't be cancelled")
        order["status"] = "CANCELED"
        return 200, self._order(request, order)

    def list_subscriptions(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        customer = request.query.get("customerId")
        rows = [row for row in self.shop.subscriptions if customer in (None, row["customer"])]
        limit, start = (
            int(request.query.get("pagination.limit", "100")),
            int(request.query.get("pagination.offset", "0")),
        )
        page = [_live_subscription(row) for row in rows[start : start + limit]]
        return 200, {"items": page, "paginationResponse": {"totalSize": len(rows)}}

    def get_subscription(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, _live_subscription(known_subscription(self.shop, request))

    def list_carts(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, {
            "carts": [c for c in self.shop.carts.values() if c["customerId"] == request.match_info["customer"]]
        }

    def create_cart(self, request: web.Request, body: dict[str, Any]) -> tuple[int, Any]:
        cart: dict[str, Any] = {
            "id": str(self.shop.number()),
            "customerId": request.match_info["customer"],
            "cartItems": [],
            "status": "OPEN",
        }
        self.shop.carts[cart["id"]] = cart
        return 201, cart

    def get_cart(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, known_cart(self.shop, request)

    def delete_cart(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        del self.shop.carts[str(known_cart(self.shop, request)["id"])]
        return 204, None

    def add_item(self, request: web.Request, body: dict[str, Any]) -> tuple[int, Any]:
        cart = known_cart(self.shop, request)
        check_items(self.shop, [body])
        cart["cartItems"].append(body)
        return 201, cart

    def check_out(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        cart = known_cart(self.shop, request)
        if cart["status"] != "OPEN":
            return 412, _error(412, "FAILED_PRECONDITION", "the cart was checked out before")
        cart["status"] = "CHECKED_OUT"
        return 200, self._order(request, make_order(self.shop, cart["customerId"], cart["cartItems"], None))

    def list_reports(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"reports": [{"reportId": "11", "displayName": "Billing by customer", "module": "BILLING"}]}

    def get_report(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, {
            "reportId": request.match_info["report"],
            "displayName": "Billing by customer",
            "module": "BILLING",
        }

    def report_data(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        rows = [f"{s['customer']},{s['product']['sku']},{s['seats']}" for s in self.shop.subscriptions]
        return 200, {"results": "\n".join(["customer,sku,seats", *rows]), "resultCount": str(len(rows))}

    def _known_order(self, request: web.Request) -> dict[str, Any]:
        order = self.shop.orders.get(request.match_info["order"].removesuffix(":cancel"))
        if order is None or request.match_info["customer"] not in ("-", order["customer"]):
            raise NotThere(f"orders/{request.match_info['order']}")
        return order

    def _product(self, request: web.Request, product: dict[str, Any]) -> dict[str, Any]:
        plan = {
            "planId": "P1M",
            "displayName": "Monthly",
            "phases": [{"price": str(product["price"]), "currency": "USD"}],
        }
        sku = {"skuId": product["sku"], "displayName": product["name"], "plans": [plan]}
        return {
            "name": f"accounts/{request.match_info['account']}/products/{product['id']}",
            "id": product["id"],
            "type": "SAAS",
            "categories": [product["category"]],
            "marketing": {"displayName": product["name"], "vendor": product["vendor"]},
            "definition": {"skus": [sku]},
            "createTime": "2025-01-15T08:00:00Z",
            "updateTime": "2025-06-01T08:00:00Z",
        }

    def _order(self, request: web.Request, order: dict[str, Any]) -> dict[str, Any]:
        account = request.match_info.get("account", "20481")
        return {
            "name": f"accounts/{account}/customers/{order['customer']}/orders/{order['id']}",
            "referenceId": order["reference"],
            "status": order["status"],
            "currencyCode": "USD",
            "total": order["total"],
            "orderItems": order["items"],
            "createTime": order["created"],
            "updateTime": order["created"],
        }


class _Seed:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def table(self) -> list[Row]:
        return [
            ("GET", f"{ACCOUNT}/products", self.list_products),
            ("GET", f"{ACCOUNT}/products/{{product}}", self.get_product),
            ("GET", f"{ACCOUNT}/orders", self.list_orders),
            ("POST", f"{ACCOUNT}/orders", self.create_order),
            ("GET", f"{ACCOUNT}/orders/{{order}}", self.get_order),
            ("GET", f"{CUSTOMER}/subscriptions", self.list_subscriptions),
            ("GET", f"{CUSTOMER}/subscriptions/{{subscription}}", self.get_subscription),
            ("PUT", f"{CUSTOMER}/subscriptions/{{subscription}}", self.update_subscription),
            ("POST", f"{ACCOUNT}/cart", self.create_cart),
            ("POST", f"{ACCOUNT}/cart/{{cart}}/checkout", self.check_out),
            ("GET", f"{ACCOUNT}/reports", self.list_reports),
        ]

    def list_products(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        wanted = {name: request.query[name] for name in ("vendor", "category") if name in request.query}
        rows = [p for p in self.shop.products if all(p[name] == value for name, value in wanted.items())]
        return 200, {"items": [_seed_product(row) for row in rows], "totalCount": len(rows)}

    def get_product(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        product = self.shop.product(request.match_info["product"])
        if product is None:
            raise NotThere(f"products/{request.match_info['product']}")
        return 200, _seed_product(product)

    def list_orders(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        wanted = request.query.get("status")
        rows = [_seed_order(order) for order in self.shop.orders.values()]
        rows = [row for row in rows if wanted in (None, row["status"])]
        return 200, {"items": rows, "totalCount": len(rows)}

    def create_order(self, request: web.Request, body: dict[str, Any]) -> tuple[int, Any]:
        return 201, _seed_order(make_order(self.shop, str(body.get("customerId", "")), body.get("items"), None))

    def get_order(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        order = self.shop.orders.get(request.match_info["order"])
        if order is None:
            raise NotThere(f"orders/{request.match_info['order']}")
        return 200, _seed_order(order)

    def list_subscriptions(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        rows = [s for s in self.shop.subscriptions if s["customer"] == request.match_info["customer"]]
        return 200, {"items": [_seed_subscription(row) for row in rows], "totalCount": len(rows)}

    def get_subscription(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, _seed_subscription(known_subscription(self.shop, request))

    def update_subscription(self, request: web.Request, body: dict[str, Any]) -> tuple[int, Any]:
        subscription = known_subscription(self.shop, request)
        if "quantity" in body:
            if not isinstance(body["quantity"], int) or body["quantity"] < 1:
                raise ValueError("quantity must be a positive number")
            subscription["seats"] = body["quantity"]
        subscription["status"] = body.get("status", subscription.get("status", "active"))
        return 200, _seed_subscription(subscription)

    def create_cart(self, request: web.Request, body: dict[str, Any]) -> tuple[int, Any]:
        if not body.get("customerId"):
            raise ValueError("must have required property 'customerId'")
        check_items(self.shop, body.get("items") or [])
        cart = {
            "cartId": str(self.shop.number()),
            "customerId": body["customerId"],
            "items": body.get("items") or [],
            "totalAmount": 0.0,
            "createdAt": _now(),
        }
        self.shop.carts[cart["cartId"]] = cart
        return 201, cart

    def check_out(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        cart = known_cart(self.shop, request)
        if cart.get("status") == "CHECKED_OUT":
            return 409, _error(409, "ALREADY_EXISTS", "the cart was checked out before")
        cart["status"] = "CHECKED_OUT"
        return 200, _seed_order(make_order(self.shop, cart["customerId"], cart["items"], None))

    def list_reports(self, request: web.Request, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, [
            {
                "reportId": "11",
                "name": "Billing by customer",
                "description": "What each customer is billed",
                "availableFormats": ["json", "csv"],
                "generatedAt": "2025-07-01T00:00:00Z",
            }
        ]


def make_order(shop: Shop, customer: str, items: Any, reference: Any) -> dict[str, Any]:
    if not customer:
        raise ValueError("must have required property 'customerId'")
    if customer not in shop.customers:
        raise ValueError(f"unknown customer {customer}")
    if not isinstance(items, list) or not items:
        raise ValueError("an order needs at least one item")
    check_items(shop, items)
    changed = [item for item in items if item.get("action") == "UPDATE"]
    for item in changed:
        _change_seats(shop, customer, item)
    total = sum(_price(shop, item) * int(item["quantity"]) for item in items)
    order = {
        "id": str(shop.number()),
        "customer": customer,
        "items": items,
        "reference": reference,
        "status": "COMPLETED" if changed else "NEW",
        "total": round(total, 2),
        "created": _now(),
    }
    shop.orders[order["id"]] = order
    return order


def _change_seats(shop: Shop, customer: str, item: dict[str, Any]) -> None:
    for subscription in shop.subscriptions:
        if (subscription["id"], subscription["customer"]) == (item.get("resourceId"), customer):
            subscription["seats"] = item["quantity"]
            return
    raise ValueError(f"unknown resourceId {item.get('resourceId')}")


def check_items(shop: Shop, items: list[Any]) -> None:
    for item in items:
        quantity = item.get("quantity") if isinstance(item, dict) else None
        if not isinstance(quantity, int) or quantity < 1:
            raise ValueError("quantity must be a positive number")
        if shop.product(str(item.get("productId", ""))) is None:
            raise ValueError(f"unknown product {item.get('productId')}")


def known_subscription(shop: Shop, request: web.Request) -> dict[str, Any]:
    wanted, customer = request.match_info["subscription"], request.match_info["customer"]
    for subscription in shop.subscriptions:
        if subscription["id"] == wanted and subscription["customer"] == customer:
            return subscription
    raise NotThere(f"subscriptions/{wanted}")


def known_cart(shop: Shop, request: web.Request) -> dict[str, Any]:
    cart = shop.carts.get(request.match_info["cart"])
    if cart is None:
        raise NotThere(f"carts/{request.match_info['cart']}")
    return cart


def _price(shop: Shop, item: dict[str, Any]) -> float:
    product = shop.product(str(item["productId"]))
    return float(product["price"]) if product else 0.0


def _live_subscription(row: dict[str, Any]) -> dict[str, Any]:
    price = row["product"]["price"]
    return {
        "id": row["id"],
        "customerId": row["customer"],
        "cloudProviderId": "1",
        "subscriptionId": f"sub-{row['id']}",
        "subscriptionName": row["product"]["name"],
        "cloudProviderName": row["product"]["vendor"],
        "ccpProductId": row["product"]["id"],
        "ccpSkuId": row["product"]["sku"],
        "ccpPlanId": "P1M",
        "subscriptionTotalLicenses": str(row["seats"]),
        "subscriptionStatus": row.get("status", "active"),
        "subscriptionBillingCycle": "P1M",
        "subscriptionBillingTerm": "P1Y",
        "mfgPartNumber": row["product"]["sku"],
        "price": price,
        "cost": round(price * 0.85, 2),
        "currency": "USD",
        "total": round(price * row["seats"], 2),
        "lastUpdatedDate": "2025-06-01T08:00:00.000Z",
        "renewalDate": "2026-06-01",
    }


def _seed_subscription(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "subscriptionId": row["id"],
        "productName": row["product"]["name"],
        "vendor": row["product"]["vendor"],
        "quantity": row["seats"],
        "status": row.get("status", "active"),
        "renewalDate": "2026-06-01",
        "createdAt": "2025-06-01T08:00:00Z",
    }


def _seed_product(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "productId": row["id"],
        "name": row["name"],
        "vendor": row["vendor"],
        "category": row["category"],
        "sku": row["sku"],
        "price": row["price"],
        "currency": "USD",
        "description": row["name"],
    }


def _seed_order(order: dict[str, Any]) -> dict[str, Any]:
    statuses = {"COMPLETED": "completed", "CANCELED": "cancelled"}
    return {
        "orderId": order["id"],
        "customerId": order["customer"],
        "status": statuses.get(order["status"], "pending"),
        "totalAmount": order["total"],
        "currency": "USD",
        "createdAt": order["created"],
        "items": order["items"],
    }


def _template(template_id: str, vendor: str) -> dict[str, Any]:
    return {
        "id": template_id,
        "vendor": vendor,
        "fields": [{"name": "domain", "required": True}, {"name": "adminEmail", "required": True}],
    }


def _page(request: web.Request, rows: list[Any]) -> tuple[list[Any], str | None]:
    """Cursor pages; without ``pageSize`` the server chooses."""
    size = int(request.query.get("pageSize", "50") or "50")
    start = int(request.query.get("pageToken", "p0").removeprefix("p") or "0")
    end = start + size
    return rows[start:end], f"p{end}" if end < len(rows) else None


def _with_token(body: dict[str, Any], token: str | None) -> dict[str, Any]:
    return {**body, "nextPageToken": token} if token else body


def _error(status: int, error: str, message: str) -> dict[str, Any]:
    return {"error": error, "message": message, "code": status, "details": []}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
