"""How long do 3,000 edits take to drain, beside the time that the budget alone dictates?

Daemons as processes on real Kafka and PostgreSQL, one and three of them, in alternating runs. From the first edit's
record until the last PUT was answered, beside what the fewest calls that are safe take at ``R`` a minute: a PUT each,
and a page for each minute's slots. ``python -m bench.drain``; ``BENCH_TIMELINE=1`` says when which calls were made.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.machine import spread
from bench.table import Row, command, reached, show
from tests.parts.kafka import Kafka, own_kafka
from tests.parts.postgres import Postgres
from tests.parts.world import World, eventually
from tests.system.test_day import customer

EDITS = int(os.environ.get("BENCH_EDITS", "3000"))
R = int(os.environ.get("BENCH_R", "600"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
MINUTE, PATIENCE = 60.0, 1_800.0
"""Seconds."""
KINDS = ("CREATES", "UPDATES", "CLEARED_FIELDS", "LINK_CHANGES", "PERCENT")
UNLIMITED = {f"SYNCD_GUARD__MAX_{kind}": "0" for kind in KINDS}
LEAST = EDITS + math.ceil(EDITS / (R - 1))
"""Calls: fewer would write without a look, or on a reading that is a minute old."""
COMMAND = command("drain")


class Drained(NamedTuple):
    time_ratio: float
    """Seconds ÷ those that the fewest calls take at ``R`` a minute."""
    calls_ratio: float
    """Calls ÷ the fewest that are safe."""
    refused: int
    said: str


def drain(folder: Path, kafka: Kafka, replicas: int) -> Drained:
    postgres = Postgres(folder / "pg")
    world = World(folder, kafka.address, postgres.url, f"drain{folder.name}", dialect="live", calls_per_minute=R)
    # The sweeps are part of the budget; a minute apart, as by default.
    world.environ |= {**UNLIMITED, "SYNCD_POLL__INTERVAL_SECONDS": "60"}
    try:
        for number in range(EDITS):
            values = customer(f"Company {number}")
            ion_id = world.ion.add(**values)
            event = {"type": "snapshot", "id": f"C{number}", "ion_id": ion_id, "customer": values}
            world.topics.send(f"C{number}", event)
        world.topics.flush()
        for number in range(replicas):
            world.start(f"replica-{number}")
        eventually(lambda: world.count_linked() == EDITS, "all are linked", 300)
        world.wait_until_idle(120)
        time.sleep(MINUTE + 2)  # nothing is left of the budget's last minute
        before, began = len(world.ion.journal()), time.time()
        for number in range(EDITS):
            world.topics.send(
                f"C{number}", {"type": "changed", "id": f"C{number}", "customer": {"title": f"T{number}"}}
            )
        world.topics.flush()
        # Who watches shall not take the time of those who work.
        eventually(lambda: world.ion.state()["operations"].get("update", 0) >= EDITS, "drained", PATIENCE, every=1)
        time.sleep(2)
        calls = world.ion.journal()[before:]
        done = max(entry["ended"] for entry in calls if entry["operation"] == "update")
        calls = [entry for entry in calls if entry["at"] <= done]
        took = done - began
        puts = sum(entry["operation"] == "update" and entry["status"] == 200 for entry in calls)
        assert puts == EDITS, f"{puts} PUTs of {EDITS} edits"
        listings = sum(entry["operation"] == "list" for entry in calls)
        refused = sum(entry["status"] == 429 for entry in calls)
        if "BENCH_TIMELINE" in os.environ:
            spans = Counter((int(entry["at"] - began) // 2 * 2, entry["operation"]) for entry in calls)
            print(*(f"{at:4d} s {what:8} {count}" for (at, what), count in sorted(spans.items())), sep="\n")
        at_least = LEAST / R * MINUTE
        first = calls[0]["at"] - began
        said = (
            f"{replicas} replicas: {took:.1f} s, {first:.1f} s until the first call; {len(calls)} calls ({puts} PUTs,"
            f" {listings} lists); at least {at_least:.1f} s for {LEAST} calls"
        )
        return Drained(took / at_least, len(calls) / LEAST, refused, said)
    finally:
        world.close()
        postgres.stop()


def measure() -> list[Row]:
    found: dict[int, list[Drained]] = {1: [], 3: []}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        own_kafka(Path(folder) / "kafka") as kafka,
    ):
        for run in range(RUNS):
            for replicas, runs in found.items():
                place = Path(folder) / f"{run}-{replicas}"
                place.mkdir()
                runs.append(drain(place, kafka, replicas))
                print(runs[-1], flush=True)
    return [row for replicas, runs in found.items() for row in rows(replicas, runs)]


def rows(replicas: int, runs: Sequence[Drained]) -> list[Row]:
    what = f"drain of {EDITS:,} changed customers at {R} calls a minute, {replicas} replica{'s' * (replicas > 1)}"
    times, calls = spread([run.time_ratio for run in runs], ".3f"), spread([run.calls_ratio for run in runs], ".3f")
    refused = sum(run.refused for run in runs)
    return [
        Row(
            f"{what}: time",
            times,
            "≤ 1.05",
            reached([run.time_ratio <= 1.05 for run in runs]),
            f"{LEAST:,} calls ÷ R",
            "as measured",
            COMMAND,
        ),
        Row(
            f"{what}: calls",
            f"{calls}; {refused} × 429",
            "≤ 1.05, none",
            reached([run.calls_ratio <= 1.05 and not run.refused for run in runs]),
            f"{LEAST:,}: a PUT each, a page for each minute's slots",
            "as measured",
            COMMAND,
        ),
    ]


if __name__ == "__main__":
    show(measure())
