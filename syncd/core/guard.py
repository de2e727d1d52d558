"""The guard: how much may go out by itself, and when everything waits for a person (S9).

Rules
1. What goes out is counted in a rolling hour, over all replicas, by kind; what a person let go by
   name is not counted.
2. A limit is absolute, and from ``PERCENT_FROM`` linked customers on also a part of them; the
   smaller one holds. ``0`` is no limit.
3. What was sent, and all that waits, are judged together: over a limit, all that waits is held.
4. A change that comes alone is judged at once. From a tenth of the smallest limit on it may be the
   first of a burst, and waits until what has arrived is counted.

Next in the flow: an intent, for what may go; a plan, for what is held.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from syncd.core.values import Millis

WINDOW_MS = 3_600_000
PERCENT_FROM = 50
BURST_PART = 10
"""A burst is looked for from one part in so many of a limit on."""


class Tally(NamedTuple):
    """How many changes, by the kinds that have a limit."""

    creates: int = 0
    updates: int = 0
    cleared_fields: int = 0
    link_changes: int = 0

    @property
    def changes(self) -> int:
        """How many changes these are; cleared fields are parts of updates."""
        return self.creates + self.updates + self.link_changes


NOTHING = Tally()


def total_of(tallies: Iterable[Tally]) -> Tally:
    every = list(tallies)
    return Tally(*(sum(tally[kind] for tally in every) for kind in range(len(NOTHING))))


@dataclass(frozen=True, slots=True)
class Limits:
    """Each at most so many in a rolling hour; ``0`` is no limit."""

    absolute: Tally = Tally(100, 300, 20, 20)
    percent: int = 30

    def ceilings(self, linked: int) -> Tally:
        """The limits as numbers, for so many linked customers; ``0`` is no limit.

        Cleared fields are no part of the customers: they have the absolute limit alone.
        """
        if not self.percent or linked < PERCENT_FROM:
            return self.absolute
        part = linked * self.percent // 100
        smaller = (min(limit, part) if limit else part for limit in self.absolute)
        return Tally(*smaller)._replace(cleared_fields=self.absolute.cleared_fields)

    def burst_from(self, linked: int) -> int:
        """So many customers at once may be a burst."""
        ceilings = [limit for limit in self.ceilings(linked) if limit]
        return max(1, min(ceilings) // BURST_PART) if ceilings else 0


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that what was sent and what waits would pass together."""

    kind: str
    count: int
    limit: int

    def __str__(self) -> str:
        return f"{self.count} {self.kind.replace('_', ' ')} in an hour, and the limit is {self.limit}"


def breach(total: Tally, ceilings: Tally) -> Breach | None:
    """The limit that is passed furthest, or ``None``."""
    passed = [
        Breach(kind, count, limit)
        for kind, count, limit in zip(Tally._fields, total, ceilings, strict=True)
        if limit and count > limit
    ]
    return max(passed, key=lambda found: found.count / found.limit, default=None)


@dataclass(frozen=True, slots=True)
class GuardState:
    """What the guard remembers, the same for all replicas."""

    held_since: Millis | None = None
    """Set from a trip until a person approves, or until nothing waits any more."""
    reason: str = ""
    paused_since: Millis | None = None
    """A person stopped all writes."""
    mapping: str = ""
    """Fingerprint of the mapping that is in force."""
    mapping_asked: str = ""
    """Fingerprint of a changed mapping that waits for its plan to be approved."""

    @property
    def is_closed(self) -> bool:
        """Nothing goes out that was not approved by name."""
        return self.held_since is not None or self.paused_since is not None
