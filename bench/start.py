"""How long until ``syncd --help`` is told, and until a daemon is ready on a database of a million customers?

Beside them the limits, in turn: Python that does nothing, and Python that imports the libraries a daemon stands on.
``python -m bench.start``.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import asyncpg

from bench.machine import peak_megabytes, ratio, spread
from bench.table import Row, command, reached, show
from tests.parts.kafka import free_port, own_kafka
from tests.parts.postgres import Postgres
from tests.parts.world import SYNCD, World

CUSTOMERS = int(os.environ.get("BENCH_CUSTOMERS", "1000000"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
COMMAND = command("start")
NOTHING, LIBRARIES = "pass", "import aiohttp.web, aiokafka, asyncpg, pydantic_settings, sqlalchemy.ext.asyncio"
SIGHTING = "0,true,null,0,0,0"
REGISTERS = (
    f"""{{"company":[["Company ' || n || ' Partnership Ltd",{SIGHTING}]],"""
    f""""email":[["e' || n || '@x.example",{SIGHTING}]]}}"""
)
SIDE = """
    INSERT INTO records (side, customer_id, registers, written_until, missing_sweeps, row_version, email_key)
    SELECT '{side}', '{prefix}' || n, '{registers}', 0, 0, 1, 'e' || n || '@x.example'
    FROM generate_series(1, {count}) n
"""
LINKS = """
    INSERT INTO links (crm_id, ion_id, state, how, since, base, spellings, written_at)
    SELECT 'C' || n, '' || n, 'linked', 'person', 0, '{{}}', '[]', 0 FROM generate_series(1, {count}) n
"""


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for side, prefix in (("crm", "C"), ("ion", "")):
            await connection.execute(SIDE.format(side=side, prefix=prefix, registers=REGISTERS, count=CUSTOMERS))
        await connection.execute(LINKS.format(count=CUSTOMERS))
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def took(*asked: str | Path) -> float:
    began = time.perf_counter()
    subprocess.run(asked, check=True, capture_output=True)
    return time.perf_counter() - began


def help_seconds() -> float:
    return took(SYNCD, "--help")


def python_seconds(does: str) -> float:
    return took(sys.executable, "-c", does)


def ready_seconds(world: World) -> tuple[float, float]:
    """Until the probe says so, and the most memory that it took until then."""
    port = free_port()
    began = time.perf_counter()
    daemon = world.start(until="", SYNCD_ADMIN__PORT=str(port))
    while not is_ready(port):
        time.sleep(0.01)
        if time.perf_counter() - began > 120:
            raise TimeoutError(daemon.said()[-2_000:])
    return time.perf_counter() - began, peak_megabytes(daemon.popen.pid)


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


def measure() -> list[Row]:
    help_seconds()
    helped, bare = zip(*((help_seconds(), python_seconds(NOTHING)) for _ in range(RUNS)), strict=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, own_kafka(Path(name) / "kafka") as kafka:
        folder = Path(name)
        postgres = Postgres(folder / "pg")
        world = World(folder, kafka.address, postgres.url, "start", customers=1_000, calls_per_minute=600)
        try:
            world.start()
            world.stop()
            asyncio.run(fill(postgres.url))
            python_seconds(LIBRARIES)
            found, imported = [], []
            for _ in range(RUNS):
                found.append(ready_seconds(world))
                world.stop()
                imported.append(python_seconds(LIBRARIES))
        finally:
            world.close()
            postgres.stop()
    seconds, megabytes = [row[0] for row in found], [row[1] for row in found]
    return [
        Row(
            "`syncd --help`",
            f"{spread(helped, '.2f')} s",
            "≤ 0.3 s",
            reached([run <= 0.3 for run in helped]),
            f"Python alone {spread(bare, '.3f')} s",
            ratio(helped, bare),
            COMMAND,
        ),
        Row(
            f"ready on a database of {CUSTOMERS:,} customers on each side, linked",
            f"{spread(seconds, '.2f')} s, {spread(megabytes)} MB",
            "≤ 2 s",
            reached([run <= 2 for run in seconds]),
            f"Python and the import of five libraries {spread(imported, '.2f')} s",
            ratio(seconds, imported),
            COMMAND,
        ),
    ]


if __name__ == "__main__":
    show(measure())
