"""Once more, where somebody else was at the same rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from syncd.core.errors import StoreConflict

Result = TypeVar("Result")
TRIES = 3
"""At one transaction, where somebody else is at the same rows."""


async def insist(work: Callable[[], Awaitable[Result]]) -> Result:
    for _ in range(TRIES - 1):
        with suppress(StoreConflict):
            return await work()
    return await work()
