"""Runs in which one thing goes wrong again and again, and everything is well in the end all the same."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.sim.campaign import Planned
from syncd.sim.ion import Fault
from syncd.sim.world import World
from syncd.simulation import play


@pytest.mark.parametrize("dialect", ["live", "seed"])
def test_creates_that_are_lost_again_and_again_are_made_once_a_person_releases_them(
    dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mischief, released = World._mischief, 0

    def lose_creates(self: World, operation: str) -> Fault | None:
        if operation == "create" and not self.is_calm and self.rng.random() < 0.8:
            return Fault("reset-before")
        return mischief(self, operation)

    monkeypatch.setattr(World, "_mischief", lose_creates)
    for seed in range(6):
        outcome: Any = play(Planned(seed, dialect, 500, 1 + seed % 3))
        assert outcome.failures == []
        released += outcome.happened["released quarantine"]
    assert released > 0
