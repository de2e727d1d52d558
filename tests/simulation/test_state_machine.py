"""Hypothesis drives the simulated world: it chooses what happens next, and finds the shortest story that fails.

The daemon is the real one: ingest, record, reconcile, guard, push, sweep. Beside the seeds this looks
for odd orders of few things rather than for many things.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from syncd import logs
from syncd.sim.time import VirtualLoop
from syncd.sim.world import Accidents
from syncd.simulation import Run, ended

SECONDS = st.sampled_from([0.05, 0.3, 1.0, 5.0, 16.0, 45.0, 130.0])


class AnyOrder(RuleBasedStateMachine):
    @initialize(dialect=st.sampled_from(["live", "seed"]), replicas=st.integers(1, 2))
    def begin(self, dialect: str, replicas: int) -> None:
        logs.configure("text", "critical")
        self.loop = VirtualLoop()
        self.run = Run(1, dialect, Accidents(ion=0.0, kafka=0.0, replicas=replicas), self.loop)
        self.world = self.run.world
        self.loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        self.world.populate(self.run.start)

    def do(self, happen: Any) -> None:
        async def done() -> None:
            happen()
            self.world.send_events()

        self.loop.run_until_complete(done())

    @rule(side=st.sampled_from(["crm", "ion"]))
    def somebody_edits(self, side: str) -> None:
        self.do(self.world.edit_in_crm if side == "crm" else self.world.edit_in_ion)

    @rule(where=st.sampled_from(["new_in_crm", "new_in_ion", "new_on_both"]))
    def somebody_is_new(self, where: str) -> None:
        self.do(getattr(self.world, where))

    @rule(how=st.sampled_from(["delete_in_crm", "vanish_from_ion"]))
    def somebody_goes(self, how: str) -> None:
        self.do(getattr(self.world, how))

    @rule()
    def the_crm_works(self) -> None:
        self.do(self.world.crm_works)

    @rule(chance=st.sampled_from([0.0, 0.3, 0.8]))
    def ion_is_as_bad_as_this(self, chance: float) -> None:
        self.world.rough = Accidents(chance, self.world.rough.kafka, 0.0, self.world.rough.replicas)

    @rule(chance=st.sampled_from([0.0, 0.5]))
    def kafka_is_as_bad_as_this(self, chance: float) -> None:
        self.world.rough = Accidents(self.world.rough.ion, chance, 0.0, self.world.rough.replicas)

    @rule(steps=st.integers(0, 12))
    def a_process_dies_soon(self, steps: int) -> None:
        self.world.processes["daemon-0"].dies_in = steps

    @rule(seconds=SECONDS)
    def a_process_is_stopped(self, seconds: float) -> None:
        self.do(lambda: self.world.processes["daemon-0"].stop(seconds))

    @rule()
    def whoever_died_starts_again(self) -> None:
        self.do(self.world.revive)

    @rule(seconds=SECONDS)
    def time_goes_by(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @invariant()
    def every_check_is_content(self) -> None:
        if hasattr(self, "run"):
            self.loop.run_until_complete(self.run.check())
            assert self.run.outcome.failures == []

    def teardown(self) -> None:
        if hasattr(self, "run"):
            try:
                self.loop.run_until_complete(ended(self.run.come_to_rest(), self.loop))
                assert self.run.outcome.failures == []
            finally:
                self.loop.close()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
