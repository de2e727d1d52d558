"""The simulated ION without a socket: requests go straight to its handlers, in virtual time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qsl

from aiohttp import web

from syncd.sim.ion import Handler, IonServer

BROKEN_OFF = 499
"""What the server answers where it cut the connection."""


class LocalRequest(dict[Any, Any]):
    """As much of a request as the simulated ION's handlers read."""

    transport = None

    def __init__(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes):
        super().__init__()
        self.method, self.path, self.query, self.headers = method, path, query, headers
        self.match_info: dict[str, str] = {}
        self._body = body

    async def read(self) -> bytes:
        return self._body

    async def post(self) -> dict[str, str]:
        return dict(parse_qsl(self._body.decode()))


class LocalIon:
    """One simulated account, called in the same process."""

    def __init__(self, server: IonServer) -> None:
        self._server = server
        customers = "/api/v3/accounts/(?P<account>[^/]+)/customers"
        one = f"{customers}/(?P<customer>[^/]+)"
        routes = (
            ("POST", "/oauth/token", "token", server.token),
            ("GET", customers, "list", server.list_customers),
            ("POST", customers, "create", server.create),
            ("GET", one, "get", server.get),
            ("PUT", one, "update", server.update),
        )
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = [
            (method, re.compile(path), server.named(name, handler)) for method, path, name, handler in routes
        ]

    async def exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; raises ``TimeoutError`` or ``ConnectionResetError`` like a real wire."""
        request = LocalRequest(method, path, query, headers, body)
        async with asyncio.timeout(timeout_s):
            response = await self._server.journalled(cast(web.Request, request), self._handler(request))
        if response.status == BROKEN_OFF or not isinstance(response, web.Response):
            raise ConnectionResetError("the connection was cut")
        content = response.body if isinstance(response.body, bytes) else b""
        return response.status, dict(response.headers), content

    def _handler(self, request: LocalRequest) -> Handler:
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                request.match_info.update(match.groupdict())
                return handler
        raise LookupError(f"the simulated ION has no {request.method} {request.path}")
