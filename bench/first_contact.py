"""How long does it take until two sides of many customers are linked, three in four of them alike?

The real daemon in a process of its own, on a real PostgreSQL; ION and the events are in memory, so that what is
measured is ours. Those without a counterpart are to be created, which the guard holds until a person lets them go.
``python -m bench.first_contact``.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import orjson

from bench.machine import collect_seldom, peak_megabytes, ratio, spread
from bench.table import Row, command, show
from syncd import logs
from syncd.app import machine_clock
from syncd.core.values import Millis
from syncd.core.work import FOR_GUARD
from syncd.engine.intake import Intake, SavedEvent
from syncd.ion.client import PAGE_SIZES
from syncd.sim.ion import Account, IonOptions
from syncd.store import schema
from syncd.store.seal import Seal
from syncd.store.sql import SqlStore, make_engine
from tests.parts.local import local_daemon
from tests.parts.postgres import Postgres

CUSTOMERS = int(os.environ.get("BENCH_CUSTOMERS", "100000"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
ALIKE = 0.75
KEY = "7M_p2bXJ3yqJxZr1CwJ2c1pY1Jw2b3m1rY0e8yVqLQ4="
BATCH, LOOK_SECONDS = 500, 2.0
CALLS_PER_MINUTE = 30
"""What ION allows: listing its customers once is what nobody could do without."""
COMMAND = command("first_contact")


class Met(NamedTuple):
    seconds: float
    cpu: float
    megabytes: float
    linked: int
    held: int
    """Creates, by the guard."""


def customer(who: str) -> dict[str, object]:
    return {
        "company": f"Company {who}",
        "email": f"{who}@company-{who}.example",
        "country": "US",
        "phone": "+18135550142",
        "contact": "Ann Archer",
        "title": "CEO",
        "language": "EN",
        "address": {"street": "1 Main Street", "suite": "", "city": "Tampa", "state": "FL", "zip": "33602"},
    }


class Events:
    """All CRM customers once, then nothing."""

    problem: str | None = None
    is_behind = False

    def __init__(self, intake: Intake, on_progress: Callable[[Mapping[int, int]], None]) -> None:
        self._intake, self._on_progress = intake, on_progress

    async def run(self) -> None:
        now = Millis(time.time_ns() // 1_000_000)
        for start in range(0, CUSTOMERS, BATCH):
            events = []
            for number in range(start, min(start + BATCH, CUSTOMERS)):
                event = {"type": "snapshot", "id": f"C{number}", "version": 1, "customer": customer(f"c{number}")}
                events.append(SavedEvent("t", 0, number, now, f"C{number}".encode(), orjson.dumps(event), ()))
            await self._intake.ingest("t", events, {0: CUSTOMERS})
        self._on_progress({0: 0})
        await asyncio.Event().wait()


async def first_contact(url: str) -> Met:
    """In this process."""
    collect_seldom()
    logs.configure("text", "critical")
    engine = make_engine(url)
    await schema.upgrade(engine)
    store, rng = SqlStore(engine, Seal([KEY])), Random(1)
    account = Account(IonOptions(dialect="live", customers=0, calls_per_minute=10_000))
    for number in range(CUSTOMERS):
        account.add(customer(f"c{number}" if rng.random() < ALIKE else f"i{number}"))
    daemon = local_daemon(account, store, machine_clock(), Events, 10_000, rng)
    started, cpu = time.monotonic(), time.process_time()
    running = asyncio.create_task(daemon.run())
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        async with store.begin() as unit:
            pending, links = await unit.pending(), sum((await unit.count_links()).values())
        held, _ = pending.pop(FOR_GUARD, (0, Millis(0)))
        if links and not pending:
            break
    took, spent = time.monotonic() - started, time.process_time() - cpu
    daemon.stop()
    await running
    await engine.dispose()
    return Met(took, spent, peak_megabytes(os.getpid()), links, held)


def met() -> Met:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        postgres = Postgres(Path(folder) / "pg")
        try:
            command = [sys.executable, "-m", "bench.first_contact", postgres.url]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            return Met(*json.loads(done.stdout.splitlines()[-1]))
        finally:
            postgres.stop()


def measure() -> list[Row]:
    runs = list[Met]()
    for _ in range(RUNS):
        runs.append(met())
        print(runs[-1], flush=True)
    minutes, memory = [run.seconds / 60 for run in runs], spread([run.megabytes for run in runs])
    cpu = statistics.median(run.cpu for run in runs) / CUSTOMERS / 2 * 1000
    what = f"first contact, {CUSTOMERS:,} customers on either side, {runs[0].linked:,} of them linked in the end"
    measured = (
        f"{spread(minutes, ',.1f')} min, {cpu:.1f} CPU ms a customer, {memory} MB with ION in it;"
        f" {runs[0].held:,} creates held by the guard"
    )
    pages = math.ceil(CUSTOMERS / PAGE_SIZES[0])
    limit = pages / CALLS_PER_MINUTE
    against = f"ION's {pages:,} pages at {CALLS_PER_MINUTE} calls a minute, {limit:,.1f} min"
    return [Row(what, measured, "—", "—", against, ratio(minutes, [limit]), COMMAND)]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(first_contact(sys.argv[1]))))
    else:
        show(measure())
