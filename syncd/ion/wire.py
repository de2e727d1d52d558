"""The wire to ION: one exchange over aiohttp, made exactly once. What it means is for ``client``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import aiohttp
from yarl import URL


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire(Protocol):
    """Carries one request. ``ConnectionRefusedError``: nobody was there, nothing was sent.
    Any other ``OSError`` or ``TimeoutError``: it was sent, and the answer was lost."""

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], query: Mapping[str, str] | None, body: bytes | None
    ) -> Reply: ...


class HttpWire:
    """The real one. To be used as a context."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpWire:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout, headers={"Accept": "application/json"}, middlewares=(_once,)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], query: Mapping[str, str] | None, body: bytes | None
    ) -> Reply:
        if self._session is None:
            raise RuntimeError("the wire is used outside its context")
        try:
            async with self._session.request(
                method, url, headers=headers, params=query, data=body, allow_redirects=False
            ) as response:
                return Reply(response.status, dict(response.headers), await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise ConnectionRefusedError(str(error)) from None
        except (_Broken, aiohttp.ClientError) as error:
            raise ConnectionResetError(str(error) or type(error).__name__) from None


class _Broken(Exception):
    """The connection broke before the answer was read."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> Any:
    """Make a call just once.

    aiohttp by itself sends a GET or PUT again when its connection breaks: that would be a call
    outside the budget, and perhaps a write made twice. An error of our own gets past that.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken(type(error).__name__) from None
