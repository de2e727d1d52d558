"""How long from an edit's record in Kafka until its PUT arrives at ION?

The real daemon on real Kafka and PostgreSQL, a simulated ION beside them. Single edits, one after the other: while
nothing else is to do, and while ten thousand changed customers wait for a budget that is spent on them. From each is
taken how long ION itself took to answer what was asked before. ``python -m bench.latency``.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.drain import UNLIMITED
from bench.table import Row, show
from tests.parts.kafka import Kafka
from tests.parts.postgres import Postgres
from tests.parts.world import World, eventually, http
from tests.system.test_day import customer

EDITS, BULK = int(os.environ.get("BENCH_EDITS", "200")), int(os.environ.get("BENCH_BULK", "10000"))
RATE = int(os.environ.get("BENCH_R", "3000"))
COMMAND = "python -m bench.latency"
SINGLES = 100
"""Customers that are edited one by one."""


def edit(world: World, number: int) -> float:
    """Milliseconds from the record until the PUT arrived, less what ION took to answer the question before it."""
    crm_id, title, began = f"S{number % SINGLES}", f"T{time.monotonic_ns()}", time.time()
    world.topics.edit(crm_id, title=title)

    def arrived() -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = http("GET", f"{world.ion.url}/_sim/journal?after={began}")
        put = next((call for call in calls if (call.get("sent") or {}).get("title") == title), None)
        return [call for call in calls if put and call.get("customer") == put["customer"] and call["at"] <= put["at"]]

    *asked, put = eventually(arrived, f"{title} has arrived", 600)
    return float(put["at"] - began - sum(call["ended"] - call["at"] for call in asked)) * 1000


def edits(world: World, count: int, pause: float) -> list[float]:
    found = []
    for number in range(count):
        found.append(edit(world, number))
        time.sleep(pause)
    return sorted(found)


def link(world: World, names: list[str]) -> None:
    for name in names:
        values = customer(f"Company {name}")
        ion_id = world.ion.add(**values)
        world.topics.send(name, {"type": "snapshot", "id": name, "ion_id": ion_id, "customer": values})
    world.topics.flush()
    eventually(lambda: world.count_linked() >= len(names), "all are linked", 1_800)
    world.wait_until_idle(300)


def row(what: str, found: Sequence[float], goal: str) -> Row:
    p50, p99 = statistics.median(found), statistics.quantiles(found, n=100, method="inclusive")[98]
    return Row(
        what,
        f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms, at most {max(found):,.0f} ms, of {len(found)}",
        goal,
        "ION's own answers, taken off",
        "—",
        COMMAND,
    )


def measure() -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        kafka, postgres = Kafka(folder / "kafka"), Postgres(folder / "pg")
        kafka.prepare()
        kafka.start()
        world = World(folder, kafka.address, postgres.url, "latency", customers=0, calls_per_minute=RATE)
        world.environ |= {**UNLIMITED, "SYNCD_POLL__INTERVAL_SECONDS": "60", "SYNCD_SYNC__CREATE_IN_CRM": "false"}
        try:
            world.start()
            link(world, [f"S{number}" for number in range(SINGLES)])
            rows.append(row("edit to PUT, idle", edits(world, EDITS, 0.1), "p99 ≤ 100 ms"))
            link(world, [f"B{number}" for number in range(BULK)])
            for number in range(BULK):
                event = {"type": "changed", "id": f"B{number}", "customer": {"title": f"T{number}"}}
                world.topics.send(f"B{number}", event)
            world.topics.flush()
            eventually(lambda: world.look("status")["pending"]["call"] > BULK / 2, "they wait", 600)
            rows.append(row(f"edit to PUT while {BULK:,} others wait", edits(world, EDITS // 4, 1.0), "said"))
        finally:
            world.close()
            kafka.kill()
            postgres.stop()
    return rows


if __name__ == "__main__":
    show(measure())
