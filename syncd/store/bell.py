"""Who is told that a unit has left something to do: loops in this process at once, others soon after.

What was left while nobody listened is found by looking, which every loop does now and then anyway.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from syncd.engine.ports import Loop

CHANNEL = "syncd"
QUIET_SECONDS = 30.0
TOGETHER_SECONDS = 0.05
"""Rings within so long go to the other processes as one."""


class Bell:
    def __init__(self) -> None:
        self._name = uuid.uuid4().hex[:12]
        self._ears = list[Callable[[Loop], None]]()
        self._untold = set[Loop]()
        self._rung = asyncio.Event()

    @property
    def is_heard(self) -> bool:
        return bool(self._ears)

    def ring(self, loops: Iterable[Loop]) -> None:
        """A unit has been committed that left something for these."""
        for loop in sorted(loops):  # always in the same order: a simulated run can be repeated
            self._untold.add(loop)
            for ear in self._ears:
                ear(loop)
        if self._untold:
            self._rung.set()

    @contextmanager
    def heard_by(self, ear: Callable[[Loop], None]) -> Iterator[None]:
        self._ears.append(ear)
        try:
            yield
        finally:
            self._ears.remove(ear)

    async def next_message(self) -> str:
        """What the other processes are to be told, once there is something; or nothing, now and then,
        so that a connection that was lost is missed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await self._rung.wait()
                await asyncio.sleep(TOGETHER_SECONDS)
        self._rung.clear()
        told, self._untold = self._untold, set()
        return self.message(told)

    def message(self, loops: Iterable[Loop]) -> str:
        return " ".join((self._name, *sorted(loops)))

    def take(self, message: str) -> None:
        """Another process, or this one, has rung."""
        name, *loops = message.split(" ")
        if name != self._name:
            for loop in loops:
                for ear in self._ears:
                    ear(Loop(loop))
