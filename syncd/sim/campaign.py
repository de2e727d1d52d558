"""Many simulated runs, on as many cores as are given, and what came of them."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from syncd.sim.world import Outcome


class Planned(NamedTuple):
    """One run: the same four give the same run."""

    seed: int
    dialect: str
    steps: int
    replicas: int


Play = Callable[[Planned], Outcome]


@dataclass(slots=True)
class Report:
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.failures]

    @property
    def steps(self) -> int:
        return sum(outcome.steps for outcome in self.outcomes)

    @property
    def happened(self) -> Counter[str]:
        total = Counter[str]()
        for outcome in self.outcomes:
            total += outcome.happened
        return total

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": len(self.outcomes),
            "steps": self.steps,
            "seconds": round(self.seconds, 2),
            "happened": dict(self.happened),
            "failed": [
                {"failures": outcome.failures, "replay": replay_command(outcome), "story": outcome.story}
                for outcome in self.failed
            ],
        }


class Campaign:
    def __init__(self, seeds: Iterable[int], dialects: Sequence[str], steps: int, replicas: int | None) -> None:
        self.runs = [
            Planned(seed, dialect, steps, replicas or 1 + seed % 3) for seed in seeds for dialect in dialects
        ]

    def play(self, play: Play, jobs: int, step: Callable[[int, int], None]) -> Report:
        report, started = Report(), time.monotonic()
        for outcome in self._outcomes(play, jobs):
            report.outcomes.append(outcome)
            step(len(report.outcomes), len(self.runs))
        report.seconds = time.monotonic() - started
        return report

    def _outcomes(self, play: Play, jobs: int) -> Iterator[Outcome]:
        if jobs == 1:
            yield from map(play, self.runs)
            return
        with ProcessPoolExecutor(jobs) as pool:
            yield from pool.map(play, self.runs, chunksize=8)


def fresh_seed() -> int:
    return secrets.randbelow(1_000_000_000)


def replay_command(outcome: Outcome) -> str:
    return (
        f"syncd sim world --seed {outcome.seed} --dialect {outcome.dialect}"
        f" --steps {outcome.planned_steps} --replicas {outcome.replicas}"
    )
