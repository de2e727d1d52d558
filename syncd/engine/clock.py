"""One time for all replicas: the store's (S2, S11, S12).

Machines' own clocks may differ by minutes and may be set while we run; leases, the budget's windows
and stamps must not notice. So only the pace is taken from this machine, by a counter that nobody
can set; what time it is, the store is asked again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from syncd.core.values import Millis
from syncd.engine.ports import Store, Unit

FOLLOW_SECONDS = 30.0
"""From look to look: a quartz that is off by 100 ppm is 3 ms off by then."""
LOOKS = 3
LONGEST_LOOK_MS = 1_000
"""An answer that took longer tells less than the pace that is known already."""


class SharedClock:
    """``tick`` counts seconds from wherever; until the store was asked, it starts at ``guess``."""

    def __init__(self, tick: Callable[[], float], guess: Millis) -> None:
        self._tick = tick
        self._ahead = guess - self._counted()
        self._follows = False

    def now(self) -> Millis:
        return Millis(self._counted() + self._ahead)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def follow(self, store: Store) -> None:
        """Ask the store what time it is; of some looks the quickest tells it best."""
        async with store.begin() as unit:
            took, ahead = min([await self._look(unit) for _ in range(LOOKS)])
        if took <= LONGEST_LOOK_MS or not self._follows:
            self._ahead, self._follows = ahead, True

    async def _look(self, unit: Unit) -> tuple[int, int]:
        asked = self._counted()
        told = await unit.time()
        answered = self._counted()
        return answered - asked, told - (asked + answered) // 2

    def _counted(self) -> int:
        return int(self._tick() * 1000)
