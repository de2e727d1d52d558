"""The circuit: while a side does not answer at all, it is probed and otherwise left alone (S14)."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.core.values import BEGINNING, Millis

OPENS_AFTER = 3
"""Failures in a row that open it."""
FIRST_WAIT_MS, LONGEST_WAIT_MS = 1_000, 60_000
PROBE_MS = 5_000
"""How long one probe has before the next goes out."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """One side's, as one replica knows it. Closed: calls flow. Open: one probe after each wait."""

    failures: int = 0
    open_until: Millis = BEGINNING

    @property
    def is_open(self) -> bool:
        return self.failures >= OPENS_AFTER

    def wait_ms(self, now: Millis) -> int:
        """How long until the next call may be made."""
        return max(0, self.open_until - now) if self.is_open else 0

    def failed(self, now: Millis) -> Circuit:
        """A call found nobody there."""
        failures = self.failures + 1
        if failures < OPENS_AFTER:
            return Circuit(failures, self.open_until)
        wait_ms = min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** min(failures - OPENS_AFTER, 10))
        return Circuit(failures, Millis(now + wait_ms))

    def probing(self, now: Millis) -> Circuit:
        """A probe goes out: nobody else tries until it has had its time."""
        return Circuit(self.failures, Millis(now + PROBE_MS)) if self.is_open else self
