"""Seeded runs of the real daemon on virtual time, with every kind of accident.

``make sim SEED=7`` replays a seed; ``make sim`` plays thousands of fresh ones.
"""

from __future__ import annotations

import os
import subprocess
import sys

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
    pytest.param(Planned(199315113, "live", 500, 1), id="a listing for a crowd is cut short by the database"),
    pytest.param(Planned(92194774, "live", 500, 2), id="entered in the CRM by a user while it is asked to create it"),
    pytest.param(Planned(255, "seed", 500, 1), id="the answer to a token call dies with its process"),
]
"""Seeds that once failed, and what they found."""


@pytest.fixture(scope="module")
def report() -> Report:
    campaign = Campaign(range(SEEDS), ["live", "seed"], STEPS, None)
    return campaign.play(play, os.cpu_count() or 1, lambda done, total: None)


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


@pytest.mark.parametrize("seed", [3, 8])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    one, *others = (run(ONE_RUN, seed, {"PYTHONHASHSEED": str(hash_seed)}) for hash_seed in range(4))
    assert len(one) > 300
    assert others == [one] * 3


ONE_RUN = """
import sys
from syncd.sim.campaign import Planned
from syncd.simulation import play

outcome = play(Planned(int(sys.argv[1]), "live", 300, 3))
print(*outcome.story, sorted(outcome.happened.items()), outcome.virtual_seconds, sep="\\n")
"""


def run(program: str, seed: int, environment: dict[str, str]) -> list[str]:
    """What a Python of its own prints: another process, so that no order of a set can hide."""
    command = [sys.executable, "-c", program, str(seed)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
