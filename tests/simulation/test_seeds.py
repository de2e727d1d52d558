"""Seeded runs of the real daemon on virtual time, with every kind of accident.

``make sim SEED=7`` replays a seed; ``make sim`` plays thousands of fresh ones.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from syncd.sim.campaign import Campaign, Planned, Report, replay_command
from syncd.sim.world import ION_ACCIDENTS
from syncd.simulation import play

SEEDS = int(os.environ.get("SYNCD_SIM_SEEDS", "30"))
STEPS = 500
KEPT = [
    pytest.param(Planned(1, "live", 200, 2), id="commands to a customer that is gone are closed"),
    pytest.param(Planned(4, "seed", 200, 2), id="created for ION, and deleted before it was linked"),
    pytest.param(Planned(7, "live", 200, 2), id="a replica without partitions is oriented too"),
    pytest.param(Planned(8, "live", 200, 3), id="a CRM customer whose ION customer is gone is not created anew"),
    pytest.param(Planned(10, "live", 200, 2), id="the same, by another way"),
    pytest.param(Planned(119, "live", 200, 3), id="the database is away at the start"),
    pytest.param(Planned(255, "seed", 500, 1), id="the answer to a token call dies with its process"),
]
"""Seeds that once failed, and what they found."""


@pytest.fixture(scope="module")
def report() -> Report:
    campaign = Campaign(range(SEEDS), ["live", "seed"], STEPS, None)
    return campaign.play(play, os.cpu_count() or 1, lambda: None)


@pytest.mark.timeout(900)
def test_every_run_ends_with_both_sides_equal_and_nothing_lost(report: Report) -> None:
    assert [(outcome.failures[0], replay_command(outcome)) for outcome in report.failed] == []


def test_every_kind_of_accident_happened(report: Report) -> None:
    wanted = {f"ion {kind}" for kind in ION_ACCIDENTS}
    wanted |= {"kill -9", "SIGSTOP", "database away", "kafka rebalance", "kafka away", "kafka repeats an event"}
    wanted |= {"kafka repeats a command", "kafka took it and said no", "deleted in the CRM", "gone from ION"}
    wanted |= {"approved", "released frozen"}
    assert wanted - set(report.happened) == set()


@pytest.mark.parametrize("planned", KEPT)
def test_a_seed_that_once_failed_stays_mended(planned: Planned) -> None:
    assert play(planned).failures == []


def test_the_same_seed_gives_the_same_run() -> None:
    planned = Planned(3, "live", 300, 3)
    with ProcessPoolExecutor(2) as pool:  # other processes, so that no hash seed can hide a difference
        one, two = pool.map(play, [planned, planned])
    assert one.story == two.story
    assert one.happened == two.happened
    assert one.virtual_seconds == two.virtual_seconds
