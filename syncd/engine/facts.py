"""What the running daemon has found out and every flow may ask: policy, progress, the last listings."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from syncd.core.errors import OutcomeUnknown, SideError, Throttled
from syncd.core.policy import Policy
from syncd.core.values import Millis
from syncd.core.work import Again, Claim, Stage


@dataclass(slots=True)
class Facts:
    """Mutable, one a process. Everything in it can be found out again after a restart."""

    fresh_ms: int
    """How old a reading may be that a write is built on (S5)."""
    poll_ms: int
    events_topic: str
    calls_per_minute: int = 30
    rng: random.Random = field(default_factory=random.Random)
    policy: Policy | None = None
    """Known once ION's dialect is known."""
    context: str = ""
    """Fingerprint of the configuration and version that decides (S9)."""
    has_joined: bool = False
    """Kafka has given out the partitions of the events topic, perhaps none of them to this replica."""
    is_oriented: bool = False
    """Both sides were seen whole once since the start."""
    listed_from: Millis = Millis(0)
    """Start of the last complete sweep."""
    listing_ms: int = 0
    """How long that sweep took; where the budget is short, longer than the poll interval."""
    listed_last: Millis = Millis(0)
    """Start of the last sweep that ended, however it ended."""
    pages: int = 1
    """So many a listing has."""

    def known_policy(self) -> Policy:
        if self.policy is None:
            raise RuntimeError("no decision can be made before ION's dialect is known")
        return self.policy

    def has_fresh_listing(self, now: Millis) -> bool:
        """A complete listing no older than two poll intervals, as the budget stretches them (S7)."""
        return self.listed_from > 0 and now - self.listed_from <= 2 * self.interval_ms

    @property
    def interval_ms(self) -> int:
        """From sweep to sweep, as the budget stretches it."""
        return max(self.poll_ms, int(self.listing_ms * 1.25))

    def back_off_ms(self, attempts: int) -> int:
        """1 s, doubling, to 5 min, with jitter (S14)."""
        return int(min(300_000, 1_000 * 2 ** min(attempts, 10)) * self.rng.uniform(0.7, 1.3))

    def again_after(self, error: SideError, claim: Claim, now: Millis) -> Again:
        """When to come back after a failed call, and whether to look at ION before anything else (S14)."""
        wait_ms = self.back_off_ms(claim.attempts)
        if isinstance(error, Throttled) and error.wait_ms is not None:
            wait_ms = error.wait_ms  # the budget is closed as long; coming earlier would only queue
        stage = Stage.CALL if isinstance(error, OutcomeUnknown) else Stage.DECIDE
        return Again(Millis(now + wait_ms), stage, claim.attempts + 1)
