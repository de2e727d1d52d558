"""S11: what a person asks of ION beside a full backlog takes no more than the operator's lane. On virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

from syncd.core.budget import SHARES, Lane
from syncd.core.policy import Dialect
from syncd.core.values import Millis
from syncd.engine.clock import SharedClock
from syncd.ion.client import IonClient
from syncd.ion.gate import BudgetGate
from syncd.ion.market import Market
from syncd.ion.oauth import Credentials
from syncd.sim.ion import Account, IonOptions, IonServer
from syncd.sim.time import VirtualLoop
from syncd.sim.wire import LocalIon
from syncd.store.memory import MemoryStore
from tests.parts.local import LocalWire

RATE, MINUTES = 60, 20


class Counted(Counter[Lane]):
    def called(self, lane: Lane, operation: str, status: str, seconds: float) -> None:
        self[lane] += operation != "token"


async def _beside(loop: VirtualLoop, *, is_backlog: bool) -> tuple[Counted, Account]:
    account = Account(IonOptions(calls_per_minute=RATE, customers=50), loop.time)
    store = MemoryStore(Random(1), loop.time)
    clock, calls = SharedClock(loop.time, Millis(0)), Counted()
    gate = BudgetGate(store, clock, RATE, 10_000)
    ion = IonClient(
        url="http://ion.simulated",
        account="20481",
        credentials=Credentials("initial-refresh-token"),
        wire=LocalWire(LocalIon(IonServer(account))),
        store=store,
        gate=gate,
        clock=clock,
        owner="me",
        dialect=Dialect.LIVE,
        page_size=None,
        calls=calls,
    )
    market = Market(ion, store)

    async def write() -> None:
        while True:
            async with gate.slots(Lane.WRITE) as slots:
                await ion.get(next(iter(account.customers)), slots)

    async def sweep() -> None:
        while True:
            async for _ in ion.list_customers(Lane.SWEEP):
                pass

    async def operate() -> None:
        while True:
            await market.do("customers get", {"customer": "300001"})

    everyone: list[Any] = [operate] * 5 + ([write] * 10 + [sweep] if is_backlog else [])
    with suppress(TimeoutError):
        async with asyncio.timeout((1 + MINUTES) * 60), asyncio.TaskGroup() as tasks:
            for work in everyone:
                tasks.create_task(work())
            await asyncio.sleep(60)  # before that nobody had waited yet
            calls.clear()
    return calls, account


def test_beside_a_full_backlog_the_operator_has_its_lane_and_no_more(loop: VirtualLoop) -> None:
    calls, account = loop.run_until_complete(_beside(loop, is_backlog=True))
    share = SHARES[Lane.OPERATOR] * RATE
    assert calls[Lane.OPERATOR] <= share * (MINUTES + 1)
    assert calls[Lane.OPERATOR] >= share * (MINUTES - 1), "its lane is its own"
    assert calls[Lane.WRITE] + calls[Lane.SWEEP] >= (RATE - share) * (MINUTES - 1)
    assert calls[Lane.WRITE] >= SHARES[Lane.WRITE] * RATE * (MINUTES - 1)
    assert account.busiest_minute() <= RATE


def test_what_customer_sync_leaves_idle_the_operator_may_use(loop: VirtualLoop) -> None:
    calls, account = loop.run_until_complete(_beside(loop, is_backlog=False))
    assert calls[Lane.OPERATOR] >= RATE * (MINUTES - 1)
    assert account.busiest_minute() <= RATE


async def _order_of_grants(loop: VirtualLoop) -> list[str]:
    """Slots come free one by one; several wait for one each, and last comes who needs two and goes first."""
    store, granted = MemoryStore(Random(1), loop.time), list[str]()
    gate = BudgetGate(store, SharedClock(loop.time, Millis(0)), RATE, 10_000)
    for _ in range(RATE):
        async with gate.slots(Lane.WRITE, goes_first=True) as slots, slots.call():
            await asyncio.sleep(1)

    async def wait_for(who: str, count: int, *, goes_first: bool) -> None:
        async with gate.slots(Lane.WRITE, count, goes_first=goes_first):
            granted.append(who)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(wait_for("other", 1, goes_first=False))
        await asyncio.sleep(0.1)
        tasks.create_task(wait_for("first", 2, goes_first=True))
    return granted


def test_who_goes_first_gets_two_slots_before_those_who_would_take_each_as_it_comes(loop: VirtualLoop) -> None:
    assert loop.run_until_complete(_order_of_grants(loop)) == ["first", "other", "other", "other"]
