"""S12: offsets are stored with the effect, and the database's offsets win."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from syncd.app import machine_clock
from syncd.core.errors import StoreConflict
from syncd.core.link import How, Link, LinkState
from syncd.core.record import new_record
from syncd.core.values import CrmId, Field, IonId, Millis, Side
from syncd.core.work import DeadLetter
from syncd.crm.commands import dead_letter_message
from syncd.crm.events import EventDecoder
from syncd.engine import ingest
from syncd.engine.ingest import Ingest
from syncd.engine.intake import RawEvent, Records, SavedEvent, dead_letter
from syncd.engine.intents import Intents
from syncd.mapping import load_mapping
from syncd.metrics import Metrics
from syncd.store.memory import MemoryStore, MemoryUnit

TOPIC = "crm.customers"


def ingest_into(store: MemoryStore, metrics: Metrics | None = None) -> Ingest:
    metrics = metrics or Metrics()
    decoder = EventDecoder(load_mapping(None), 2_000)
    return Ingest(
        store,
        machine_clock(),
        metrics,
        Intents(metrics),
        decoder.decode,
        lambda letter: dead_letter_message("d", letter),
    )


def event(offset: int, company: str, partition: int = 0, **more: Any) -> RawEvent:
    body = {"type": "changed", "id": "C1", "customer": {"company": company}, **more}
    return SavedEvent(TOPIC, partition, offset, Millis(1_000 + offset), b"C1", json.dumps(body).encode(), ())


async def held(store: MemoryStore) -> Any:
    async with store.begin() as unit:
        records = await unit.records(Side.CRM, ["C1"])
        return records["C1"].value(Field.COMPANY) if records else None, await unit.offsets(TOPIC)


async def test_the_offset_is_stored_with_the_effect() -> None:
    store = MemoryStore()
    assert await ingest_into(store).ingest(TOPIC, [event(0, "A"), event(1, "B"), event(0, "C", partition=1)], {}) == 1
    assert await held(store) == ("B", {0: 2, 1: 1})


async def test_events_below_the_stored_offset_are_passed_over_and_not_counted_twice() -> None:
    store, metrics = MemoryStore(), Metrics()
    intake = ingest_into(store, metrics)
    await intake.ingest(TOPIC, [event(0, "A")], {})
    assert await intake.ingest(TOPIC, [event(0, "A"), event(1, "B")], {}) == 1
    assert 'syncd_events_total{form="plain",outcome="stored"} 2.0' in metrics.page().decode()


async def test_what_somebody_else_has_stored_is_not_stored_again() -> None:
    """A partition went to another replica while its events were held here, and back."""
    store, metrics = MemoryStore(), Metrics()
    batch = [event(0, "A"), event(1, "B"), event(0, "C", partition=1)]
    await ingest_into(store).ingest(TOPIC, [event(0, "A"), event(1, "B"), event(2, "D")], {})
    assert await ingest_into(store, metrics).ingest(TOPIC, batch, {}) == 0
    assert 'syncd_events_total{form="plain",outcome="stored"} 1.0' in metrics.page().decode(), "that of partition 1"
    assert await held(store) == ("D", {0: 3, 1: 1}), "nobody is moved back"


async def test_a_backlog_is_worked_out_in_parts_and_stored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose events lie in two parts holds what the last of them says, as if they had come one by one."""
    monkeypatch.setattr(ingest, "AT_ONCE", 3)
    names = ["A", "B", "C", "D", "E"]
    batch = [
        event(5 * number + turn, f"{name} {turn}", id=f"C{name}")._replace(key=f"C{name}".encode())
        for turn in range(5)
        for number, name in enumerate(names)
    ]
    batch.sort(key=lambda one: one.offset)
    whole, one_by_one, metrics = MemoryStore(), MemoryStore(), Metrics()
    assert await ingest_into(whole, metrics).ingest(TOPIC, batch, {}) == 5
    assert 'syncd_events_total{form="plain",outcome="stored"} 25.0' in metrics.page().decode()
    for one in batch:
        await ingest_into(one_by_one).ingest(TOPIC, [one], {})
    ids = [f"C{name}" for name in names]
    async with whole.begin() as mine, one_by_one.begin() as theirs:
        found, wanted = await mine.records(Side.CRM, ids), await theirs.records(Side.CRM, ids)
        assert {k: r.registers for k, r in found.items()} == {k: r.registers for k, r in wanted.items()}
        assert found["CA"].value(Field.COMPANY) == "A 4"
        assert await mine.offsets(TOPIC) == await theirs.offsets(TOPIC)


async def test_a_batch_that_fails_to_be_stored_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails at the very last of the unit's writes: neither effect nor offset is kept."""
    store = MemoryStore()
    intake = ingest_into(store)

    async def fail(*_: object) -> None:
        raise StoreConflict

    with monkeypatch.context() as broken:
        broken.setattr(MemoryUnit, "save_offsets", fail)
        with pytest.raises(StoreConflict):
            await intake.ingest(TOPIC, [event(0, "A")], {})
    assert await held(store) == (None, {})
    await intake.ingest(TOPIC, [event(0, "A")], {})
    assert await held(store) == ("A", {0: 1})


async def test_how_much_is_to_come_is_known_for_every_partition_with_the_first_batch() -> None:
    """S9: else the guard would judge what one partition brought as the whole burst."""
    store = MemoryStore()
    intake = ingest_into(store)
    async with store.begin() as unit:
        await unit.save_offsets(TOPIC, {0: 0, 1: 0}, {0: 0, 1: 0})
    await intake.ingest(TOPIC, [event(0, "A")], {0: 1, 1: 160})
    async with store.begin() as unit:
        assert len((await unit.places(TOPIC))[1]) == 160


async def test_the_marker_of_a_transaction_is_no_event_that_is_still_to_come() -> None:
    store = MemoryStore()
    intake = ingest_into(store)
    await intake.ingest(TOPIC, [event(0, "A")], {0: 2}, {0: 1})
    async with store.begin() as unit:
        assert await unit.places(TOPIC) == {0: range(1, 2)}
    await intake.ingest(TOPIC, [], {0: 2}, {0: 2})
    async with store.begin() as unit:
        assert await unit.places(TOPIC) == {0: range(2, 2)}
    await intake.ingest(TOPIC, [], {0: 2}, {0: 1})
    assert (await held(store))[1] == {0: 2}, "who was stopped for a while moves nobody back"


async def test_what_says_nothing_new_wakes_nobody() -> None:
    store = MemoryStore()
    intake = ingest_into(store)
    await intake.ingest(TOPIC, [event(0, "A", time="2026-01-01T00:00:00Z")], {})
    assert await intake.ingest(TOPIC, [event(1, "B", time="2025-01-01T00:00:00Z")], {}) == 0, "it is older"
    assert await intake.ingest(TOPIC, [event(2, "A", time="2026-01-02T00:00:00Z")], {}) == 0, "it is so already"
    assert await intake.ingest(TOPIC, [event(3, "C", time="2026-01-03T00:00:00Z")], {}) == 1
    assert (await held(store))[0] == "C"


async def test_a_new_record_has_no_history() -> None:
    assert new_record(Side.CRM, "C1").registers == {}


HAD = {0: 5, 1: 7}
PLACES = [
    pytest.param({0: 0, 1: 0}, {0: 9, 1: 7}, {0: 5, 1: 7}, 0, id="where it was"),
    pytest.param({0: 6, 1: 7}, {0: 9, 1: 7}, {0: 6, 1: 7}, 1, id="retention took one before it was read"),
    pytest.param({0: 0, 1: 0}, {0: 4, 1: 7}, {0: 0, 1: 7}, 0, id="a partition was made anew"),
    pytest.param({2: 3}, {2: 9}, {2: 3}, 0, id="never read, begun late"),
]


@pytest.mark.parametrize(("starts", "ends", "positions", "missed"), PLACES)
async def test_where_reading_goes_on(
    starts: dict[int, int], ends: dict[int, int], positions: dict[int, int], missed: int
) -> None:
    store, metrics = MemoryStore(), Metrics()
    async with store.begin() as unit:
        await unit.save_offsets(TOPIC, HAD, HAD)
        await unit.add_link(Link(CrmId("C1"), IonId("7"), LinkState.LINKED, How.PERSON, Millis(1), {}))

    async def ask() -> dict[int, range]:
        return {number: range(starts[number], ends[number]) for number in starts}

    assert await ingest_into(store, metrics).take_over(TOPIC, ask) == positions
    assert metrics.registry.get_sample_value("syncd_events_missed_total") == missed
    is_odd = missed > 0 or positions.get(0) == 0
    async with store.begin() as unit:
        assert {p: o for p, o in (await unit.offsets(TOPIC)).items() if p in positions} == positions
        assert bool(await unit.pending()) is is_odd, "everyone is looked at again"


async def test_offsets_that_others_move_while_kafka_is_asked_do_not_look_like_a_new_topic() -> None:
    store = MemoryStore()

    async def ask() -> dict[int, range]:
        ends = {0: range(9)}
        async with store.begin() as unit:  # the owner goes on while we are stopped
            await unit.save_offsets(TOPIC, {0: 12}, {0: 12})
        return ends

    async with store.begin() as unit:
        await unit.save_offsets(TOPIC, {0: 9}, {0: 9})
    assert await ingest_into(store, Metrics()).take_over(TOPIC, ask) == {0: 12}
    async with store.begin() as unit:
        assert await unit.offsets(TOPIC) == {0: 12}


async def test_what_was_no_customers_event_is_not_tried_again_as_one() -> None:
    """An empty record is a deletion on the events' topic; an order or a contract that can't be used is none."""
    store, intake = MemoryStore(), ingest_into(MemoryStore())

    async def take(_: object, events: Sequence[RawEvent], now: Millis) -> list[DeadLetter]:
        return [dead_letter(event, "wrong-type", "no contract", now) for event in events]

    records = Records(
        store, machine_clock(), Metrics(), "contract", take, lambda letter: dead_letter_message("d", letter)
    )
    empty = SavedEvent("crm.contracts", 0, 7, Millis(5), b"C1", None, ())
    assert await records.ingest("crm.contracts", [empty], {0: 8}) == 1
    assert await records.ingest("crm.contracts", [empty], {0: 8}) == 0, "it counts once"
    async with store.begin() as unit:
        [letter] = await unit.list_dead_letters(None, 10)
        assert letter.reason == "bad-contract"
        assert await unit.offsets("crm.contracts") == {0: 8}
    assert "send it anew on crm.contracts" in str(await intake.redrive(letter))
    assert (await held(store))[0] is None


async def test_another_topic_is_read_on_where_it_was() -> None:
    store = MemoryStore()

    async def take(*_: object) -> list[DeadLetter]:
        return []

    metrics = Metrics()
    records = Records(store, machine_clock(), metrics, "order", take, lambda letter: dead_letter_message("d", letter))

    async def there() -> dict[int, range]:
        return {0: range(3, 9)}

    assert await records.take_over("crm.orders", there) == {0: 3}
    order = SavedEvent("crm.orders", 0, 4, Millis(5), b"", b"{}", ())
    await records.ingest("crm.orders", [order], {0: 9})
    assert await records.take_over("crm.orders", there) == {0: 5}

    async def later() -> dict[int, range]:
        return {0: range(8, 9)}

    assert await records.take_over("crm.orders", later) == {0: 8}
    assert b"syncd_events_missed_total 3.0" in metrics.page()
