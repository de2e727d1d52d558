"""The simulated ION as a wire in the same process, for clients that need no socket."""

from __future__ import annotations

from collections.abc import Mapping

from yarl import URL

from syncd.ion.wire import Reply
from syncd.sim.wire import LocalIon


class LocalWire:
    def __init__(self, ion: LocalIon) -> None:
        self._ion = ion

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], query: Mapping[str, str] | None, body: bytes | None
    ) -> Reply:
        return Reply(*await self._ion.exchange(method, url.path, query or {}, headers, body or b"", 30.0))
