"""When does a sweep prove anything about what is missing? (S10)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SIZE_TOLERANCE = 0.10
RECENT_SWEEPS = 3
MISSING_SWEEPS = 3
"""Complete sweeps in a row without a customer before a GET asks whether it is gone."""


class SweepOutcome(StrEnum):
    COMPLETE = "complete"
    FAILED = "failed"
    """A page could not be read."""
    REPEATED = "repeated"
    """A page came twice."""
    MISCOUNTED = "miscounted"
    """The pages hold another number of customers than the side says it has."""
    SHRUNK = "shrunk"
    """Much smaller than the recent ones."""


READ_THROUGH = (SweepOutcome.COMPLETE, SweepOutcome.SHRUNK)
"""What later listings are compared with."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What one sweep saw."""

    customers: int
    """Different customers on its pages."""
    is_read_through: bool
    has_repeated_page: bool
    announced: int | None
    """How many the side says there are; ``None`` where it doesn't say."""


def judge(listing: Listing, recent_sizes: Sequence[int]) -> SweepOutcome:
    """``recent_sizes``: customers of the last sweeps that were read through and not empty, newest first.

    A listing that stays small is believed once all the recent ones were small too, but an empty one
    never is where there were customers; growth proves no less about absence than sameness.
    """
    if not listing.is_read_through:
        return SweepOutcome.FAILED
    if listing.has_repeated_page:
        return SweepOutcome.REPEATED
    if listing.announced is not None and listing.announced != listing.customers:
        return SweepOutcome.MISCOUNTED
    recent = recent_sizes[:RECENT_SWEEPS]
    if recent and listing.customers < max(recent) * (1 - SIZE_TOLERANCE):
        return SweepOutcome.SHRUNK
    return SweepOutcome.COMPLETE
