"""A clock that is set by hand."""

from __future__ import annotations

from syncd.core.values import Millis


class HandClock:
    at = Millis(1_000_000)

    def now(self) -> Millis:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sets the clock on while one sleeps for {seconds} s")
