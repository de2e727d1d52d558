"""What it takes to link two sides that were never compared before. On virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from syncd.core.work import Claim
from syncd.engine.reconcile import Reconciler
from syncd.sim.time import VirtualLoop
from tests.parts.virtual import VirtualDaemon


def test_a_pair_is_linked_and_settled_in_one_look(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at, reconcile = Counter[str](), Reconciler.reconcile

    async def counted(self: Reconciler, claim: Claim) -> None:
        looked_at[claim.subject] += 1
        await reconcile(self, claim)

    monkeypatch.setattr(Reconciler, "reconcile", counted)

    async def first_contact() -> None:
        world = VirtualDaemon(loop, 30)
        running = asyncio.create_task(world.daemon.run())
        await world.link([f"C{number}" for number in range(200)])
        await asyncio.sleep(5)
        world.daemon.stop()
        await running

    loop.run_until_complete(first_contact())
    assert {count for subject, count in looked_at.items() if subject.startswith("crm:")} == {1}
    assert sum(count for subject, count in looked_at.items() if subject.startswith("ion:")) <= 8, (
        "who was claimed already"
    )
