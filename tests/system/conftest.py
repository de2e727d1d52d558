"""Worlds for the system tests: one a dialect for the day's work, fresh ones for what is rougher."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts.kafka import Kafka
from tests.parts.world import World

NUMBERS = itertools.count(1)
MakeWorld = Callable[..., World]


@pytest.fixture(params=["live", "seed"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_world(kafka: Kafka, postgres_url: str, tmp_path: Path) -> Iterator[MakeWorld]:
    """A fresh world on PostgreSQL; its daemon is started by the test."""
    made: list[World] = []

    def make(database_url: str = postgres_url, **ion_options: Any) -> World:
        world = World(tmp_path, kafka.address, database_url, f"w{next(NUMBERS)}", **ion_options)
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()
