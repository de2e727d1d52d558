"""The consumer of events when the Kafka client under it comes to grief without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, ClassVar

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import NodeNotReadyError

from syncd.app import machine_clock, nothing_to_do
from syncd.crm import kafka
from syncd.crm.kafka import KafkaAccess, KafkaEvents
from syncd.engine.intake import SavedEvent
from syncd.store.memory import MemoryStore
from tests.integration.test_ingest import ingest_into

PLACE = TopicPartition("crm.customers", 0)


class Connections:
    is_closed = False

    async def close(self) -> None:
        self.is_closed = True


class Deaf:
    """Knows that there is more, gets nothing, and never ends: so aiokafka is when a task of its own has died."""

    made: ClassVar[list[Deaf]] = []

    def __init__(self, **_: Any) -> None:
        self._client = Connections()
        self.made.append(self)

    async def start(self) -> None:
        """It starts like any other."""

    async def stop(self) -> None:
        await asyncio.Event().wait()

    def subscribe(self, _: Sequence[str], listener: Any) -> None:
        listener.is_done = True

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    def seek(self, *_: object) -> None:
        """Nothing moves."""

    async def getmany(self, **_: Any) -> dict[TopicPartition, Any]:
        await asyncio.sleep(0.01)
        return {}

    async def end_offsets(self, _: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {PLACE: 7}

    async def position(self, _: TopicPartition) -> int:
        return 3


class Away(Deaf):
    """The brokers answer nobody."""

    async def start(self) -> None:
        raise NodeNotReadyError

    async def stop(self) -> None:
        """Nothing was started."""


class Idle(Deaf):
    """There is nothing more to come."""

    async def position(self, _: TopicPartition) -> int:
        return 7


def read_with(kind: type[Deaf], monkeypatch: pytest.MonkeyPatch) -> KafkaEvents:
    monkeypatch.setattr(kind, "made", [])
    monkeypatch.setattr(kafka, "AIOKafkaConsumer", kind)
    monkeypatch.setattr(kafka, "STOP_SECONDS", 0.1)
    return KafkaEvents(
        KafkaAccess("x"),
        "crm.customers",
        "g",
        nothing_to_do,
        machine_clock(),
        ingest_into(MemoryStore()),
        lambda *_: None,
    )


async def run_for(seconds: float, events: KafkaEvents) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await events.run()


async def consumers_within(seconds: float, kind: type[Deaf], monkeypatch: pytest.MonkeyPatch) -> list[Deaf]:
    monkeypatch.setattr(kafka, "STALL_SECONDS", 0.2)
    await run_for(seconds, read_with(kind, monkeypatch))
    return kind.made


async def test_a_consumer_that_is_behind_and_gets_nothing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made = await consumers_within(1.5, Deaf, monkeypatch)
    assert len(made) >= 2
    assert made[0]._client.is_closed, "it must not keep its partitions"


async def test_a_consumer_that_has_read_all_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(await consumers_within(1.5, Idle, monkeypatch)) == 1


async def test_brokers_away_at_the_start_may_still_know_better(monkeypatch: pytest.MonkeyPatch) -> None:
    events = read_with(Away, monkeypatch)
    await run_for(1, events)
    assert Away.made
    assert events.is_behind


async def test_what_lies_unread_may_know_better_however_slowly_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    events = read_with(Deaf, monkeypatch)
    await run_for(1, events)
    assert events.is_behind


@pytest.mark.parametrize("kind", [Away, Deaf])
async def test_in_the_end_the_rest_goes_on_without_events(kind: type[Deaf], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(kafka, "AWAY_SECONDS", 0.2)
    events = read_with(kind, monkeypatch)
    await run_for(1.5, events)
    assert not events.is_behind


async def test_nothing_waits_where_all_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    events = read_with(Idle, monkeypatch)
    await run_for(0.5, events)
    assert not events.is_behind


def test_aiokafkas_records_are_taken_as_they_come() -> None:
    assert set(SavedEvent._fields) <= {field.name for field in fields(ConsumerRecord)}
