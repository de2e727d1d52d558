"""Wrong inputs made from right ones: bytes flipped, cut and glued, and values swapped inside JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

ODD_NUMBERS = (0, -1, 2**31, 2**63, 2**64, -(2**70), 1e308, 0.1)
ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "\ud800",
    "é" * 2_000,
    "x" * 400_000,
    "😀",
    "\u202e",
    "null",
    "NaN",
    "9" * 30,
    "-0",
    "1e9",
)
ODD_TIMES = ("2026-13-45T99:99:99Z", "0000-00-00", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z")
ODD_SHAPES = ([], {}, [[]], {"": None}, [None] * 50)
ODD_VALUES: tuple[Any, ...] = (None, True, False, *ODD_NUMBERS, *ODD_TEXTS, *ODD_TIMES, *ODD_SHAPES)
ODD_BYTES = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"<!DOCTYPE html>", b"{", b"}", b'"'),
    *(b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"[" * 3_000),
)


def mutated(rng: Random, sample: bytes, others: list[bytes]) -> bytes:
    """The sample with one to four things wrong with it."""
    for _ in range(rng.randrange(1, 5)):
        sample = rng.choice(MUTATIONS)(rng, sample, others)
    return sample


def _flip(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _cut(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    start, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return data[:start] + data[end:]


def _double(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    start, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return data[:end] + data[start:]


def _splice(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _insert(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(ODD_BYTES) + data[at:]


def _swap_value(rng: Random, data: bytes, _: list[bytes]) -> bytes:
    """Keep it JSON, and put something odd in the place of one value, or under one more name."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places = list(_places(document))
    if not places:
        return data
    holder, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.7:
        holder[key] = rng.choice(ODD_VALUES)
    elif kind < 0.85:
        del holder[key]
    elif isinstance(holder, dict):
        holder[rng.choice(("", "type", "id", "time", "op", "data", "payload", "name"))] = holder[key]
    return json.dumps(document, ensure_ascii=True).encode()


def _places(document: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting and len(found) < 500:
        holder = waiting.pop()
        keys = holder.keys() if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in list(keys):
            found.append((holder, key))
            waiting.append(holder[key])
    return found


MUTATIONS: tuple[Callable[[Random, bytes, list[bytes]], bytes], ...] = (
    _flip,
    _cut,
    _double,
    _splice,
    _insert,
    _swap_value,
    _swap_value,
    _swap_value,
)
