"""Reading a topic so that each record counts once: where to begin, and how far one is (S12).

``take_over`` says where to read on. An ``Intake`` stores what records say in one transaction with their offsets;
``engine.ingest`` is the one of the customers' events, ``Records`` does for topics beside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, Protocol

import structlog

from syncd.core.values import Millis
from syncd.core.work import DeadLetter, Message
from syncd.engine.ports import Clock, Counters, Store, Unit

log = structlog.get_logger()


class RawEvent(Protocol):
    """A Kafka record. aiokafka's own are one, and are taken as they come."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> Millis: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class SavedEvent(NamedTuple):
    """One that does not come from the broker: out of a file, or of a dead letter."""

    topic: str
    partition: int
    offset: int
    timestamp: Millis
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


AskOffsets = Callable[[], Awaitable[Mapping[int, range]]]
"""Which offsets Kafka has now, by partition; ``stop`` is the next event's."""


DescribeLetter = Callable[[DeadLetter], Message]
OnGap = Callable[[Unit, int, Millis], Awaitable[None]]
"""What to do, in the same unit, where so many records went before they were read, or the topic was made anew."""
Take = Callable[[Unit, Sequence[RawEvent], Millis], Awaitable[Sequence[DeadLetter]]]
"""Store what records say; which of them can't be used."""


class Intake(Protocol):
    async def ingest(
        self,
        topic: str,
        events: Sequence[RawEvent],
        ends: Mapping[int, int],
        positions: Mapping[int, int] = MappingProxyType({}),
    ) -> int:
        """Store what the records say, and where they end; how much is new.

        What somebody has stored before is left out. ``ends``: where the partitions that are read here end, also
        those from which nothing came this time, so that everybody knows how much is still to come. ``positions``:
        where reading goes on after these records, which is behind the last of them where a transaction's marker
        follows it.
        """

    async def take_over(self, topic: str, ask: AskOffsets) -> dict[int, int]:
        """Where to read on, by partition, for partitions that are ours from now on.

        ``ask``: which offsets the topic still has. Kafka's own committed offsets never decide: a
        new database beside an old group would skip the history.
        """


BESIDE = "bad-"
"""What the reason of a dead letter begins with that was no customer's event."""


class Records:
    """The intake of a topic beside the customers' events."""

    def __init__(
        self, store: Store, clock: Clock, counters: Counters, form: str, take: Take, describe: DescribeLetter
    ) -> None:
        self._store = store
        self._clock = clock
        self._counters = counters
        self._form = form
        self._take = take
        self._describe = describe

    async def ingest(
        self,
        topic: str,
        events: Sequence[RawEvent],
        ends: Mapping[int, int],
        positions: Mapping[int, int] = MappingProxyType({}),
    ) -> int:
        now = self._clock.now()
        async with self._store.begin() as unit:
            known = await unit.offsets(topic)
            new = not_stored(events, known)
            reason = f"{BESIDE}{self._form}"
            letters = [replace(letter, reason=reason) for letter in await self._take(unit, new, now)]
            await unit.bury(letters)
            await unit.post([self._describe(letter) for letter in letters])
            await unit.save_offsets(topic, moved_on(known, new, positions), ends)
        self._counters.event(self._form, "stored", len(new) - len(letters))
        for letter in letters:
            self._counters.event(self._form, "dead-letter")
            self._counters.dead_letter(letter.reason)
        return len(new)

    async def take_over(self, topic: str, ask: AskOffsets) -> dict[int, int]:
        async def on_gap(*_: object) -> None:
            """What is gone, is gone: the log says so."""

        positions, missed = await take_over(self._store, self._clock, topic, ask, on_gap)
        if missed:
            self._counters.missed(missed)
        return positions


def not_stored(events: Sequence[RawEvent], known: Mapping[int, int]) -> Sequence[RawEvent]:
    """What lies behind the offsets that are stored: a partition may have been read by somebody else meanwhile."""
    return [event for event in events if event.offset >= known.get(event.partition, 0)]


def moved_on(known: Mapping[int, int], new: Sequence[RawEvent], positions: Mapping[int, int]) -> dict[int, int]:
    """Where to read on, by partition: behind what was read, or behind what was passed over."""
    read = {event.partition: event.offset + 1 for event in new}
    passed = {n: max(at, known[n]) for n, at in positions.items() if n in known and n not in read}
    return {**read, **passed}


async def take_over(
    store: Store, clock: Clock, topic: str, ask: AskOffsets, on_gap: OnGap
) -> tuple[dict[int, int], int]:
    """Where to read on, and how many records went before they were read."""
    async with store.begin() as unit:
        before = await unit.offsets(topic)
    there = await ask()  # asked after ``before``: the end of a topic that lives on can't lie below it
    now = clock.now()
    async with store.begin() as unit:
        stored = await unit.offsets(topic)
        recreated = [n for n, span in there.items() if stored.get(n, 0) == before.get(n, 0) > span.stop]
        missed = {n: span.start - stored[n] for n, span in there.items() if stored.get(n, span.start) < span.start}
        positions = {
            n: span.start if n in recreated else max(span.start, stored.get(n, 0)) for n, span in there.items()
        }
        await unit.save_offsets(topic, positions, {n: span.stop for n, span in there.items()})
        if recreated or missed:
            await on_gap(unit, sum(missed.values()), now)
    if recreated:
        log.error("topic_was_recreated", topic=topic, partitions=recreated)
    if missed:
        log.error("events_lost_to_retention", topic=topic, events=sum(missed.values()), partitions=sorted(missed))
    return positions, sum(missed.values())


def dead_letter(event: RawEvent, reason: str, detail: str, now: Millis) -> DeadLetter:
    return DeadLetter(
        event.topic, event.partition, event.offset, reason, detail, now, event.key, event.value, tuple(event.headers)
    )
