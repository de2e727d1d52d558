"""A simulated ION: OAuth with single-use refresh tokens, customers in either dialect, and the rest.

Three parts: the account (state and rules), the wire (one function a route), and the control plane
below ``/_sim`` for people and tests: edit as an ION user, plan faults, read the journal of calls.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
from aiohttp import web

from syncd.sim import shop
from syncd.sim.people import make_customer

WINDOW_SECONDS = 60.0
MAX_JOURNAL = 200_000
EDITABLE = ("company", "email", "country", "phone", "address", "contact", "title", "language", "status")


@dataclass(frozen=True, slots=True)
class IonOptions:
    """What is configurable because reality is unknown, or because a test wants it so."""

    dialect: str = "live"
    customers: int = 20
    products: int = 0
    """Made up beside the few that are always there."""
    calls_per_minute: int = 30
    account: str = "20481"
    refresh_token: str = "initial-refresh-token"
    seed: int = 1
    max_page_size: int = 1000
    access_seconds: int = 7200
    refresh_seconds: int = 2_764_800
    expired_status: int = 401
    put_replaces: bool = True
    empty_list_is_bare: bool = False
    old_access_survives: bool = True
    retry_after: bool = True
    latency_ms: float = 0.0
    clock_skew_seconds: float = 0.0


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next ``count`` calls of an operation (``*`` for any).

    Kinds: ``timeout-before``, ``timeout-after`` (the commit), ``reset-before``, ``reset-after``,
    ``status`` (with ``code``, and ``retry_after`` if given), ``html``, ``half-json``, ``empty``,
    ``unauthorised``, ``page-twice``, ``page-missing``, ``stale``, ``lists-half``, ``lists-nobody``, ``respell``,
    ``slow`` (with ``seconds``), ``ignore`` (a write is answered and not made).
    """

    kind: str
    operation: str = "*"
    count: int = 1
    code: int = 500
    retry_after: str | None = None
    seconds: float = 1.0
    skip: int = 0
    """Calls of the operation to let through first."""


@dataclass(slots=True)
class Account:
    """The simulated account: customers, tokens, the journal, and the rules of the API."""

    options: IonOptions
    clock: Callable[[], float] = time.time
    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    journal: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_JOURNAL))
    arrivals: deque[float] = field(default_factory=deque)
    access_tokens: dict[str, float] = field(default_factory=dict)
    refresh_tokens: dict[str, float] = field(default_factory=dict)
    next_id: int = 300_001
    refreshes: int = 0
    shop: shop.Shop = field(default_factory=shop.Shop)
    mischief: Callable[[str], Fault | None] | None = None
    """Asked at each call for something to go wrong, after the faults that are planned."""
    _listed: tuple[tuple[int, int], list[dict[str, Any]]] = ((0, 0), [])

    def __post_init__(self) -> None:
        rng = Random(self.options.seed)
        for number in range(self.options.customers):
            self.add(make_customer(rng, number))
        self.refresh_tokens[self.options.refresh_token] = self.clock() + self.options.refresh_seconds
        self.shop.stock(rng, self.customers, self.options.products)

    def add(self, values: dict[str, Any]) -> dict[str, Any]:
        now = self._date()
        customer_id = str(self.next_id)
        self.next_id += 1
        kept = {name: values.get(name) for name in EDITABLE}
        kept["status"] = "active"
        self.customers[customer_id] = {
            **kept,
            "id": customer_id,
            "created": now,
            "updated": now,
            "uid": f"u{int(customer_id) * 7919 % 10**9:09d}",
            "extra": values.get("extra") or {},
        }
        return self.customers[customer_id]

    def listed(self) -> list[dict[str, Any]]:
        """All customers in their order; not copied for each of a thousand pages."""
        state = (self.next_id, len(self.customers))
        if state != self._listed[0]:
            self._listed = (state, list(self.customers.values()))
        return self._listed[1]

    def edit(self, customer_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        customer = self.customers[customer_id]
        customer.update({name: value for name, value in changes.items() if name in EDITABLE})
        customer["updated"] = self._date()
        return customer

    def _date(self) -> int:
        """ION dates by its own clock, which may be wrong."""
        return int(self.clock() + self.options.clock_skew_seconds)

    def email_owner(self, email: str | None, but: str | None = None) -> str | None:
        """E-mail addresses are unique, without regard to case."""
        wanted = (email or "").casefold()
        for customer_id, customer in self.customers.items():
            if wanted and customer_id != but and (customer["email"] or "").casefold() == wanted:
                return customer_id
        return None

    # -- tokens

    def grant(self, refresh_token: str) -> dict[str, Any] | None:
        """Trade a refresh token, once; ``None`` for one that is dead or unknown."""
        expires = self.refresh_tokens.pop(refresh_token, 0.0)
        if expires < self.clock():
            return None
        self.refreshes += 1
        if not self.options.old_access_survives:
            self.access_tokens.clear()
        rng = Random(f"{self.options.seed}-{self.refreshes}")
        access, refresh = f"A{rng.getrandbits(160):040x}", f"R{rng.getrandbits(160):040x}"
        self.access_tokens[access] = self.clock() + self.options.access_seconds
        self.refresh_tokens[refresh] = self.clock() + self.options.refresh_seconds
        return {
            "access_token": access,
            "expires_in": self.options.access_seconds,
            "refresh_token": refresh,
            "token_type": "Bearer",
        }

    def issue_refresh_token(self) -> str:
        """As when a person requests new credentials."""
        self.refreshes += 1
        token = f"pasted-{self.refreshes}"
        self.refresh_tokens[token] = self.clock() + self.options.refresh_seconds
        return token

    def is_good(self, access_token: str) -> bool:
        return self.access_tokens.get(access_token, 0.0) > self.clock()

    # -- calls

    def is_over_limit(self) -> bool:
        now = self.clock()
        while self.arrivals and self.arrivals[0] <= now - WINDOW_SECONDS:
            self.arrivals.popleft()
        self.arrivals.append(now)
        return len(self.arrivals) > self.options.calls_per_minute

    def fault_for(self, operation: str) -> Fault | None:
        for fault in self.faults:
            if fault.operation not in ("*", operation):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.count -= 1
            if fault.count <= 0:
                self.faults.remove(fault)
            return fault
        return self.mischief(operation) if self.mischief else None

    def busiest_minute(self) -> int:
        """The most calls in any sliding 60 s, by arrival."""
        times = sorted(entry["at"] for entry in self.journal)
        most, start = 0, 0
        for end, at in enumerate(times):
            while times[start] <= at - WINDOW_SECONDS:
                start += 1
            most = max(most, end - start + 1)
        return most


LISTED: dict[str, Callable[[int], int]] = {
    "stale": lambda count: count - 1,
    "lists-half": lambda count: count // 2,
    "lists-nobody": lambda count: 0,
}
"""How many customers a list shows under a fault, and says that there are."""

ENTRY = web.RequestKey("entry", dict)
FAULT = web.RequestKey("fault", str)


class ApiError(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, error: str, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": error,
            "message": message,
            "code": status,
            "details": [
                {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": f"{id(self):020x}", **detail}
            ],
        }


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class IonServer:
    """The wire of one account."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.options = account.options
        self.is_live = account.options.dialect == "live"

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._middleware])
        base = "/api/v3/accounts/{account}"
        app.add_routes(
            [
                web.post("/oauth/token", self.named("token", self.token)),
                web.post("/oauth/validateAccess", self.named("validate", self.validate)),
                web.get("/oauth/validateAccess", self.named("validate", self.validate)),
                web.get(f"{base}/customers", self.named("list", self.list_customers)),
                web.post(f"{base}/customers", self.named("create", self.create)),
                web.get(f"{base}/customers/{{customer}}", self.named("get", self.get)),
                web.put(f"{base}/customers/{{customer}}", self.named("update", self.update)),
                *shop.routes(self.account.shop, self.is_live, self.named, self._authorised),
                web.get("/_sim/journal", self.see_journal),
                web.get("/_sim/state", self.see_state),
                web.get("/_sim/customers", self.see_customers),
                web.post("/_sim/customers", self.add_customer),
                web.patch("/_sim/customers/{customer}", self.edit_customer),
                web.delete("/_sim/customers/{customer}", self.remove_customer),
                web.post("/_sim/faults", self.plan_fault),
                web.delete("/_sim/faults", self.clear_faults),
                web.get("/_sim/shop", self.see_shop),
                web.patch("/_sim/{kind:products|subscriptions|orders}/{id}", self.edit_shop),
                web.post("/_sim/tokens/expire-access", self.expire_access),
                web.post("/_sim/tokens/kill-refresh", self.kill_refresh),
                web.post("/_sim/tokens/issue", self.issue_token),
            ]
        )
        return app

    def named(self, operation: str, handler: Handler) -> Handler:
        async def named(request: web.Request) -> web.StreamResponse:
            request[ENTRY]["operation"] = operation
            return await self._with_faults(operation, handler, request)

        return named

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_sim"):
            try:
                return await handler(request)
            except (KeyError, ValueError, TypeError) as error:
                return _json({"error": f"{type(error).__name__}: {error}"}, 400)
        return await self.journalled(request, handler)

    async def journalled(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one call of a client, within the account's limit, and write it down."""
        account = self.account
        entry: dict[str, Any] = {
            "at": account.clock(),
            "method": request.method,
            "path": request.path,
            "status": 0,
            "customer": request.match_info.get("customer"),
        }
        account.journal.append(entry)
        request[ENTRY] = entry
        if self.options.latency_ms:
            await asyncio.sleep(self.options.latency_ms / 1000)
        try:
            if account.is_over_limit():
                headers = {"Retry-After": "5"} if self.options.retry_after else {}
                limit = ApiError(429, "RESOURCE_EXHAUSTED", "Too Many Requests")
                response: web.StreamResponse = _json(limit.body, 429, headers)
            else:
                response = await handler(request)
        except ApiError as error:
            response = _json(error.body, error.status)
        finally:
            entry["fault"] = request.get(FAULT)
            entry["ended"] = account.clock()
        entry["status"] = response.status
        return response

    async def _with_faults(self, operation: str, handler: Handler, request: web.Request) -> web.StreamResponse:
        fault = self.account.fault_for(operation)
        if fault is None:
            return await handler(request)
        request[FAULT] = fault.kind
        if fault.kind in ("timeout-before", "reset-before", "ignore"):
            return await self._break_off(fault, request) if fault.kind != "ignore" else await self._ignore(request)
        if fault.kind == "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            return _json(ApiError(fault.code, "INJECTED", "injected by the simulator").body, fault.code, headers)
        if fault.kind == "unauthorised":
            return _json(ApiError(401, "UNAUTHENTICATED", "access token expired").body, 401)
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            return await handler(request)
        response = await handler(request)
        if fault.kind in ("timeout-after", "reset-after"):
            return await self._break_off(fault, request)
        body = response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""
        bodies = {
            "html": b"<!DOCTYPE html><html><body>Bad gateway</body></html>",
            "half-json": body[: len(body) // 2],
            "empty": b"",
        }
        return web.Response(
            body=bodies.get(fault.kind, body), status=response.status, content_type="application/json"
        )

    async def _break_off(self, fault: Fault, request: web.Request) -> web.StreamResponse:
        """No answer: hang until the client gives up, or cut the connection."""
        if fault.kind.startswith("timeout"):
            await asyncio.sleep(max(fault.seconds, 60.0))
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=499)

    async def _ignore(self, request: web.Request) -> web.StreamResponse:
        customer = self.account.customers[request.match_info["customer"]]
        return _json(self._wire(customer), 200)

    # -- OAuth

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != "refresh_token":
            return _json({"error": "unsupported grant type"}, 400)
        granted = self.account.grant(str(form.get("refresh_token", "")))
        if granted is None:
            return _json({"error": "cannot validate token: redis: nil"}, 400)
        return _json(granted, 200)

    async def validate(self, request: web.Request) -> web.Response:
        form = await request.post() if request.method == "POST" else {}
        token = str(form.get("access_token", "")) or request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.account.is_good(token):
            return _json({"error": "cannot validate token: redis: nil"}, 400)
        now = self.account.clock()
        left = max(self.account.refresh_tokens.values(), default=now) - now
        return _json(
            {
                "access_expires_in": int(self.account.access_tokens[token] - now),
                "refresh_expires_in": int(left),
            },
            200,
        )

    def _authorised(self, request: web.Request) -> None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.account.is_good(token):
            error = "UNAUTHENTICATED" if self.options.expired_status == 401 else "PERMISSION_DENIED"
            raise ApiError(self.options.expired_status, error, "access token is missing or has expired")
        account = request.match_info.get("account", self.options.account)
        if account != self.options.account:
            raise ApiError(403, "PERMISSION_DENIED", f"permission denied to access accounts/{account}")

    # -- customers

    async def list_customers(self, request: web.Request) -> web.Response:
        self._authorised(request)
        rows = self.account.listed()
        shown = LISTED.get(request.get(FAULT, ""))
        rows = rows if shown is None else rows[: shown(len(rows))]
        return self._list_live(request, rows) if self.is_live else self._list_seed(request, rows)

    def _list_live(self, request: web.Request, rows: list[dict[str, Any]]) -> web.Response:
        query = request.query
        size, token = query.get("pageSize", ""), query.get("pageToken", "")
        if not size and not token:
            raise ApiError(400, "INVALID_REQUEST", "At least one of page_size and page_token must be present")
        limit = self._page_size(size)
        email = query.get("filter.customerEmail", "").casefold()
        if email:
            rows = [row for row in rows if (row["email"] or "").casefold() == email]
        name = query.get("filter.customerName", "").casefold()
        if name:
            rows = [row for row in rows if (row["contact"] or "").casefold() == name]
        start = int(token.removeprefix("c")) if token else 0
        start, end = self._drift(request, start, limit)
        body: dict[str, Any] = {"customers": [self._wire(row) for row in rows[start:end]]}
        if end < len(rows):
            body["nextPageToken"] = f"c{end}"
        if not rows and self.options.empty_list_is_bare:
            body = {}
        return _json(body, 200)

    def _list_seed(self, request: web.Request, rows: list[dict[str, Any]]) -> web.Response:
        page, limit = int(request.query.get("page", "1")), self._page_size(request.query.get("pageSize", "50"))
        start, end = self._drift(request, (page - 1) * limit, limit)
        items = [self._wire(row) for row in rows[start:end]]
        return _json({"items": items, "totalCount": len(rows), "page": page, "pageSize": limit}, 200)

    def _drift(self, request: web.Request, start: int, limit: int) -> tuple[int, int]:
        """Where a page begins and ends; faults move it."""
        fault = request.get(FAULT)
        if fault == "page-twice":
            start = max(0, start - limit)
        if fault == "page-missing":
            start += limit
        return start, start + limit

    def _page_size(self, text: str) -> int:
        size = int(text) if text.isdigit() else 0
        if text and not 1 <= size <= self.options.max_page_size:
            raise ApiError(400, "INVALID_REQUEST", f"page_size must be between 1 and {self.options.max_page_size}")
        return size or 50

    async def get(self, request: web.Request) -> web.Response:
        self._authorised(request)
        return _json(self._wire(self._customer(request)), 200)

    async def create(self, request: web.Request) -> web.Response:
        self._authorised(request)
        values = self._values(await _object(request))
        request[ENTRY]["sent"] = values
        self._refuse_incomplete(values)
        if self.account.email_owner(values["email"]) is not None:
            raise _taken_email()
        customer = self.account.add(values)
        request[ENTRY]["customer"] = customer["id"]
        body = self._wire(customer)
        if self.is_live:
            body["user"] = {
                "name": f"{body['name']}/users/{int(customer['id']) + 400_000}",
                "userName": "DEFAULT ACCOUNT USER",
                "email": customer["email"],
                "userStatus": "ACTIVE",
                "password": f"generated-secret-{customer['id']}",
            }
        return _json(body, 200 if self.is_live else 201)

    async def update(self, request: web.Request) -> web.Response:
        self._authorised(request)
        customer = self._customer(request)
        body = await _object(request)
        values = self._values(body)
        request[ENTRY]["sent"] = values
        self._refuse_incomplete(values)
        if self.account.email_owner(values["email"], but=customer["id"]) is not None:
            raise _taken_email()
        if request.get(FAULT) == "respell":
            values["company"] = (values["company"] or "").upper()
        kept = {} if self.options.put_replaces else {name: customer[name] for name in EDITABLE}
        given = {name: value for name, value in values.items() if value is not None or self.options.put_replaces}
        before = dict(customer)
        self.account.edit(customer["id"], {**kept, **given, "status": customer["status"]})
        request[ENTRY]["is_needless"] = all(before[name] == customer[name] for name in EDITABLE)
        customer["extra"] = values["extra"]
        return _json(self._wire(customer), 200)

    def _customer(self, request: web.Request) -> dict[str, Any]:
        customer_id = request.match_info["customer"]
        if customer_id not in self.account.customers:
            name = f"accounts/{self.options.account}/customers/{customer_id}"
            raise ApiError(404, "NOT_FOUND", f"resource '{name}' not found")
        return self.account.customers[customer_id]

    def _refuse_incomplete(self, values: dict[str, Any]) -> None:
        if self.is_live:
            named = {"company": "orgName", "email": "primaryContactEmail", "contact": "contactName"}
            required: tuple[str, ...] = ("company", "email", "contact", "language")
        else:
            named, required = {"company": "companyName"}, ("company", "email", "country")
        for name in required:
            if not values.get(name):
                missing = named.get(name, name)
                raise ApiError(400, "INVALID_REQUEST", f"must have required property '{missing}'")
        if self.is_live:
            address = values.get("address") or {}
            for part in ("street", "city", "state", "zip"):
                if not address.get(part):
                    raise ApiError(400, "INVALID_REQUEST", f"must have required property '{part}'")
            if not values.get("country"):
                raise ApiError(400, "INVALID_REQUEST", "must have required property 'country'")
            if not (values["language"] or "").replace("-", "").isalpha():
                raise ApiError(
                    412,
                    "FAILED_PRECONDITION",
                    "language is not valid",
                    referenceEntity="languageCode",
                    code="CUS-CR-002",
                )

    # -- between canonical names and the wire

    def _wire(self, customer: dict[str, Any]) -> dict[str, Any]:
        if not self.is_live:
            return {
                **customer["extra"],
                "customerId": customer["id"],
                "companyName": customer["company"],
                "email": customer["email"],
                "country": customer["country"],
                "status": customer["status"],
                "createdAt": _rfc3339(customer["created"]),
            }
        address = {**(customer["address"] or {}), "country": customer["country"]}
        body = {
            **customer["extra"],
            "name": f"accounts/{self.options.account}/customers/{customer['id']}",
            "customerOrganization": customer["company"],
            "customerAddress": {part: text for part, text in address.items() if text},
            "customerName": customer["contact"],
            "customerEmail": customer["email"],
            "customerTitle": customer["title"],
            "customerPhone": customer["phone"],
            "createTime": _rfc3339(customer["created"]),
            "updateTime": _rfc3339(customer["updated"]),
            "languageCode": customer["language"],
            "uid": customer["uid"],
            "customerStatus": customer["status"].upper(),
        }
        return {name: value for name, value in body.items() if value is not None}

    def _values(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self.is_live:
            known = {"companyName", "email", "country", "phone", "address", "status", "customerId", "createdAt"}
            return {
                "company": body.get("companyName") or None,
                "email": body.get("email") or None,
                "country": body.get("country") or None,
                "phone": body.get("phone") or None,
                "address": body.get("address") or None,
                "extra": {name: value for name, value in body.items() if name not in known},
            }
        nested = body.get("customerAddress")
        address = nested if isinstance(nested, dict) else {}
        parts = {part: address.get(part) or "" for part in ("street", "suite", "city", "state", "zip")}
        known = {"name", "customerOrganization", "customerAddress", "customerName", "customerEmail", "customerTitle"}
        known |= {"customerPhone", "languageCode", "createTime", "updateTime", "uid", "customerStatus", "user"}
        return {
            "company": body.get("customerOrganization") or None,
            "email": body.get("customerEmail") or None,
            "country": address.get("country") or None,
            "phone": body.get("customerPhone") or None,
            "address": parts if any(parts.values()) else None,
            "contact": body.get("customerName") or None,
            "title": body.get("customerTitle") or None,
            "language": body.get("languageCode") or None,
            "extra": {name: value for name, value in body.items() if name not in known},
        }

    # -- the control plane

    async def see_journal(self, request: web.Request) -> web.Response:
        after = float(request.query.get("after", "0"))
        return _json([entry for entry in self.account.journal if entry["at"] > after], 200)

    async def see_state(self, _: web.Request) -> web.Response:
        statuses: dict[str, int] = {}
        operations: dict[str, int] = {}
        for entry in self.account.journal:
            statuses[str(entry["status"])] = statuses.get(str(entry["status"]), 0) + 1
            operations[str(entry.get("operation"))] = operations.get(str(entry.get("operation")), 0) + 1
        return _json(
            {
                "customers": len(self.account.customers),
                "calls": len(self.account.journal),
                "busiest_minute": self.account.busiest_minute(),
                "statuses": statuses,
                "operations": operations,
                "refreshes": self.account.refreshes,
            },
            200,
        )

    async def see_customers(self, _: web.Request) -> web.Response:
        return _json(list(self.account.customers.values()), 200)

    async def add_customer(self, request: web.Request) -> web.Response:
        body = await _object(request)
        if self.account.email_owner(body.get("email")) is not None:
            raise ValueError("the e-mail address is taken")
        return _json(self.account.add(body), 201)

    async def edit_customer(self, request: web.Request) -> web.Response:
        return _json(self.account.edit(request.match_info["customer"], await _object(request)), 200)

    async def remove_customer(self, request: web.Request) -> web.Response:
        """Gone from the account, as if it had moved to another; ION's API itself has no deletion."""
        return _json(self.account.customers.pop(request.match_info["customer"]), 200)

    async def see_shop(self, _: web.Request) -> web.Response:
        shop = self.account.shop
        return _json({"subscriptions": shop.subscriptions, "orders": list(shop.orders.values())}, 200)

    async def edit_shop(self, request: web.Request) -> web.Response:
        """A price, a number of seats or an order's state, as the market or a person in the portal changes it."""
        return _json(
            self.account.shop.edit(**request.match_info, changes=await _object(request)),
            200,
        )

    async def plan_fault(self, request: web.Request) -> web.Response:
        fault = Fault(**await _object(request))
        self.account.faults.append(fault)
        return _json({"planned": fault.kind}, 201)

    async def clear_faults(self, _: web.Request) -> web.Response:
        self.account.faults.clear()
        return _json({}, 200)

    async def expire_access(self, _: web.Request) -> web.Response:
        self.account.access_tokens.clear()
        return _json({}, 200)

    async def issue_token(self, _: web.Request) -> web.Response:
        return _json({"refresh_token": self.account.issue_refresh_token()}, 201)

    async def kill_refresh(self, _: web.Request) -> web.Response:
        self.account.refresh_tokens.clear()
        return _json({}, 200)


async def serve_ion(options: IonOptions, port: int) -> None:
    """Serve until cancelled; says where it listens."""
    runner, bound = await start_ion(options, port)
    print(f"ION ({options.dialect} dialect) listens at http://127.0.0.1:{bound}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def start_ion(options: IonOptions, port: int) -> tuple[web.AppRunner, int]:
    account = Account(options)
    gc.freeze()  # a million customers are no rubbish, and need not be looked through for it
    return await serve_app(IonServer(account).app(), port)


async def serve_app(app: web.Application, port: int) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, int(runner.addresses[0][1])


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read() or b"{}")
    except orjson.JSONDecodeError:
        raise ApiError(400, "INVALID_REQUEST", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise ApiError(400, "INVALID_REQUEST", "the body is not an object")
    return body


def _taken_email() -> ApiError:
    return ApiError(
        412,
        "FAILED_PRECONDITION",
        "primaryContactEmail is used by another customer",
        referenceEntity="primaryContactEmail",
        code="CUS-CR-001",
        detail="customer e-mail must be unique",
    )


def _rfc3339(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _json(body: object, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")
