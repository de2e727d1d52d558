"""How fast do events become durable state, beside Kafka Connect with a JDBC sink, and beside what is possible at all?

Real Kafka, real PostgreSQL, the real daemon as a process, on the same events in alternating runs. Each program is
started on an empty topic and made to wait; then the topic is filled; the clock runs from the moment that it may go on
to the moment that the last event of each partition can be seen in the database.
``python -m bench.ingest``.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.machine import cpu_seconds, peak_megabytes, ratio, spread
from bench.peer.connect import Connect
from bench.table import Row, command, reached, show
from syncd.crm.kafka import CHUNK, FETCH_BYTES
from tests.parts.kafka import Kafka, free_port
from tests.parts.postgres import Postgres
from tests.parts.world import World

EVENTS = int(os.environ.get("BENCH_EVENTS", "200000"))
CUSTOMERS = int(os.environ.get("BENCH_CUSTOMERS", "20000"))
RUNS, WARM_UPS = int(os.environ.get("BENCH_RUNS", "5")), int(os.environ.get("BENCH_WARM_UPS", "3"))
IS_KNOWN = "BENCH_UNKNOWN" not in os.environ
"""The customers were told of before, as in daily life; for syncd, they are linked too."""
PARTITIONS = 6
COMMAND = command("ingest")
STORED = "SELECT sum(next_offset)::bigint FROM offsets"
LINKED = """
    INSERT INTO links (crm_id, ion_id, state, how, since, base, spellings, written_at)
    SELECT customer_id, 'I' || customer_id, 'linked', 'person', 0, '{}', '[]', 0 FROM records WHERE side = 'crm'
"""
FIELDS = ("company", "email", "country", "phone", "contact", "title", "language", "address_street")
WORDS = ["harbour", "lights", "north", "dental", "amber", "field", "stone", "bridge", "care", "legal", "quay", "west"]

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

    def of_everyone(self) -> Ends:
        return self._send(range(CUSTOMERS))

    def of_some(self) -> Ends:
        return self._send([self._rng.randrange(CUSTOMERS) for _ in range(EVENTS)])

    def _send(self, customers: Sequence[int]) -> Ends:
        ends = dict[int, tuple[str, str]]()
        for who in customers:
            self._version += 1
            values, title = self._customers[who], f"Practice Manager {self._version}"
            values["title"] = title
            if self._version % 5 == 0:
                values["phone"] = f"+1813{self._rng.randrange(10**7):07d}"
            event = {"type": "changed", "id": f"C{who}", "version": self._version, "customer": values}
            told = partial(_note, ends, (f"C{who}", title))
            self._producer.produce(self._topic, json.dumps(event).encode(), f"C{who}", on_delivery=told)
            if self._version % 1_000 == 0:
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
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka, self.postgres = Kafka(folder / "kafka"), Postgres(folder / "postgres")
        self.kafka.prepare()
        self.kafka.start()
        self.port = free_port()
        self.postgres.listen(self.port)
        self.number = 0
        self.worker: Connect | None = None
        self.last_syncd = ""
        """The database of the last run of syncd."""

    def close(self) -> None:
        if self.worker is not None:
            self.worker.stop()
        self.kafka.kill()
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
            if IS_KNOWN:
                events.of_everyone()
                asyncio.run(until(url, STORED, CUSTOMERS))
                asyncio.run(do(url, LINKED))
            else:
                asyncio.run(until(url, "SELECT count(*) FROM offsets", PARTITIONS))
            with world.standing_still():
                events.of_some()
                watch = Watch(pid, self.postgres.pid, self.kafka.pid)
            asyncio.run(until(url, STORED, EVENTS + CUSTOMERS * IS_KNOWN))
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
            if IS_KNOWN:
                asyncio.run(self._until_there(url, topic, events.of_everyone()))
            self.worker.pause()
            ends = events.of_some()
            watch = Watch(self.worker.process.pid, self.postgres.pid, self.kafka.pid)
            self.worker.resume()
            asyncio.run(self._until_there(url, topic, ends))
            found.append(watch.stop())
        except TimeoutError:
            print(*self.worker.problems(), sep="\n")
            raise
        finally:
            self.worker.end()

    def limits(self) -> str:
        """What the machine would give at most, whatever is done with the events."""
        topic = f"bare{self.number}"
        make_topic(self.kafka.address, topic)
        Events(self.kafka.address, topic).of_some()
        bare = [asyncio.run(read_bare(self.kafka.address, topic)) for _ in range(RUNS)]
        said = f"; aiokafka alone {spread(bare)}"
        if self.last_syncd:
            copied = [asyncio.run(copy_rows(self.last_syncd)) for _ in range(RUNS)]
            said += f"; COPY of the {CUSTOMERS:,} rows that are left, as events/s {spread(copied)}"
        return said

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
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder))
        try:
            for number in range(WARM_UPS + RUNS):
                for name, runs in found.items():
                    getattr(bench, name)(runs)
                    say(name + (" (warm-up)" if number < WARM_UPS else ""), runs[-1])
            limits = bench.limits()
        finally:
            bench.close()
    counted = {name: runs[WARM_UPS:] for name, runs in found.items()}
    kind = "known, linked customers" if IS_KNOWN else "customers that are new"
    what = f"ingest, {EVENTS:,} events of {CUSTOMERS:,} {kind}"
    return [
        compared(
            f"{what}: events/s", counted, lambda run: run.rate, "ratio ≥ 1.5", lambda share: share >= 1.5, limits
        ),
        compared(
            f"{what}: events a CPU second, of all processes",
            counted,
            lambda run: run.per_cpu_second,
            "ratio > 1",
            lambda share: share > 1,
        ),
        compared(
            f"{what}: memory of the program, MB",
            counted,
            lambda run: run.megabytes,
            "ratio ≤ 0.2",
            lambda share: share <= 0.2,
        ),
    ]


def compared(
    what: str,
    found: Mapping[str, Sequence[Run]],
    value: Callable[[Run], float],
    goal: str,
    is_goal: Callable[[float], bool],
    limits: str = "",
) -> Row:
    values = {name: [value(run) for run in runs] for name, runs in found.items()}
    mine, theirs = values.get("syncd", []), values.get("connect", [])
    beside = ratio(mine, theirs, ".2f") if mine and theirs else "—"
    peer = f"Kafka Connect {spread(theirs)}" if theirs else "—"
    is_reached = reached([is_goal(ours / other) for ours, other in zip(mine, theirs, strict=False)])
    return Row(what, spread(mine) if mine else "—", goal, is_reached, f"{peer}{limits}", beside, COMMAND)


if __name__ == "__main__":
    show(measure())
