"""Seeded runs of the real engine on virtual time. ``SYNCD_SIM_SEED=7`` replays one; `make sim SEED=7` too."""

from __future__ import annotations

import os

import pytest

from syncd.core.policy import Dialect
from tests.simulation.world import run

ONE = os.environ.get("SYNCD_SIM_SEED")
SEEDS = [int(ONE)] if ONE else range(int(os.environ.get("SYNCD_SIM_SEEDS", "60")))
STEPS = int(os.environ.get("SYNCD_SIM_STEPS", "300"))


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_seed_ends_with_both_sides_equal_and_nothing_lost(seed: int, dialect: Dialect) -> None:
    await run(seed, STEPS, dialect)


async def test_the_faults_do_happen() -> None:
    worlds = [await run(seed, 300, Dialect.LIVE) for seed in range(3)]
    assert sum(world.kills for world in worlds) > 3
