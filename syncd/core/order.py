"""Orders from the CRM. An order is money: it is written down before it is sent, and looked up before it is repeated.

``LIFE`` is the whole life of one. ``judge`` says what becomes of one that has not been sent:

    what is so, the first that holds              verdict
    ────────────────────────────────────────────  ───────────────────────────────────────────────────
    its customer is not linked                    waits
    a person let it go                            goes
    it came before syncd took orders here         held: it may have been placed by then
    the catalogue lacks what it orders            held
    nobody knows what it costs, or it is nothing  held
    it costs more than the limit                  held
    else                                          goes

Pure. Next in the flow: ``engine.orders``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from syncd.core.catalogue import Product, money
from syncd.core.values import Millis

SEND_WITHIN_MS = 8_000
"""An order is sent so soon after it was written down as sent, or not at all."""
MAX_TRIES = 2
"""So often a create that was lost and is not there is sent; then a person must look."""


class OrderState(StrEnum):
    WAITING = "waiting"
    """For its turn, or for its customer to be linked."""
    HELD = "held"
    """For a person."""
    SENT = "sent"
    UNKNOWN = "unknown"
    """The answer was lost: it may be in ION."""
    PLACED = "placed"
    """ION has it, and goes on with it."""
    ENDED = "ended"
    """ION is done with it, in one way or another."""
    REFUSED = "refused"
    DROPPED = "dropped"
    """A person said no."""


LIFE: Mapping[tuple[OrderState, OrderState], str] = {
    (OrderState.WAITING, OrderState.HELD): "a person must look",
    (OrderState.WAITING, OrderState.SENT): "the call begins",
    (OrderState.WAITING, OrderState.PLACED): "ION has it already",
    (OrderState.WAITING, OrderState.ENDED): "ION has it already, and is done with it",
    (OrderState.WAITING, OrderState.REFUSED): "this ION can't be asked it",
    (OrderState.WAITING, OrderState.DROPPED): "a person said no",
    (OrderState.HELD, OrderState.WAITING): "a person let it go",
    (OrderState.HELD, OrderState.PLACED): "a person says which one in ION it is",
    (OrderState.HELD, OrderState.DROPPED): "a person said no",
    (OrderState.SENT, OrderState.PLACED): "answered",
    (OrderState.SENT, OrderState.ENDED): "answered, and done",
    (OrderState.SENT, OrderState.REFUSED): "refused",
    (OrderState.SENT, OrderState.WAITING): "certainly not applied",
    (OrderState.SENT, OrderState.UNKNOWN): "the answer was lost",
    (OrderState.UNKNOWN, OrderState.PLACED): "found",
    (OrderState.UNKNOWN, OrderState.ENDED): "found, and done",
    (OrderState.UNKNOWN, OrderState.WAITING): "proven absent",
    (OrderState.UNKNOWN, OrderState.HELD): "a person must look, since there are several, or nothing can be found out",
    (OrderState.PLACED, OrderState.ENDED): "ION is done with it",
    (OrderState.REFUSED, OrderState.WAITING): "a person lets it be tried again",
    (OrderState.REFUSED, OrderState.DROPPED): "a person said no",
}
"""Each step that an order can take, and what makes it take it."""

DROPPABLE = (OrderState.WAITING, OrderState.HELD, OrderState.REFUSED)
"""Not under way to ION."""
SETTLED = (OrderState.PLACED, OrderState.ENDED, OrderState.DROPPED)
"""Nothing that a vendor wants to know is kept of it any more."""
FINAL = frozenset({"completed", "cancelled", "canceled", "error"})
"""ION's own words, in small letters, for an order that it is done with."""


@dataclass(frozen=True, slots=True)
class Item:
    """So many of one plan of one SKU; or, with ``subscription``, so many seats of what is there already."""

    product: str
    sku: str
    plan: str
    quantity: int
    subscription: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What the vendor wants to know; may hold a password, so it is kept no longer than needed."""


@dataclass(frozen=True, slots=True)
class Order:
    id: str
    """The CRM's; ION is told it as ``referenceId`` where the dialect has one."""
    customer: str
    """The CRM's id of who orders."""
    items: tuple[Item, ...]
    state: OrderState
    at: Millis
    """When the CRM sent it."""
    changed_at: Millis
    """When the state was last set."""
    due: Millis | None
    """When to look at it again; ``None``: not before somebody does something."""
    reason: str = ""
    released_by: str = ""
    value: Decimal | None = None
    currency: str | None = None
    tries: int = 0
    """So often it was sent and may have been lost."""
    sent_at: Millis | None = None
    ion_customer: str | None = None
    ion_order: str | None = None
    ion_status: str | None = None
    not_it: tuple[str, ...] = ()
    """ION's ids of those that a person was asked about: whoever lets it go has said that it is none of them."""

    def moved_to(self, state: OrderState, at: Millis, due: Millis | None, reason: str = "") -> Order:
        if (self.state, state) not in LIFE:
            raise ValueError(f"an order that is {self.state} cannot become {state}")
        return replace(self, state=state, changed_at=at, due=due, reason=reason)

    def is_as(self, other: Order) -> bool:
        """Nobody has moved it meanwhile."""
        return (self.state, self.changed_at, self.tries) == (other.state, other.changed_at, other.tries)

    @property
    def send_by(self) -> Millis:
        return Millis((self.sent_at or self.at) + SEND_WITHIN_MS)

    @property
    def bare_items(self) -> tuple[Item, ...]:
        """Without what only the sending needs."""
        return tuple(replace(item, attributes={}) for item in self.items)


class Seen(NamedTuple):
    """An order as ION shows it."""

    ion_order: str
    status: str
    value: Decimal | None
    currency: str | None
    is_named: bool
    """By the CRM's id; else only what it holds speaks for it."""


class Verdict(NamedTuple):
    state: OrderState
    """``SENT``: it may go."""
    reason: str = ""
    value: Decimal | None = None
    currency: str | None = None


def judge(
    order: Order, ion_customer: str | None, products: Mapping[str, Product], since: Millis, limit: Decimal
) -> Verdict:
    """``since``: when syncd began to take orders with this database. ``limit``: what goes without asking a person."""
    cost, currency = value_of(order.items, products)
    if ion_customer is None:
        return Verdict(OrderState.WAITING, f"customer {order.customer} is not linked to ION", cost, currency)
    reason = "" if order.released_by else _doubt(order, products, since, limit, cost, currency)
    return Verdict(OrderState.HELD if reason else OrderState.SENT, reason, cost, currency)


def _doubt(
    order: Order,
    products: Mapping[str, Product],
    since: Millis,
    limit: Decimal,
    cost: Decimal | None,
    currency: str | None,
) -> str:
    if order.at < since:
        return "it was sent before syncd began to take orders with this database: it may have been placed by then"
    if unknown := unlisted(order.items, products):
        return "; ".join(unknown)
    if not cost:  # nothing is what use is billed by
        return "the catalogue does not say what it costs: `syncd ion products import` reads the prices"
    if cost > limit:
        return f"it costs {money(cost)} {currency or ''}".rstrip() + f", and the limit is {money(limit)}"
    return ""


def unlisted(items: Sequence[Item], products: Mapping[str, Product]) -> list[str]:
    """What the catalogue lacks, item by item; each sentence names the field."""
    found = []
    for number, item in enumerate(items):
        if item.subscription is not None and not item.product:
            continue
        product = products.get(item.product)
        offers = [offer.key for offer in product.offers] if product else []
        if product is None:
            found.append(f"items[{number}].product: the catalogue has no product {item.product}")
        elif item.sku and item.sku not in {key.sku for key in offers}:
            found.append(f"items[{number}].sku: product {item.product} has no SKU {item.sku}")
        elif item.plan and (item.sku, item.plan) not in {(key.sku, key.plan) for key in offers}:
            found.append(f"items[{number}].plan: SKU {item.sku} has no plan {item.plan}")
    return found


def value_of(items: Sequence[Item], products: Mapping[str, Product]) -> tuple[Decimal | None, str | None]:
    """What it costs for one term, by the dearest phase of each plan; ``None`` where one price is not known."""
    total, currencies = Decimal(0), set[str | None]()
    for item in items:
        product = products.get(item.product)
        prices = [
            (offer.price, offer.currency)
            for offer in (product.offers if product else ())
            if offer.price is not None and item.sku in ("", offer.key.sku) and item.plan in ("", offer.key.plan)
        ]
        if not prices:
            return None, None
        price, currency = max(prices, key=lambda found: found[0] or Decimal(0))
        total += (price or Decimal(0)) * item.quantity
        currencies.add(currency)
    return (total, currencies.pop()) if len(currencies) == 1 else (None, None)


def found_in(
    seen: Sequence[Seen], others: Collection[str], *, was_sent: bool, is_told: bool
) -> Seen | tuple[Seen, ...]:
    """Which of the orders that ION shows this one is; none or several where it is none, or a person must say.

    ``others``: ION's ids of those that it is not. ``is_told``: this dialect is told the CRM's id.

        ION shows                            the order was sent             it was not
        ───────────────────────────────────  ─────────────────────────────  ────────────────────────
        one of that name                     that one                       that one
        several of that name                 a person                       a person
        only some like it, the id is told    a person: one may be nameless  not there
        only one like it, no id is told      that one                       a person: it may be old
        several like it, no id is told       a person                       a person
        none                                 not there                      not there
    """
    strangers = [one for one in seen if one.ion_order not in others]
    named = [one for one in strangers if one.is_named]
    found = named or ([] if is_told and not was_sent else strangers)
    if len(found) == 1 and (named or (was_sent and not is_told)):
        return found[0]
    return tuple(found)


def settled(order: Order, seen: Seen, now: Millis, due: Millis) -> Order:
    """ION has it: what it says of it, and nothing kept of what only the sending needed."""
    is_over = seen.status.casefold() in FINAL
    state = OrderState.ENDED if is_over else OrderState.PLACED
    if order.state is not state:
        order = order.moved_to(state, now, None)
    return replace(
        order,
        due=None if is_over else due,
        reason="",
        items=order.bare_items,
        ion_order=seen.ion_order,
        ion_status=seen.status,
        value=seen.value if seen.value is not None else order.value,
        currency=seen.currency or order.currency,
    )
