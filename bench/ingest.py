"""How fast do events become durable state, beside Kafka Connect with a JDBC sink, and beside what is possible at all?

Real Kafka, real PostgreSQL, the real daemon as a process, on the same events in alternating runs. Each program is
told of all customers, as in daily life, and made to wait; then the topic is filled; the clock runs from the moment
that it may go on to the moment that the last event of each partition can be seen in the database.
``python -m bench.ingest``.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.machine import cpu_seconds, forget_peak, peak_megabytes, ratio, spread
from bench.peer.connect import Connect
from bench.table import Row, command, reached, show
from syncd.crm.kafka import CHUNK, FETCH_BYTES
from tests.parts.kafka import Kafka, free_port, own_kafka
from tests.parts.postgres import Postgres
from tests.parts.world import World

EVENTS = int(os.environ.get("BENCH_EVENTS", "200000"))
CUSTOMERS = int(os.environ.get("BENCH_CUSTOMERS", "20000"))
RUNS, WARM_UPS = int(os.environ.get("BENCH_RUNS", "5")), int(os.environ.get("BENCH_WARM_UPS", "3"))
PARTITIONS = 6
HELD_SECONDS = 6
"""Ten after its last heartbeat, three apart, Kafka takes its partitions from a consumer that stands still."""
COMMAND = command("ingest")
STORED = "SELECT sum(next_offset)::bigint FROM offsets"
LINKED = """
    INSERT INTO links (crm_id, ion_id, state, how, since, base, spellings, written_at)
    SELECT customer_id, 'I' || customer_id, 'linked', 'person', 0, '{}', '[]', 0 FROM records WHERE side = 'crm'
"""
FIELDS = ("company", "email", "country", "phone", "contact", "title", "language", "address_street")
WORDS = ["harbour", "lights", "north", "dental", "amber", "field", "stone", "bridge", "care", "legal", "quay", "west"]

Event = tuple[str, str, bytes]
"""Its customer, the title that it gives, and all of it."""
Ends = Mapping[int, tuple[str, str]]
"""By partition: the customer of its last event, and the title that the event gave it."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took: seconds, and CPU seconds of the program and of PostgreSQL and Kafka beneath it."""

    seconds: float
    program: float
    postgres: float
    kafka: float
    megabytes: float

    @property
    def rate(self) -> float:
        return EVENTS / self.seconds

    @property
    def per_cpu_second(self) -> float:
        return EVENTS / (self.program + self.postgres + self.kafka)


def customer(number: int, rng: Random) -> dict[str, str]:
    name = " ".join(rng.choices(WORDS, k=4)).title()
    return {
        "company": f"{name} {number} Partnership Ltd",
        "email": f"accounts.{number}@{name.split()[0].lower()}-{number}.example",
        "country": "US",
        "phone": f"+1813555{number % 10_000:04d}",
        "contact": f"{rng.choice(WORDS).title()} {rng.choice(WORDS).title()}",
        "title": "Practice Manager",
        "language": "EN",
        "address_street": f"{number} {' '.join(rng.choices(WORDS, k=6)).title()} Boulevard, Floor {number % 40}",
    }


class Events:
    """Of the same customers, the same again and again: each event gives one of them a title of its own."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._rng = Random(1)
        self._customers = [customer(number, self._rng) for number in range(CUSTOMERS)]
        self._version = 0
        self._topic = topic
        options = {"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
        self._producer = Producer(options)

    def of_everyone(self) -> list[Event]:
        return [self._change(who) for who in range(CUSTOMERS)]

    def of_some(self) -> list[Event]:
        return [self._change(self._rng.randrange(CUSTOMERS)) for _ in range(EVENTS)]

    def _change(self, who: int) -> Event:
        self._version += 1
        values, title = self._customers[who], f"Practice Manager {self._version}"
        values["title"] = title
        if self._version % 5 == 0:
            values["phone"] = f"+1813{self._rng.randrange(10**7):07d}"
        event = {"type": "changed", "id": f"C{who}", "version": self._version, "customer": values}
        return f"C{who}", title, json.dumps(event).encode()

    def send(self, events: Sequence[Event]) -> Ends:
        ends = dict[int, tuple[str, str]]()
        for number, (who, title, value) in enumerate(events):
            self._producer.produce(self._topic, value, who, on_delivery=partial(_note, ends, (who, title)))
            if number % 1_000 == 0:
                self._producer.poll(0)
        self._producer.flush(60)
        return ends


def _note(ends: dict[int, tuple[str, str]], told: tuple[str, str], _: object, message: Any) -> None:
    ends[message.partition()] = told


def make_topic(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)


class Watch:
    """From now on, until it is stopped."""

    def __init__(self, program: int, postgres: int, kafka: int) -> None:
        self._pids = (program, postgres, kafka)
        forget_peak(program)
        self._before = [cpu_seconds(pid) for pid in self._pids]
        self._began = time.perf_counter()

    def stop(self) -> Run:
        seconds = time.perf_counter() - self._began
        spent = [cpu_seconds(pid) - was for pid, was in zip(self._pids, self._before, strict=True)]
        program, postgres, kafka = spent
        return Run(seconds, program, postgres, kafka, peak_megabytes(self._pids[0]))


async def do(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def until(url: str, statement: str, wanted: object) -> None:
    """Until the database answers so; asked so seldom that asking costs nothing to speak of."""
    connection = await asyncpg.connect(url)
    try:
        deadline = time.monotonic() + 300
        while await connection.fetchval(statement) != wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(statement)
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


class Bench:
    def __init__(self, folder: Path, kafka: Kafka) -> None:
        self.folder, self.kafka = folder, kafka
        self.postgres = Postgres(folder / "postgres")
        self.port = free_port()
        self.postgres.listen(self.port)
        self.number = 0
        self.worker: Connect | None = None
        self.last_syncd = ""
        """The database of the last run of syncd."""

    def close(self) -> None:
        if self.worker is not None:
            self.worker.stop()
        self.postgres.stop()

    def database(self, name: str) -> str:
        asyncio.run(do(self.postgres.url, f"CREATE DATABASE {name}"))
        return self.postgres.url.replace("/postgres?", f"/{name}?")

    def syncd(self, found: list[Run]) -> None:
        self.number += 1
        name = f"syncd{self.number}"
        url = self.last_syncd = self.database(name)
        world = World(self.folder, self.kafka.address, url, name, partitions=PARTITIONS)
        world.environ |= {"SYNCD_SYNC__CREATE_IN_ION": "false", "SYNCD_SYNC__CREATE_IN_CRM": "false"}
        world.environ["SYNCD_POLL__INTERVAL_SECONDS"] = "60"  # as by default
        try:
            pid = world.start().popen.pid
            events = Events(self.kafka.address, world.topics.events)
            events.send(events.of_everyone())
            asyncio.run(until(url, STORED, CUSTOMERS))
            asyncio.run(do(url, LINKED))
            made, held = events.of_some(), time.monotonic()
            with world.standing_still():
                events.send(made)
                assert time.monotonic() < held + HELD_SECONDS, "its partitions may have been taken away meanwhile"
                watch = Watch(pid, self.postgres.pid, self.kafka.pid)
            asyncio.run(until(url, STORED, CUSTOMERS + EVENTS))
            found.append(watch.stop())
        finally:
            world.close()

    def connect(self, found: list[Run]) -> None:
        self.number += 1
        topic = f"connect{self.number}"
        url = self.database(topic)
        make_topic(self.kafka.address, topic)
        jdbc = f"jdbc:postgresql://127.0.0.1:{self.port}/{topic}?reWriteBatchedInserts=true"
        if self.worker is None:
            self.worker = Connect(self.folder / "connect", self.kafka.address)
        self.worker.begin(topic, jdbc, FIELDS)
        events = Events(self.kafka.address, topic)
        try:
            asyncio.run(self._until_there(url, topic, events.send(events.of_everyone())))
            made = events.of_some()
            self.worker.pause()
            ends = events.send(made)
            watch = Watch(self.worker.process.pid, self.postgres.pid, self.kafka.pid)
            self.worker.resume()
            asyncio.run(self._until_there(url, topic, ends))
            found.append(watch.stop())
        except TimeoutError:
            print(*self.worker.problems(), sep="\n")
            raise
        finally:
            self.worker.end()

    def limits(self) -> dict[str, list[float]]:
        """Events a second that the machine would give at most, whatever is done with them."""
        topic = f"bare{self.number}"
        make_topic(self.kafka.address, topic)
        events = Events(self.kafka.address, topic)
        events.send(events.of_some())
        found = {"aiokafka alone": [asyncio.run(read_bare(self.kafka.address, topic)) for _ in range(RUNS)]}
        if self.last_syncd:
            copied = [asyncio.run(copy_rows(self.last_syncd)) for _ in range(RUNS)]
            found[f"COPY of the {CUSTOMERS:,} rows that are left, as events/s"] = copied
        return found

    async def _until_there(self, url: str, table: str, ends: Ends) -> None:
        await until(url, f"SELECT count(*) FROM pg_class WHERE relname = '{table}'", 1)
        last = ", ".join(f"('{who}', '{title}')" for who, title in ends.values())
        await until(url, f"SELECT count(*) FROM {table} WHERE (id, title) IN ({last})", len(ends))


async def read_bare(kafka: str, topic: str) -> float:
    """Events a second that aiokafka reads when nothing is done with them."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", max_partition_fetch_bytes=FETCH_BYTES
    )
    await consumer.start()
    began, read = time.perf_counter(), 0
    try:
        while read < EVENTS:
            read += sum(map(len, (await consumer.getmany(timeout_ms=200, max_records=CHUNK)).values()))
    finally:
        await consumer.stop()
    return read / (time.perf_counter() - began)


async def copy_rows(url: str) -> float:
    """Events a second, if all of what they leave behind were known and only had to be copied into a table."""
    connection = await asyncpg.connect(url)
    try:
        rows = [tuple(row) for row in await connection.fetch("SELECT * FROM records WHERE side = 'crm'")]
        await connection.execute("DROP TABLE IF EXISTS copied")
        await connection.execute("CREATE TABLE copied (LIKE records INCLUDING ALL)")
        began = time.perf_counter()
        await connection.copy_records_to_table("copied", records=rows)
        return EVENTS / (time.perf_counter() - began)
    finally:
        await connection.close()


def say(name: str, run: Run) -> None:
    print(
        f"{name:20} {run.rate:10,.0f} events/s; CPU s: program {run.program:.2f}, PostgreSQL {run.postgres:.2f},"
        f" Kafka {run.kafka:.2f}; {run.per_cpu_second:,.0f} events a CPU second; {run.megabytes:,.0f} MB",
        flush=True,
    )


def measure() -> list[Row]:
    found: dict[str, list[Run]] = {name: [] for name in os.environ.get("BENCH_ONLY", "connect,syncd").split(",")}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        own_kafka(Path(folder) / "kafka") as kafka,
    ):
        bench = Bench(Path(folder), kafka)
        try:
            for number in range(WARM_UPS + RUNS):
                for name, runs in found.items():
                    getattr(bench, name)(runs)
                    say(name + (" (warm-up)" if number < WARM_UPS else ""), runs[-1])
            limits = bench.limits()
        finally:
            bench.close()
    counted = {name: runs[WARM_UPS:] for name, runs in found.items()}
    what = f"ingest, {EVENTS:,} events of {CUSTOMERS:,} known, linked customers"
    return [
        compared(f"{what}: events/s", counted, lambda run: run.rate, ("≥", 1.5), limits),
        compared(f"{what}: events a CPU second, of all processes", counted, lambda run: run.per_cpu_second, (">", 1)),
        compared(f"{what}: memory of the program, MB", counted, lambda run: run.megabytes, ("≤", 0.2)),
    ]


COMPARE: Mapping[str, Callable[[float, float], bool]] = {"≥": operator.ge, ">": operator.gt, "≤": operator.le}


def compared(
    what: str,
    found: Mapping[str, Sequence[Run]],
    value: Callable[[Run], float],
    goal: tuple[str, float],
    limits: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Row:
    """``goal``: how the ratio to the peer has to compare with what."""
    values = {name: [value(run) for run in runs] for name, runs in found.items()}
    mine, theirs = values.get("syncd", []), values.get("connect", [])
    against = {**({"Kafka Connect": theirs} if theirs else {}), **limits}
    said = "; ".join(f"{name} {spread(numbers)}" for name, numbers in against.items())
    ratios = "; ".join(ratio(mine, numbers, ".2f") for numbers in against.values()) if mine else "—"
    how, much = goal
    is_reached = reached([COMPARE[how](ours / other, much) for ours, other in zip(mine, theirs, strict=False)])
    return Row(what, spread(mine) if mine else "—", f"ratio {how} {much}", is_reached, said, ratios, COMMAND)


if __name__ == "__main__":
    show(measure())
