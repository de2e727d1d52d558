"""How long from an edit's record in Kafka until its PUT arrives at ION?

The real daemon on real Kafka and PostgreSQL, a simulated ION beside them. Single edits, one after the other: while
nothing else is to do; while ten thousand changed customers, made up to that in each run, wait for a budget that is
spent on them; and while ION's hundred thousand customers are listed again and again. From each is taken how long ION
itself took to answer what was asked before. Beside them, in turn, the limit: a record through Kafka and a commit, by
the same client libraries.
``python -m bench.latency``.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer

from bench.drain import UNLIMITED
from bench.ingest import make_topic
from bench.machine import ratio, spread
from bench.sweep import sweep
from bench.table import Row, command, reached, show
from syncd.core.crowd import MOMENT_MS
from tests.parts.kafka import Kafka, own_kafka
from tests.parts.postgres import Postgres
from tests.parts.world import World, eventually, http
from tests.system.test_day import customer

RUNS, EDITS = int(os.environ.get("BENCH_RUNS", "5")), int(os.environ.get("BENCH_EDITS", "100"))
BULK, SWEPT = int(os.environ.get("BENCH_BULK", "10000")), int(os.environ.get("BENCH_SWEPT", "100000"))
RATE = int(os.environ.get("BENCH_R", "3000"))
COMMAND = command("latency")
Run = tuple[Sequence[float], Sequence[float]]
"""Milliseconds of each edit, and of the limit beside it."""
SINGLES = 300
"""Customers that are edited in turn: who is written to again and again has to wait, and is frozen at last."""
LINKED = """
    INSERT INTO links (crm_id, ion_id, state, how, since, base, spellings, written_at)
    SELECT 'L' || customer_id, customer_id, 'linked', 'person', 0, '{}', '[]', 0 FROM records
"""


def edit(world: World, crm_id: str) -> float:
    """Milliseconds from the record until the PUT arrived, less what ION took to answer the question before it."""
    title, began = f"T{time.monotonic_ns()}", time.time()
    world.topics.edit(crm_id, title=title)

    def arrived() -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = http("GET", f"{world.ion.url}/_sim/journal?after={began}")
        put = next((call for call in calls if (call.get("sent") or {}).get("title") == title), None)
        return [call for call in calls if put and call.get("customer") == put["customer"] and call["at"] <= put["at"]]

    *asked, put = eventually(arrived, f"{title} has arrived", 600)
    return float(put["at"] - began - sum(call["ended"] - call["at"] for call in asked)) * 1000


def edits(world: World, singles: Iterator[str], count: int, pause: float) -> list[float]:
    found = []
    for crm_id in islice(singles, count):
        found.append(edit(world, crm_id))
        time.sleep(pause)
    print(f"p50 {statistics.median(found):,.0f} ms, at most {max(found):,.0f} ms", flush=True)
    return found


async def bare(world: World, count: int, pause: float) -> list[float]:
    """Milliseconds until a record has come through Kafka and is on disk, and nothing is done with it."""
    consumer = AIOKafkaConsumer(bare_topic(world), bootstrap_servers=world.topics.bootstrap)
    connection = await asyncpg.connect(world.environ["SYNCD_DATABASE__URL"])
    await consumer.start()
    try:
        await consumer.seek_to_end()
        await connection.execute("CREATE TABLE IF NOT EXISTS bare (value bytea)")
        found = []
        for number in range(count):
            began = time.perf_counter()
            world.topics.send("K", number, topic=bare_topic(world))
            sent = asyncio.create_task(asyncio.to_thread(world.topics.flush))
            [[record]] = (await consumer.getmany(timeout_ms=30_000)).values()  # ``getone`` would wait for two fetches
            await connection.execute("INSERT INTO bare VALUES ($1)", record.value)
            found.append((time.perf_counter() - began) * 1000)
            await sent
            await asyncio.sleep(pause)
        return found
    finally:
        await consumer.stop()
        await connection.close()


def bare_topic(world: World) -> str:
    return f"{world.topics.events}.bare"


def beside_the_limit(world: World, singles: Iterator[str], count: int, pause: float) -> Run:
    """Edits, then as often what nobody can do without."""
    return edits(world, singles, count, pause), asyncio.run(bare(world, count, pause))


def link_singles(world: World) -> Iterator[str]:
    """Who is edited next."""
    names = [f"S{number}" for number in range(SINGLES)]
    link(world, names)
    return cycle(names)


def link(world: World, names: list[str]) -> None:
    before = world.count_linked()
    for name in names:
        values = customer(f"Company {name}")
        ion_id = world.ion.add(**values)
        world.topics.send(name, {"type": "snapshot", "id": name, "ion_id": ion_id, "customer": values})
    world.topics.flush()
    eventually(lambda: world.count_linked() >= before + len(names), "all are linked", 1_800)
    world.wait_until_idle(300)


def change_in_bulk(world: World, titles: dict[str, str]) -> None:
    """Whoever has his title in ION gets another one; ``titles``: by customer, what each was given last."""
    for seen in world.ion.customers().values():
        name = seen["company"].removeprefix("Company ")
        if titles.get(name) == seen["title"]:
            titles[name] = f"T{time.monotonic_ns()}"
            world.topics.send(name, {"type": "changed", "id": name, "customer": {"title": titles[name]}})
    world.topics.flush()
    eventually(lambda: waiting(world) > BULK / 2, "they wait", 600)
    time.sleep(2 * MOMENT_MS / 1000)  # the last of them has come by then, and who comes with them is one of them


def waiting(world: World) -> int:
    return int(world.look("status")["pending"].get("call", 0))


def pages_listed(world: World) -> int:
    return int(world.ion.state()["operations"].get("list", 0))


async def link_all(database: str) -> None:
    """Whoever a first sweep has found is linked, and nobody has to be decided."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(LINKED)
        await connection.execute("DELETE FROM queue")
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def row(what: str, runs: Sequence[Run], goal_ms: int | None = None) -> Row:
    found, limit = zip(*runs, strict=True)
    (middles, nearly_all), (least, nearly_all_least) = middles_and_nearly_all(found), middles_and_nearly_all(limit)
    most = max(max(run) for run in found)
    measured = f"p50 {spread(middles)} ms, p99 {spread(nearly_all)} ms, at most {most:,.0f} ms, of {len(found[0])}"
    goal, is_reached = "—", "—"
    if goal_ms is not None:
        goal, is_reached = f"p99 ≤ {goal_ms} ms", reached([run <= goal_ms for run in nearly_all])
    against = f"Kafka and a commit alone p50 {spread(least, '.1f')} ms, p99 {spread(nearly_all_least)} ms"
    against += "; ION's own answers are taken off"
    ratios = f"p50 {ratio(middles, least)}, p99 {ratio(nearly_all, nearly_all_least)}"
    return Row(what, measured, goal, is_reached, against, ratios, COMMAND)


def middles_and_nearly_all(runs: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """p50 and p99 of each run."""
    middles = [statistics.median(run) for run in runs]
    return middles, [statistics.quantiles(run, n=100, method="inclusive")[98] for run in runs]


@contextmanager
def a_world(folder: Path, kafka: Kafka, name: str, customers: int, rate: int, poll: str) -> Iterator[World]:
    postgres = Postgres(folder / f"pg-{name}")
    world = World(folder, kafka.address, postgres.url, name, customers=customers, calls_per_minute=rate)
    make_topic(kafka.address, bare_topic(world))
    world.environ |= {**UNLIMITED, "SYNCD_POLL__INTERVAL_SECONDS": poll, "SYNCD_SYNC__CREATE_IN_CRM": "false"}
    try:
        yield world
    finally:
        world.close()
        postgres.stop()


def beside_nothing_and_a_crowd(folder: Path, kafka: Kafka) -> Iterator[Row]:
    with a_world(folder, kafka, "latency", 0, RATE, "60") as world:
        world.start()
        singles = link_singles(world)
        yield row("edit to PUT, idle", [beside_the_limit(world, singles, EDITS, 0.1) for _ in range(RUNS)], 100)
        titles = {f"B{number}": customer("")["title"] for number in range(BULK)}
        link(world, list(titles))
        runs, left = list[Run](), list[int]()
        for _ in range(RUNS):
            change_in_bulk(world, titles)
            runs.append(beside_the_limit(world, singles, EDITS // 5, 0.5))
            left.append(waiting(world))
            assert left[-1], "nobody waited any more"
        yield row(f"edit to PUT while {BULK:,} changes drain (of each run, {min(left):,} or more were left)", runs)


def beside_sweeps(folder: Path, kafka: Kafka) -> Iterator[Row]:
    with a_world(folder, kafka, "sweeps", SWEPT, 100_000, "1") as world:
        sweep(world.environ["SYNCD_DATABASE__URL"], world.ion.url)
        asyncio.run(link_all(world.environ["SYNCD_DATABASE__URL"]))
        world.start()
        singles = link_singles(world)
        runs = list[Run]()
        for _ in range(RUNS):
            before = pages_listed(world)
            runs.append(beside_the_limit(world, singles, EDITS, 0.1))
            assert pages_listed(world) - before > SWEPT / 1000, "not swept once"
        yield row(f"edit to PUT while {SWEPT:,} customers are swept", runs, 100)


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, own_kafka(Path(name) / "kafka") as kafka:
        folder = Path(name)
        return [*beside_nothing_and_a_crowd(folder, kafka), *beside_sweeps(folder, kafka)]


if __name__ == "__main__":
    show(measure())
