"""An MCP server over what a person can see and do: for assistants, on standard input and output.

Whoever asks may look. A write is planned first: its tool sends nothing, and answers what would be sent, with a
digest; ``approve`` sends exactly that, once, within ten minutes. Without ``--allow-writes`` nothing can be planned.
All calls are made in the operator's lane, each write is in the log of decisions, and `syncd pause` stops them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from secrets import token_hex
from typing import Any, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from syncd import __version__
from syncd.admin import views
from syncd.core.catalogue import Product, money
from syncd.core.errors import SyncdError, UserError
from syncd.core.instants import instant
from syncd.core.order import Item, OrderState, value_of
from syncd.core.policy import Dialect
from syncd.core.redact import redacted
from syncd.core.values import Millis
from syncd.core.work import HoldKind
from syncd.engine.desk import Desk
from syncd.engine.ports import Clock, Store
from syncd.engine.tries import insist
from syncd.ion.market import Market
from syncd.ion.operations import OPERATIONS, check_seats
from syncd.ion.rows import row_of

PERSON = "an assistant over MCP"
PLAN_MS = 600_000
MOST = 200
"""Rows that one answer holds."""
NEXT = "nothing was sent: call `approve` with the digest once a person agrees"
READ_ONLY = "this server was started read-only: `syncd mcp --allow-writes` lets it plan writes"
INSTRUCTIONS = """syncd keeps customers in sync between a reseller's CRM and TD SYNNEX StreamOne ION.
Ask `status` first. Customers are named by their CRM id, or as `ion:ID`. Calls to ION are few: about thirty a minute
for everything. A tool that writes answers with a plan and sends nothing; show the plan to a person, and call
`approve` with its digest only when they agree."""

Lists = Literal["customers", "products", "orders", "subscriptions", "verticals", "reports"]
Things = Literal["customers", "products", "orders", "subscriptions", "templates"]
Answer = dict[str, Any]
Tool = Callable[..., Awaitable[Answer]]


@dataclass(slots=True)
class Plan:
    """What would be done, until when it may be approved, and how."""

    told: Answer
    until: Millis
    carry_out: Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class Plans:
    """The plans that were not approved yet; they go with the process."""

    clock: Clock
    _open: dict[str, Plan] = field(default_factory=dict)

    def add(self, does: str, told: Mapping[str, Any], carry_out: Callable[[], Awaitable[Any]]) -> Answer:
        now = self.clock.now()
        self._open = {digest: plan for digest, plan in self._open.items() if plan.until > now}
        shown = {"plan": does, **redacted(dict(told))}
        digest = hashlib.sha256(f"{token_hex(16)}{json.dumps(shown, default=str)}".encode()).hexdigest()[:16]
        self._open[digest] = Plan(shown, Millis(now + PLAN_MS), carry_out)
        return {
            **shown,
            "digest": digest,
            "next": NEXT,
        }

    def take(self, digest: str) -> Plan:
        plan = self._open.pop(digest, None)
        if plan is None or plan.until <= self.clock.now():
            raise UserError(f"there is no open plan {digest}: plan it again, a plan holds for ten minutes and once")
        return plan


class Tools:
    """What an assistant can call. A method's docstring is what it is told of it."""

    def __init__(self, desk: Desk, market: Market, store: Store, plans: Plans) -> None:
        self._desk = desk
        self._market = market
        self._store = store
        self._plans = plans

    # -- looking

    async def status(self) -> Answer:
        """How things stand: lag each way, the budget of calls, who waits for a person, the token, the last sweep."""
        return _plain(views.Status.of(await insist(self._desk.status)))

    async def find_customers(self, text: str) -> Answer:
        """Customers of either side by id, or by a part of company or e-mail address."""
        return _rows(views.many(views.Found, await insist(lambda: self._desk.find(text, MOST))))

    async def explain_customer(self, customer: str, field: str | None = None) -> Answer:
        """A customer's story: what both sides hold, what was decided by which rule, who won and why.
        `customer`: a CRM id, or ion:ID."""
        return _plain(views.Explanation.of(await insist(lambda: self._desk.explain(customer, field))))

    async def conflicts(self, customer: str | None = None, limit: int = 50) -> Answer:
        """Values that lost to the other side, the newest first; each can be put back."""
        return _rows(
            views.many(views.Conflict, await insist(lambda: self._desk.conflicts(customer, None, _few(limit))))
        )

    async def waiting(self) -> Answer:
        """Who waits for a person, or for their own record: review, quarantine, frozen, incomplete."""
        return _rows(views.many(views.Hold, await insist(lambda: self._desk.holds(tuple(HoldKind), "", MOST))))

    async def pending_writes(self) -> Answer:
        """What syncd would write now, field by field, and what the guard holds."""
        return _plain(views.Plan.of(await insist(self._desk.plan), MOST))

    async def incoming_orders(self, state: OrderState | None = None) -> Answer:
        """Orders that the CRM sent over Kafka, and what became of them."""
        return _rows(views.many(views.Order, await insist(lambda: self._desk.orders(state, "", MOST))))

    async def licences(self, since: str | None = None) -> Answer:
        """Seats in the newest snapshot, what moved, what it is worth, what is not under contract. Asks no ION."""
        begin = None if since is None else instant(since)
        found = await insist(lambda: self._desk.licences(begin))
        if found is None:
            raise UserError("there is no snapshot yet: `syncd ion subscriptions snapshot` takes one")
        return _plain(views.Licences.of(found))

    async def ion_list(self, what: Lists, narrow: dict[str, str] | None = None, limit: int = 50) -> Answer:
        """A list from ION, such as the orders or subscriptions of a customer (narrow: {"customer": "ION id"})."""
        name, dialect, rows = f"{what} list", await self._market.dialect(), list[Any]()
        async for page in self._market.pages(name, narrow or {}, _few(limit)):
            rows += [row_of(what, row, dialect) for row in page]
            if len(rows) >= _few(limit):
                break
        return {"rows": rows[: _few(limit)], "are": OPERATIONS[name].does}

    async def ion_get(self, what: Things, id: str, customer: str | None = None) -> Answer:
        """One thing from ION as it holds it; a subscription needs its customer's ION id."""
        named = {what.removesuffix("s"): id, **({"customer": customer} if customer else {})}
        return {"found": await self._market.do(f"{what} get", named)}

    # -- writing: a plan first

    async def order(self, customer: str, items: list[dict[str, Any]]) -> Answer:
        """Plan a new order in ION for a customer (ION id). Items: product, quantity, and in the live dialect sku
        and plan. Sends nothing."""
        body, cost = _order_body(items, await self._market.dialect()), await _cost(self._store, items)
        await self._market.check("orders create", {"customer": customer}, body)
        told = {"customer": customer, "body": body, "costs": cost}
        return self._plans.add(
            "a new order", told, lambda: self._market.do("orders create", {"customer": customer}, body)
        )

    async def cancel_order(self, customer: str, order: str) -> Answer:
        """Plan to cancel an order in ION while it is new or on hold. Sends nothing."""
        named = {"customer": customer, "order": order}
        await self._market.check("orders cancel", named, {})
        return self._plans.add("an order cancelled", named, lambda: self._market.do("orders cancel", named, {}))

    async def change_seats(self, customer: str, subscription: str, quantity: int) -> Answer:
        """Plan to change a subscription's seats in ION; customer is the ION id. Sends nothing."""
        check_seats({"quantity": quantity})
        held = await self._market.do("subscriptions get", {"customer": customer, "subscription": subscription})
        was = row_of("subscriptions", held, await self._market.dialect())["seats"]
        told = {"customer": customer, "subscription": subscription, "seats_are": was, "seats_become": quantity}

        async def change() -> Any:
            now = await self._market.do("subscriptions get", {"customer": customer, "subscription": subscription})
            if row_of("subscriptions", now, await self._market.dialect())["seats"] != was:
                raise UserError(
                    f"subscription {subscription} has other seats than when it was planned: plan it again"
                )
            return await self._market.update_subscription(customer, subscription, {"quantity": quantity})

        return self._plans.add("seats changed", told, change)

    async def undo(self, conflict: str) -> Answer:
        """Plan to put a value back that lost (the conflict's id); it goes through the CRM. Sends nothing."""
        found = await insist(lambda: self._desk.conflict(conflict))
        told = views.Conflict.of(found).model_dump(mode="json")

        async def put_back() -> Answer:
            return _plain(views.Intent.of(await insist(lambda: self._desk.undo(conflict, None, PERSON))))

        return self._plans.add("a value put back", told, put_back)

    async def release_order(self, order: str) -> Answer:
        """Plan to let an order of the CRM's go that is held, or try one again that was refused. Sends nothing."""
        known = await insist(lambda: self._desk.order(order))
        told = views.Order.of(known).model_dump(mode="json")

        async def let_go() -> Answer:
            if await insist(lambda: self._desk.order(order)) != known:
                raise UserError(f"order {order} is not what it was when it was planned: plan it again")
            await insist(lambda: self._desk.release_order(order, PERSON))
            return {"released": order}

        return self._plans.add("an order of the CRM's let go", told, let_go)

    async def approve(self, digest: str) -> Answer:
        """Carry out exactly the plan with this digest, once. Only when a person has agreed to it."""
        plan = self._plans.take(digest)
        return {"done": plan.told["plan"], "answer": await plan.carry_out()}


def make_server(tools: Tools, *, is_writing: bool) -> MCPServer:
    server = MCPServer("syncd", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")
    for look in (
        tools.status,
        tools.find_customers,
        tools.explain_customer,
        tools.conflicts,
        tools.waiting,
        tools.pending_writes,
        tools.incoming_orders,
        tools.licences,
        tools.ion_list,
        tools.ion_get,
    ):
        server.add_tool(_spoken(look), annotations=ToolAnnotations(read_only_hint=True))
    for write in (
        tools.order,
        tools.cancel_order,
        tools.change_seats,
        tools.undo,
        tools.release_order,
        tools.approve,
    ):
        shown = write if is_writing else _refused(write)
        server.add_tool(_spoken(shown), annotations=ToolAnnotations(read_only_hint=False))
    return server


def _spoken(tool: Tool) -> Tool:
    """What went wrong is said in our sentence; what nobody foresaw stays in the log."""

    @wraps(tool)
    async def call(*args: Any, **kwargs: Any) -> Answer:
        try:
            return await tool(*args, **kwargs)
        except SyncdError as error:
            raise ToolError(error.sentence) from None

    return call


def _refused(write: Tool) -> Tool:
    """The same tool to look at, and nothing behind it."""

    @wraps(write)
    async def refuse(*_: object, **__: object) -> Answer:
        raise UserError(READ_ONLY)

    return refuse


def _plain(view: Any) -> Answer:
    answer: Answer = view.model_dump(mode="json")
    return answer


def _rows(found: list[Any]) -> Answer:
    return {"rows": [_plain(one) for one in found]}


def _few(limit: int) -> int:
    return max(1, min(MOST, limit))


def _order_body(items: list[dict[str, Any]], dialect: Dialect) -> dict[str, Any]:
    wire = {"product": "productId", "sku": "skuId", "plan": "planId", "quantity": "quantity"}
    unknown = sorted({key for item in items for key in item} - wire.keys())
    if unknown:
        raise UserError(f"an item has no {unknown[0]}, only {', '.join(wire)}")
    told = [{wire[key]: value for key, value in item.items()} for item in items]
    if dialect is Dialect.LIVE:
        return {"orderItems": [{"action": "CREATE", **item} for item in told]}
    return {"items": [{key: item[key] for key in ("productId", "quantity") if key in item} for item in told]}


async def _cost(store: Store, items: list[dict[str, Any]]) -> str:
    """By the catalogue that was last imported."""
    async with store.begin() as unit:
        products: dict[str, Product] = await unit.products({str(item.get("product", "")) for item in items})
    try:
        wanted = [
            Item(str(i.get("product", "")), str(i.get("sku", "")), str(i.get("plan", "")), int(i.get("quantity", 0)))
            for i in items
        ]
    except (TypeError, ValueError):
        return "not known"
    cost, currency = value_of(wanted, products)
    return "not known" if cost is None else f"{money(cost)} {currency or ''}".strip()
