"""How long does it take until two sides of many customers are linked, three in four of them alike?

The real daemon on real Kafka and PostgreSQL, a simulated ION beside it that allows far more calls than ION does, so
that what is measured is ours. Those without a counterpart are to be created, which the guard holds until a person
lets them go. ``python -m bench.first_contact``.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from bench.machine import cpu_seconds, peak_megabytes, ratio, spread
from bench.table import Row, command, show
from syncd.ion.client import PAGE_SIZES
from syncd.sim.people import make_customer
from tests.parts.kafka import Kafka, own_kafka
from tests.parts.postgres import Postgres
from tests.parts.world import World, eventually

CUSTOMERS = int(os.environ.get("BENCH_CUSTOMERS", "100000"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
ALIKE = CUSTOMERS * 3 // 4
LOOK_SECONDS, PATIENCE = 10.0, 7_200
TOLD = ("company", "email", "country", "phone", "address", "contact", "title", "language")
CALLS_PER_MINUTE = 30
"""What ION allows: listing its customers once is what nobody could do without."""
COMMAND = command("first_contact")


class Met(NamedTuple):
    seconds: float
    cpu: float
    """Seconds of the daemon's process."""
    megabytes: float


def crm_customers(ion: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Three quarters of ION's, and as many others as make up for the rest."""
    rng, alike = Random(2), list(ion.values())[:ALIKE]
    return [*alike, *(make_customer(rng, CUSTOMERS + number) for number in range(CUSTOMERS - ALIKE))]


def tell(world: World) -> None:
    for number, values in enumerate(crm_customers(world.ion.customers())):
        event = {"type": "snapshot", "id": f"C{number}", "customer": {name: values[name] for name in TOLD}}
        world.topics.send(f"C{number}", event)
        if number % 10_000 == 0:
            world.topics.flush()
    world.topics.flush()


def met(folder: Path, kafka: Kafka) -> Met:
    postgres = Postgres(folder / "pg")
    world = World(
        folder, kafka.address, postgres.url, f"met{folder.name}", customers=CUSTOMERS, calls_per_minute=10_000
    )
    world.environ["SYNCD_POLL__INTERVAL_SECONDS"] = "60"  # as by default
    try:
        tell(world)
        began = time.monotonic()
        pid = world.start().popen.pid

        def held() -> int:
            status = world.look("status")
            return 0 if any(status["pending"].values()) else int(status["held_changes"])

        creates = eventually(held, "all but the creates are done", PATIENCE, LOOK_SECONDS)
        found = Met(time.monotonic() - began, cpu_seconds(pid), peak_megabytes(pid))
        assert (world.count_linked(), creates) == (ALIKE, 2 * (CUSTOMERS - ALIKE)), (world.count_linked(), creates)
        return found
    finally:
        world.close()
        postgres.stop()


def measure() -> list[Row]:
    runs = list[Met]()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        own_kafka(Path(folder) / "kafka") as kafka,
    ):
        for number in range(RUNS):
            place = Path(folder) / str(number)
            place.mkdir()
            runs.append(met(place, kafka))
            print(runs[-1], flush=True)
    minutes, memory = [run.seconds / 60 for run in runs], spread([run.megabytes for run in runs])
    cpu = statistics.median(run.cpu for run in runs) / CUSTOMERS / 2 * 1000
    what = f"first contact, {CUSTOMERS:,} customers on either side, {ALIKE:,} of them linked in the end"
    measured = (
        f"{spread(minutes, ',.1f')} min, {cpu:.1f} CPU ms for a customer of either side, {memory} MB;"
        f" {2 * (CUSTOMERS - ALIKE):,} creates held by the guard"
    )
    pages = math.ceil(CUSTOMERS / PAGE_SIZES[0])
    limit = pages / CALLS_PER_MINUTE
    against = f"ION's {pages:,} pages at {CALLS_PER_MINUTE} calls a minute, {limit:,.1f} min"
    return [Row(what, measured, "—", "—", against, ratio(minutes, [limit]), COMMAND)]


if __name__ == "__main__":
    show(measure())
