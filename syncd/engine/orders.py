"""Orders from the CRM to ION: record → **order** → judged → written down → sent → followed until ION is done with it.

An order is money. It is stored as sent, in a transaction that ends before the call begins; a lost answer leaves it
unknown, and it is looked for in ION before anything is sent again. One replica at a time is at them, an order at a
time. Each step that matters to the CRM is told it, in the transaction that stores the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

import structlog

from syncd.core.budget import Lane
from syncd.core.errors import NotFound, OutcomeUnknown, Rejected, SideError, StoreConflict, SyncdError, UserError
from syncd.core.order import (
    DROPPABLE,
    MAX_TRIES,
    Order,
    OrderState,
    Seen,
    Verdict,
    found_in,
    judge,
    settled,
)
from syncd.core.values import Millis, Side, subject_of
from syncd.core.work import DeadLetter, DecisionEntry, Message
from syncd.engine.intake import RawEvent, dead_letter
from syncd.engine.ports import Clock, Seller, Store, Unit

SINCE = "orders_since"
"""The note of when syncd began to take orders with this database."""
AGAIN_MS = 60_000
"""An order that waits for something is looked at again after so long; one that ION goes on with, at first."""
SELDOM_MS, DAY_MS = 3_600_000, 86_400_000
REPLACEABLE = (*DROPPABLE, OrderState.DROPPED)
MAY_BE_THERE = (OrderState.HELD, OrderState.UNKNOWN, OrderState.PLACED)
SKEW_MS = 600_000
"""ION's clock may be behind ours by so much."""

log = structlog.get_logger()


class BadOrder(NamedTuple):
    """A record that can't be used: what may be kept of it, and which order it was, as far as that can be told."""

    order_id: str | None
    detail: str
    kept: bytes | None


ReadOrder = Callable[[RawEvent, Millis], Order | BadOrder]


class OrderBook:
    """Every change of an order goes through here: it is stored, logged, and told the CRM."""

    def __init__(self, describe: Callable[[Order, Millis], Message]) -> None:
        self._describe = describe

    async def keep(self, unit: Unit, order: Order, before: Order | None, now: Millis) -> None:
        await unit.save_order(order)
        if before is not None and _told(order) == _told(before):
            return
        detail = {"order": order.id, "ion_order": order.ion_order, "ion_status": order.ion_status}
        detail |= {"why": order.reason} if order.reason else {}
        subject = subject_of(Side.CRM, order.customer)
        what = f"order-{order.state}"
        await unit.log([DecisionEntry(now, subject, order.customer, order.ion_customer, what, None, detail)])
        if before is not None and (order.state is not OrderState.SENT or before.state is OrderState.SENT):
            await unit.post([self._describe(order, now)])

    async def release(self, unit: Unit, order_id: str, by: str, now: Millis) -> None:
        """Let an order go that was held, or try one again that was refused."""
        order = await find_order(unit, order_id)
        if order.state not in (OrderState.HELD, OrderState.REFUSED):
            raise UserError(f"order {order_id} is {order.state}: only one that is held or refused can be released")
        free = replace(order.moved_to(OrderState.WAITING, now, now), released_by=by, tries=0)
        await self.keep(unit, free, order, now)
        await _steered(unit, free, "order-released", by, now)

    async def adopt(self, unit: Unit, order_id: str, ion_order: str, by: str, now: Millis) -> None:
        """A person says which order in ION it is."""
        order = await find_order(unit, order_id)
        if order.state not in MAY_BE_THERE or order.ion_customer is None:
            raise UserError(f"order {order_id} is {order.state}: only one that was held or sent can be one in ION")
        if ion_order in await unit.ion_orders(order.ion_customer):
            raise UserError(f"ION's order {ion_order} is another order of the CRM's")
        placed = order if order.state is OrderState.PLACED else order.moved_to(OrderState.PLACED, now, now)
        placed = replace(placed, due=now, reason="", ion_order=ion_order, items=order.bare_items)
        await self.keep(unit, placed, order, now)
        await _steered(unit, placed, "order-released", by, now)

    async def drop(self, unit: Unit, order_id: str, by: str, now: Millis) -> None:
        """Say no to an order that was not sent, or was refused."""
        order = await find_order(unit, order_id)
        if order.state not in DROPPABLE:
            raise UserError(
                f"order {order_id} is {order.state}: only one that was not sent, or was refused, can be dropped"
            )
        dropped = replace(order.moved_to(OrderState.DROPPED, now, None, f"{by} said no"), items=order.bare_items)
        await self.keep(unit, dropped, order, now)
        await _steered(unit, order, "order-stopped", by, now)


class OrderIntake:
    """Takes in what the CRM orders: the same id is the same order."""

    def __init__(self, book: OrderBook, read: ReadOrder, refuse: Callable[[str, str, Millis], Message]) -> None:
        self._book = book
        self._read = read
        self._refuse = refuse

    async def take(self, unit: Unit, events: Sequence[RawEvent], now: Millis) -> list[DeadLetter]:
        letters = []
        for event in events:
            told = self._read(event, now)
            if isinstance(told, BadOrder):
                letters.append(replace(dead_letter(event, "wrong-type", told.detail, now), value=told.kept))
                await self._refuse_or_hold(unit, told, now)
            else:
                await self._take(unit, told, now)
        return letters

    async def _take(self, unit: Unit, order: Order, now: Millis) -> None:
        known = await unit.order(order.id)
        if known is None:
            await self._book.keep(unit, order, None, now)
        elif known.state in REPLACEABLE and not (known.tries or known.not_it):  # not in ION: what differs is it now
            was = known.bare_items if known.state is OrderState.DROPPED else known.items
            said = order.bare_items if known.state is OrderState.DROPPED else order.items
            if (known.customer, was) != (order.customer, said):
                await self._book.keep(unit, replace(order, at=min(known.at, order.at)), known, now)
        elif (known.customer, known.bare_items) != (order.customer, order.bare_items):
            why = "it was sent already, and is not changed: what is different needs an order of its own"
            await self._book.keep(unit, replace(known, reason=why), known, now)

    async def _refuse_or_hold(self, unit: Unit, bad: BadOrder, now: Millis) -> None:
        """The CRM is told, of an order that is known what it is: one that has not gone waits for a person."""
        known = await unit.order(bad.order_id) if bad.order_id is not None else None
        if known is not None:
            why = f"the CRM sent it again, and that can't be used: {bad.detail}"
            is_waiting = known.state is OrderState.WAITING
            after = known.moved_to(OrderState.HELD, now, None, why) if is_waiting else replace(known, reason=why)
            await self._book.keep(unit, after, known, now)
        elif bad.order_id is not None:
            await unit.post([self._refuse(bad.order_id, bad.detail, now)])


class Orders:
    def __init__(
        self, store: Store, seller: Seller, clock: Clock, book: OrderBook, limit: Decimal, settle_ms: int
    ) -> None:
        """``limit``: what an order may cost without a person. ``settle_ms``: no call is under way for longer."""
        self._store = store
        self._seller = seller
        self._clock = clock
        self._book = book
        self._limit = limit
        self._settle_ms = settle_ms

    async def begin(self) -> None:
        """Orders are taken with this database from now on, or were already."""
        async with self._store.begin() as unit:
            if await unit.note(SINCE) is None:
                await unit.save_note(SINCE, str(self._clock.now()))

    async def work(self, is_over: Callable[[], bool]) -> None:
        """Do all that is due."""
        while not is_over():
            async with self._store.begin() as unit:
                order = await unit.order_due(self._clock.now())
            if order is None:
                return
            await self._step(order)

    async def next_due(self) -> Millis | None:
        async with self._store.begin() as unit:
            return await unit.next_order_due()

    async def _step(self, order: Order) -> None:
        try:
            match order.state:
                case OrderState.WAITING:
                    await self._send(order)
                case OrderState.SENT:  # whoever sent it is gone: we have the lease
                    await self._move(order, lambda known: self._lost(known, "its sender is gone"))
                case OrderState.UNKNOWN:
                    await self._find(order)
                case OrderState.PLACED:
                    await self._follow(order)
                case _:
                    await self._move(order, lambda known: replace(known, due=None))
        except StoreConflict:
            raise
        except SyncdError as error:
            await self._put_off(order, error.sentence)
        except Exception as error:  # one order must not hold up the others
            log.exception("order_failed", order=order.id)
            await self._put_off(order, f"syncd failed at it: {type(error).__name__}")

    async def _put_off(self, order: Order, reason: str) -> None:
        """It stays what it is, and is looked at again: the older it is, the later."""
        now = self._clock.now()
        due = _later(order.at, now, SELDOM_MS)
        log.warning("order_waits", order=order.id, state=order.state.value, reason=reason)

        def after(known: Order) -> Order:
            if known.state is OrderState.UNKNOWN and now > known.changed_at + DAY_MS:
                return known.moved_to(
                    OrderState.HELD, now, None, f"nobody could find out whether ION has it: {reason}"
                )
            return replace(known, due=due, reason=reason)

        await self._move(order, after)

    # -- not sent

    async def _send(self, order: Order) -> None:
        judged = await self._judge(order.id)
        if judged is None:
            return
        try:
            await self._seller.check(judged)
        except UserError as error:
            sentence = error.sentence
            now = self._clock.now()
            await self._move(judged, lambda known: known.moved_to(OrderState.REFUSED, now, None, sentence))
            return
        if found := await self._look_for(judged, judged.at, was_sent=False):  # a database may have lost what it sent
            await self._settle(judged, found)
            return
        async with self._seller.slots(Lane.OPERATOR, 1) as slots:
            sent = await self._write_down(judged)
            if sent is None:
                return
            try:
                seen_at_once = await self._seller.place(sent, slots, sent.send_by)
            except SideError as error:
                await self._record_failure(sent, error)
            else:
                await self._settle(sent, seen_at_once)

    async def _look_for(self, order: Order, since: Millis, *, was_sent: bool) -> Seen | tuple[Seen, ...]:
        seen = await self._seller.placed(order, Millis(since - SKEW_MS))
        async with self._store.begin() as unit:
            others = await unit.ion_orders(order.ion_customer or "")
        is_told = await self._seller.is_told_references()
        return found_in(seen, {*others, *order.not_it}, was_sent=was_sent, is_told=is_told)

    async def _judge(self, order_id: str) -> Order | None:
        """The order, if it may go now; what else becomes of it is stored."""
        async with self._store.begin() as unit:
            now = self._clock.now()
            order = await unit.order(order_id)
            if order is None or order.state is not OrderState.WAITING:
                return None
            link = (await unit.links(Side.CRM, [order.customer])).get(order.customer)
            products = await unit.products({item.product for item in order.items if item.product})
            since = Millis(int(await unit.note(SINCE) or now))
            verdict = judge(order, link.ion_id if link else None, products, since, self._limit)
            judged = replace(
                order,
                value=verdict.value,
                currency=verdict.currency,
                ion_customer=link.ion_id if link else None,
            )
            is_paused = (await unit.guard_state()).paused_since is not None
            if is_paused and verdict.state is OrderState.SENT:
                verdict = Verdict(OrderState.WAITING, "writes are paused")
            if verdict.state is OrderState.SENT:
                await unit.save_order(judged)
                return judged
            is_held = verdict.state is OrderState.HELD
            waits = replace(judged, due=Millis(now + AGAIN_MS), reason=verdict.reason)
            after = judged.moved_to(OrderState.HELD, now, None, verdict.reason) if is_held else waits
            await self._book.keep(unit, after, order, now)
            return None

    async def _write_down(self, judged: Order) -> Order | None:
        """From here on it may be in ION. ``None``: it is not what was judged any more."""
        async with self._store.begin() as unit:
            now = self._clock.now()
            order = await unit.order(judged.id)
            link = (await unit.links(Side.CRM, [judged.customer])).get(judged.customer)
            is_as_judged = order == judged and link is not None and link.ion_id == judged.ion_customer
            if order is None or not is_as_judged or (await unit.guard_state()).paused_since is not None:
                return None
            sent = order.moved_to(OrderState.SENT, now, now)
            sent = replace(sent, tries=order.tries + 1, sent_at=now)
            await self._book.keep(unit, sent, order, now)
            return sent

    async def _record_failure(self, sent: Order, error: SideError) -> None:
        now, reason = self._clock.now(), error.sentence

        def unsent(known: Order, state: OrderState, due: Millis | None) -> Order:
            """It is certainly not in ION."""
            tries = 0 if state is OrderState.REFUSED else known.tries - 1
            return replace(known.moved_to(state, now, due, reason), tries=tries)

        match error:
            case OutcomeUnknown():
                await self._move(sent, lambda known: self._lost(known, reason))
            case Rejected(status=409 | 412) if sent.tries > 1 or sent.released_by:
                # The one that was lost may be what is in the way.
                await self._move(sent, lambda known: self._lost(known, reason))
            case Rejected():
                await self._move(sent, lambda known: unsent(known, OrderState.REFUSED, None))
            case _:  # refused before it was looked at
                due = _later(sent.at, now, SELDOM_MS)
                await self._move(sent, lambda known: unsent(known, OrderState.WAITING, due))

    def _lost(self, order: Order, reason: str) -> Order:
        """Looked for once no call of its is under way any more, whoever began it."""
        now = self._clock.now()
        return order.moved_to(OrderState.UNKNOWN, now, Millis(max(now, order.send_by + self._settle_ms)), reason)

    # -- sent

    async def _find(self, order: Order) -> None:
        """Its answer was lost: is it in ION?"""
        await self._settle(order, await self._look_for(order, order.sent_at or order.at, was_sent=True))

    async def _settle(self, order: Order, found: Seen | tuple[Seen, ...]) -> None:
        now = self._clock.now()

        def after(known: Order) -> Order:
            if isinstance(found, Seen):
                return settled(known, found, now, self._look_at(known, now))
            if found:
                ids = tuple(sorted(one.ion_order for one in found))
                which = f"ION has {', '.join(ids)}, which may be this order"
                why = f"{which}: look there, then release it, with --as if it is"
                return replace(known.moved_to(OrderState.HELD, now, None, why), not_it=(*known.not_it, *ids))
            if known.tries >= MAX_TRIES:
                why = f"it was lost {known.tries} times, and is not in ION: look there, then release it"
                return known.moved_to(OrderState.HELD, now, None, why)
            return known.moved_to(OrderState.WAITING, now, now)

        await self._move(order, after)

    async def _follow(self, order: Order) -> None:
        seen = await self._seller.look(order)
        now = self._clock.now()
        await self._move(order, lambda known: settled(known, seen, now, self._look_at(known, now)))

    def _look_at(self, order: Order, now: Millis) -> Millis:
        """The longer it stays as it is, the less often it is looked at: others wait to be sent."""
        return _later(order.changed_at, now, DAY_MS)

    async def _move(self, order: Order, step: Callable[[Order], Order]) -> None:
        """One step, from the state that it was seen in; where another has made one meanwhile, that one stands."""
        async with self._store.begin() as unit:
            known = await unit.order(order.id)
            if known is None or not known.is_as(order):
                return
            await self._book.keep(unit, step(known), known, self._clock.now())


def _later(since: Millis, now: Millis, most_ms: int) -> Millis:
    """After a quarter of the time that it has gone on, within bounds."""
    return Millis(now + min(most_ms, max(AGAIN_MS, (now - since) // 4)))


def _told(order: Order) -> tuple[object, ...]:
    return order.state, order.ion_order, order.ion_status, order.reason


async def find_order(unit: Unit, order_id: str) -> Order:
    """Raises ``NotFound``."""
    order = await unit.order(order_id)
    if order is None:
        raise NotFound(f"the CRM has sent no order {order_id}: `syncd ion orders incoming` shows those it has")
    return order


async def _steered(unit: Unit, order: Order, what: str, by: str, now: Millis) -> None:
    subject = subject_of(Side.CRM, order.customer)
    detail = {"by": by, "order": order.id}
    await unit.log([DecisionEntry(now, subject, order.customer, order.ion_customer, what, None, detail)])
