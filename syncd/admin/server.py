"""``/livez``, ``/readyz``, ``/metrics``: open, without customer data (contract 7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Problems = Callable[[], Awaitable[dict[str, str]]]
"""What keeps the daemon from being ready, by part; empty when it is."""


def make_app(problems: Problems, metrics_page: Callable[[], Awaitable[bytes]]) -> web.Application:
    async def livez(_: web.Request) -> web.Response:
        return _json({"alive": True}, 200)

    async def readyz(_: web.Request) -> web.Response:
        found = await problems()
        return _json({"ready": not found, "problems": found}, 503 if found else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await metrics_page(), headers={"Content-Type": OPENMETRICS})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


async def serve(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Start serving; the port is the one that was bound, for a configured 0."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port, reuse_port=False)
    await site.start()
    address = runner.addresses[0]
    return runner, int(address[1])


def _json(body: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
