"""How fast is ION listed and compared, with how much memory, by how many customers it has?

A simulated ION, real PostgreSQL, and the daemon's own sweep in a process of its own. In turn, on a new ION and a new
database each time: one in which all are new, one that finds nothing changed and one that finds one in a hundred
changed. Beside them the limit: the same pages asked for and read by the same client, and nothing done with them.
``python -m bench.sweep``; ``BENCH_CUSTOMERS=100000`` leaves out the large one.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import NamedTuple

from bench.machine import collect_seldom, peak_megabytes, ratio, spread
from bench.table import Row, command, reached, show
from syncd import logs
from syncd.app import open_ion, store_clock
from syncd.core.budget import Lane
from syncd.daemon import make_facts, make_gate
from syncd.engine.crowd import Crowds
from syncd.engine.sweep import Sweeper
from syncd.metrics import Metrics
from syncd.opening import open_store
from syncd.settings import load
from tests.parts.postgres import Postgres
from tests.parts.world import SimulatedIon

CUSTOMERS = [int(count) for count in os.environ.get("BENCH_CUSTOMERS", "100000,1000000").split(",")]
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
COMMAND = command("sweep")
KEY = "7M_p2bXJ3yqJxZr1CwJ2c1pY1Jw2b3m1rY0e8yVqLQ4="


class Swept(NamedTuple):
    seconds: float
    cpu: float
    megabytes: float
    customers: int
    changed: int


async def sweep_once(database: str, ion: str, *, is_bare: bool) -> Swept:
    """In this process, by the daemon's parts; ``is_bare``: the pages are read, and nothing is done with them."""
    collect_seldom()
    logs.configure("text", "warning")
    environ = {
        "SYNCD_DATABASE__URL": database,
        "SYNCD_SECRET_KEY": KEY,
        "SYNCD_KAFKA__BOOTSTRAP_SERVERS": "none",
        "SYNCD_ION__URL": ion,
        "SYNCD_ION__ACCOUNT_ID": "20481",
        "SYNCD_ION__REFRESH_TOKEN": "initial-refresh-token",
        "SYNCD_ION__CALLS_PER_MINUTE": "100000",
    }
    settings, _ = load(None, environ)
    async with open_store(settings) as store, open_ion(settings, store) as client:
        clock, facts = await store_clock(store), make_facts(settings, Random())
        crowds = Crowds(store, make_gate(settings, store, clock), clock, facts)
        sweeper = Sweeper(store, client, clock, facts, Metrics(), crowds)
        await sweeper.remember_last()
        began, cpu = time.perf_counter(), time.process_time()
        if is_bare:
            customers, changed = 0, 0
            async with aclosing(client.list_customers(Lane.SWEEP)) as pages:
                async for page in pages:
                    customers += len(page.readings)
        else:
            swept = await sweeper.sweep()
            customers, changed = swept.customers, swept.changed
        took = time.perf_counter() - began, time.process_time() - cpu
        return Swept(*took, peak_megabytes(os.getpid()), customers, changed)


def sweep(database: str, ion: str, *how: str) -> Swept:
    command = [sys.executable, "-m", "bench.sweep", database, ion, *how]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Swept(*json.loads(done.stdout.splitlines()[-1]))


def change(ion: SimulatedIon, rng: Random, count: int) -> None:
    chosen = rng.sample(sorted(ion.customers()), count)
    for ion_id in chosen:
        ion.edit(ion_id, title=f"T{rng.randrange(10**9)}")


def row(what: str, found: Sequence[Swept], bare: Sequence[Swept]) -> Row:
    rate, limit = ([swept.customers / swept.seconds for swept in some] for some in (found, bare))
    cpu, peak = statistics.median(swept.cpu for swept in found), max(swept.megabytes for swept in found)
    measured = f"{spread(rate)} customers/s; {cpu:.1f} CPU s; {peak:.0f} MB at most"
    is_small = reached([swept.megabytes <= 300 for swept in found])
    against = f"the pages alone {spread(limit)} customers/s"
    return Row(what, measured, "≤ 300 MB", is_small, against, ratio(rate, limit, ".2f"), COMMAND)


def measure() -> list[Row]:
    return [row for count in CUSTOMERS for row in measure_with(count)]


def measure_with(count: int) -> list[Row]:
    rng, new, same, other, bare = Random(1), list[Swept](), list[Swept](), list[Swept](), list[Swept]()
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            postgres = Postgres(Path(name) / "pg")
            ion = SimulatedIon(Path(name), customers=count, calls_per_minute=1_000_000)
            try:
                new.append(sweep(postgres.url, ion.url))
                same.append(sweep(postgres.url, ion.url))
                change(ion, rng, count // 100)
                other.append(sweep(postgres.url, ion.url))
                bare.append(sweep(postgres.url, ion.url, "bare"))
            finally:
                ion.process.stop()
                postgres.stop()
        print(new[-1], same[-1], other[-1], bare[-1], sep="\n", flush=True)
        assert (new[-1].changed, same[-1].changed, other[-1].changed) == (count, 0, count // 100)
    kinds = {"all new": new, "nothing changed": same, "1 % changed": other}
    return [row(f"sweep of {count:,} customers, {what}", found, bare) for what, found in kinds.items()]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(sweep_once(*sys.argv[1:3], is_bare="bare" in sys.argv[3:]))))
    else:
        show(measure())
