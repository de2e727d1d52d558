"""Virtual time: an event loop that jumps to the next timer instead of waiting for it.

Nothing that runs on it may wait for a socket or a thread. Whoever creates a task owns it, and so
do the tasks that it creates: a process that is killed takes all of its tasks along.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

OWNER: contextvars.ContextVar[str] = contextvars.ContextVar("owner", default="")


class Stuck(RuntimeError):
    """Everyone waits for something that will never come."""


class Restless(RuntimeError):
    """Somebody works on and on, and time does not go by."""


LONG, MANY = 10.0, 20_000
"""Virtual seconds, and rounds of the loop that nobody needs in so long."""


class _Jump(selectors.SelectSelector):
    """Finds nothing to read, ever; instead of waiting it moves the loop's clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._rounds, self._since = 0, 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self._rounds += 1
        if self.now - self._since > LONG:
            self._rounds, self._since = 0, self.now
        elif self._rounds > MANY:
            raise Restless
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self._owners: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        self.set_task_factory(self._owned)  # type: ignore[arg-type]  # typeshed wants one call shape
        self.set_exception_handler(lambda loop, context: None)  # tasks of the killed have nobody to tell

    def time(self) -> float:
        return self._jump.now

    def kill(self, owner: str) -> None:
        """Cancel whatever this owner has running."""
        for task, theirs in list(self._owners.items()):
            if theirs == owner and not task.done():
                task.cancel()

    def _owned(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        self._owners[task] = OWNER.get()
        return task
