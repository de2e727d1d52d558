"""What waits for Kafka: a topic that takes nothing holds up no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import cast

import pytest

from syncd.core.errors import StoreConflict, Transient
from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.values import Field, Millis, Side, Subject
from syncd.core.work import Message
from syncd.engine.deliver import HAND_OVER_MS, SHUT_MS, Deliver
from syncd.engine.facts import Facts
from syncd.engine.intents import Intents
from syncd.engine.ports import Command, CrmAnswer, CrmSink
from syncd.engine.tries import TRIES
from syncd.metrics import Metrics
from syncd.store.memory import MemoryStore, MemoryUnit
from tests.parts.clock import HandClock


class Broker:
    """Takes what is for a topic that it has."""

    def __init__(self, *topics: str) -> None:
        self.topics = set(topics)
        self.taken: list[str] = []
        self.asked = 0

    async def send(self, messages: Sequence[Message]) -> None:
        self.asked += 1
        if not {message.topic for message in messages} <= self.topics:
            raise Transient("Kafka takes no messages: UnknownTopicOrPartitionError")
        self.taken += [(message.value or b"").decode() for message in messages]


async def test_a_missing_topic_holds_up_no_other_and_is_asked_again_with_growing_distance() -> None:
    store, clock, broker = MemoryStore(Random(1)), HandClock(), Broker("links")
    deliver = Deliver(store, cast(CrmSink, None), broker, clock, Facts(0, 0, ""), Intents(Metrics()))
    async with store.begin() as unit:
        values = [("products", "p1"), ("links", "l1"), ("products", "p2"), ("links", "l2")]
        await unit.post([Message(topic, None, value.encode()) for topic, value in values])
    with pytest.raises(Transient, match="products: Kafka takes no messages"):
        await deliver.messages()
    assert await deliver.messages() == 2
    assert broker.taken == ["l1", "l2"]
    assert await deliver.messages() == 0, "the missing one is let alone for a while"
    asked = broker.asked
    for _ in range(60):
        clock.at = Millis(clock.at + 1_000)
        try:
            await deliver.messages()
        except Transient:
            continue
    assert 4 <= broker.asked - asked <= 6
    broker.topics.add("products")
    clock.at = Millis(clock.at + SHUT_MS)
    assert await deliver.messages() == 2
    assert broker.taken == ["l1", "l2", "p1", "p2"], "each topic in its order"


class DiesOnce:
    """A sink whose process dies in the middle of handing over, and is there again afterwards."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.dies = True

    async def deliver(self, command: Command) -> None:
        if self.dies:
            self.dies = False
            raise KeyboardInterrupt
        self.got.append(command.intent.id)


async def test_a_command_that_was_about_to_be_handed_over_when_its_process_died_goes_soon() -> None:
    """S12. It had failed before, so that its next distance would have been minutes."""
    store, clock, sink = MemoryStore(Random(1)), HandClock(), DiesOnce()
    deliver = Deliver(store, cast(CrmSink, sink), Broker(), clock, Facts(0, 0, ""), Intents(Metrics()))
    subject = Subject("crm:C1")
    intent = Intent(
        "i1", subject, Side.CRM, Kind.UPDATE, {}, {}, IntentState.SENT, clock.at, "C1", "7", {}, attempts=5
    )
    async with store.begin() as unit:
        await unit.save_intent(intent, deliver_at=clock.at)
    with pytest.raises(KeyboardInterrupt):
        await deliver.commands()
    clock.at = Millis(clock.at + HAND_OVER_MS)
    await deliver.commands()
    assert sink.got == ["i1"]
    async with store.begin() as unit:
        due = await unit.next_command_due()
    assert due is not None
    assert due > clock.at + HAND_OVER_MS, "what is there waits for its answer with growing distance"


class TellsAtOnce:
    """A CRM that answers, while the event about the same change is being stored."""

    def __init__(self, store: BusyStore, times: int) -> None:
        self.store, self.times = store, times
        self.got: list[str] = []

    async def deliver(self, command: Command) -> CrmAnswer:
        self.got.append(command.intent.id)
        self.store.busy = self.times
        return CrmAnswer(command.intent.crm_id or "", {Field.EMAIL: "a@example.com"}, command.at)


class BusyStore(MemoryStore):
    busy = 0
    """So many of the next units meet somebody else."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryUnit]:
        async with super().begin() as unit:
            yield unit
            if self.busy:
                self.busy -= 1
                raise StoreConflict


@pytest.mark.parametrize("times", [1, TRIES])
async def test_an_event_that_is_stored_while_the_crm_answers_holds_up_no_command(times: int) -> None:
    store = BusyStore(Random(1))
    clock, sink = HandClock(), TellsAtOnce(store, times)
    deliver = Deliver(store, cast(CrmSink, sink), Broker(), clock, Facts(0, 0, ""), Intents(Metrics()))
    customers = ["C1", "C2", "C3"]
    async with store.begin() as unit:
        for crm_id in customers:
            intent = Intent(
                f"for-{crm_id}",
                Subject(f"crm:{crm_id}"),
                Side.CRM,
                Kind.UPDATE,
                {Field.EMAIL: "a@example.com"},
                {},
                IntentState.SENT,
                clock.at,
                crm_id,
                "7",
                {},
            )
            await unit.save_intent(intent, deliver_at=clock.at)
    await deliver.commands()
    assert sink.got == [f"for-{crm_id}" for crm_id in customers]
    if times == TRIES:  # nobody could note it: each goes again soon, and is noted then
        sink.times = 0
        clock.at = Millis(clock.at + HAND_OVER_MS)
        await deliver.commands()
        assert sink.got == 2 * [f"for-{crm_id}" for crm_id in customers]
    async with store.begin() as unit:
        told = await unit.records(Side.CRM, customers)
    assert [told[crm_id].value(Field.EMAIL) for crm_id in customers] == ["a@example.com"] * 3
