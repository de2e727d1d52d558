"""Events from a file of JSON Lines: one event a line, or a Kafka record as ``kcat -J`` writes it.

Next in the flow: ``engine.replay``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from syncd.core.values import Millis
from syncd.core.work import DeadLetter
from syncd.crm.kafka import Batch
from syncd.engine.intake import RawEvent, SavedEvent

LINES_AT_ONCE = 1_000
BEFORE_ALL_OFFSETS = -(1 << 40)
"""Lines have no place in the topic: where nothing else orders two events, the topic's is the later one."""
NO_TIME = Millis(0)


def count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


async def read_lines(file: Path, span: range) -> AsyncIterator[Batch]:
    """The lines of this span, counted from 0; blank ones are passed over."""
    with file.open("rb") as lines:
        wanted, number, total = islice(lines, span.start, span.stop), span.start, len(span)
        while some := list(islice(wanted, LINES_AT_ONCE)):
            events = [_event(file.name, number + i, line) for i, line in enumerate(some) if line.strip()]
            number += len(some)
            yield Batch(events, {0: number}, number - span.start, total)


def place_of(letter: DeadLetter) -> str:
    """Where an unusable one came from, as people count."""
    if letter.offset < 0:
        return f"{letter.topic} line {letter.offset - BEFORE_ALL_OFFSETS}"
    return f"{letter.topic}/{letter.partition}@{letter.offset}"


def _event(name: str, number: int, line: bytes) -> RawEvent:
    bare = SavedEvent(name, 0, BEFORE_ALL_OFFSETS + number + 1, NO_TIME, None, line.strip(), ())
    try:
        told = orjson.loads(line)
        at = Millis(int(told.get("ts", told.get("timestamp", NO_TIME))))
        names = told.get("headers") or ()
        headers = tuple((str(k), _bytes(v) or b"") for k, v in zip(names[::2], names[1::2], strict=False))
        place = (str(told.get("topic", name)), int(told["partition"]), int(told["offset"]))
        return SavedEvent(
            *place, at, _bytes(told.get("key")), _bytes(told.get("payload", told.get("value"))), headers
        )
    except (ValueError, TypeError, KeyError, AttributeError):  # an event by itself, or nothing usable
        return bare


def _bytes(told: Any) -> bytes | None:
    if told is None:
        return None
    return told.encode() if isinstance(told, str) else orjson.dumps(told)
