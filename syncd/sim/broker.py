"""A simulated Kafka: one topic in partitions, a group of consumers, and what Kafka may do to them.

Within a partition the order holds; anything may be delivered again; a rebalance moves partitions,
and who lost one may not know it yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from random import Random
from typing import NamedTuple

PARTITIONS = 3


class Entry(NamedTuple):
    offset: int
    at: int
    key: bytes | None
    value: bytes | None


class SimTopic:
    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.partitions: dict[int, list[Entry]] = {number: [] for number in range(PARTITIONS)}
        self._owners: dict[int, str] = {}
        self.is_away = False
        self.arrived = asyncio.Event()

    def append(self, key: str, value: bytes | None, at: int) -> None:
        partition = self.partitions[sum(key.encode()) % PARTITIONS]
        partition.append(Entry(len(partition), at, key.encode(), value))
        self.arrived.set()

    def rebalance(self, members: list[str]) -> None:
        """Give the partitions out anew."""
        self._owners = {number: self._rng.choice(members) for number in self.partitions} if members else {}
        self.arrived.set()

    def owned(self, member: str) -> set[int]:
        return {number for number, owner in self._owners.items() if owner == member}

    def fetch(self, positions: Mapping[int, int]) -> dict[int, list[Entry]]:
        """Some of what comes next, by partition."""
        found = {}
        for number, position in positions.items():
            entries = self.partitions[number][position : position + self._rng.randrange(1, 8)]
            if entries:
                found[number] = entries
        return found

    def lags(self, positions: Mapping[int, int]) -> dict[int, int]:
        return {number: len(self.partitions[number]) - position for number, position in positions.items()}

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        return {number: len(self.partitions[number]) for number in partitions}

    async def wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.arrived.wait()
        except TimeoutError:
            pass
        self.arrived.clear()
