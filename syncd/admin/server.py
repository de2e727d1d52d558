"""Our own HTTP: probes and metrics for everybody, ``/v1`` and the console for who has the token (contract 7)."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import orjson
import structlog
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from syncd import __version__
from syncd.admin import console, openapi
from syncd.admin.access import Access
from syncd.admin.api import OPERATIONS, POST, Operation
from syncd.core.errors import NotFound, StoreConflict, UserError
from syncd.engine.desk import Desk
from syncd.engine.tries import insist

log = structlog.get_logger()

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
MAX_BODY = 1024 * 1024
Middleware = Callable[..., Awaitable[web.StreamResponse]]


class Probed(Protocol):
    """Whom the probes ask, and the desk once there is one."""

    desk: Desk | None

    async def problems(self) -> dict[str, str]:
        """What keeps the daemon from being ready, by part; empty when it is."""

    async def metrics_page(self) -> bytes: ...


class Refused(Exception):
    """Answered with this status and sentence."""

    def __init__(self, status: int, sentence: str, wait_seconds: int = 0) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.wait_seconds = status, sentence, wait_seconds


def make_app(probed: Probed, access: Access) -> web.Application:
    async def livez(_: web.Request) -> web.Response:
        return _json({"alive": True}, 200)

    async def readyz(_: web.Request) -> web.Response:
        found = await probed.problems()
        return _json({"ready": not found, "problems": found}, 503 if found else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await probed.metrics_page(), headers={"Content-Type": OPENMETRICS})

    async def described(request: web.Request) -> web.Response:
        _let_in(access, request)
        return _json(openapi.document(__version__), 200)

    app = web.Application(client_max_size=MAX_BODY, middlewares=[_plain_refusals(probed)])
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    app.router.add_get("/v1/openapi.json", described)
    for operation in OPERATIONS:
        app.router.add_route(operation.method, operation.path, _handler(operation, probed, access))
    console.add_pages(app, probed, access)
    return app


def _handler(
    operation: Operation, probed: Probed, access: Access
) -> Callable[[web.Request], Awaitable[web.Response]]:
    answer = TypeAdapter[Any](operation.answer)

    async def handle(request: web.Request) -> web.Response:
        _let_in(access, request)
        if probed.desk is None:
            raise Refused(503, "the database does not answer yet")
        question = await _question(operation, request)
        found = await insist(partial(operation.handle, probed.desk, question, _who(request)))
        return web.Response(body=answer.dump_json(found), content_type="application/json")

    return handle


def _let_in(access: Access, request: web.Request) -> None:
    if not access.is_called_by_name(request):
        raise Refused(403, "without SYNCD_ADMIN__TOKEN only localhost is answered to")
    if wait_seconds := access.wait_seconds(request):
        raise Refused(429, f"too many wrong tokens: wait {wait_seconds} seconds", wait_seconds)
    if not access.may_use_api(request):
        raise Refused(401, "give the token of SYNCD_ADMIN__TOKEN as `Authorization: Bearer TOKEN`")


def _who(request: web.Request) -> str:
    """Whom the log names: the header is for scripts that act for somebody."""
    name = "".join(c for c in request.headers.get("X-Syncd-Person", "") if c.isprintable())[:100]
    return f"{name} by /v1" if name else "/v1"


async def _question(operation: Operation, request: web.Request) -> Any:
    asked: dict[str, Any] = {}
    if operation.method == POST:
        if request.content_type != "application/json":
            raise Refused(415, "the body has to be application/json; {} where there is nothing to say")
        try:
            body = orjson.loads(await request.read() or b"{}")
        except orjson.JSONDecodeError as error:
            raise Refused(400, f"the body is no JSON: {error}") from None
        if not isinstance(body, dict):
            raise Refused(400, "the body has to be a JSON object")
        if taken := sorted(body.keys() & request.match_info.keys()):
            raise Refused(400, f"{taken[0]} is named by the path already")
        asked.update(body)
    else:
        if len(set(request.query)) < len(request.query):
            raise Refused(400, "a parameter is given twice")
        asked.update(request.query)
    try:
        return operation.question.model_validate_json(json.dumps({**asked, **request.match_info}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(400, f"{where}: {first['msg']}") from None


def _plain_refusals(probed: Probed) -> Middleware:
    """Every error of ``/v1`` is one sentence of JSON; the console makes pages of its own."""

    @web.middleware
    async def refuse(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            wait = {"Retry-After": str(refused.wait_seconds)} if refused.wait_seconds else {}
            return _json({"error": refused.sentence}, refused.status, wait)
        except StoreConflict:
            return _json({"error": "somebody else was at the same customers: try again"}, 503)
        except UserError as error:
            return _json({"error": error.sentence}, 404 if isinstance(error, NotFound) else 409)
        except web.HTTPException as error:
            if not request.path.startswith("/v1") or error.status < 400:
                raise
            allowed = {name: value for name, value in error.headers.items() if name == "Allow"}
            return _json({"error": error.reason.lower()}, error.status, allowed)
        except Exception:
            away = (await probed.problems()).get("database")
            if away is None:
                log.exception("request_failed")
            return _json({"error": away or "something went wrong: the log has it"}, 503 if away else 500)

    return refuse


async def serve(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Start serving; the port is the one that was bound, for a configured 0."""
    rubbish = logging.getLogger("syncd.rubbish")  # what is no HTTP at all is answered, and is no news
    rubbish.setLevel(logging.CRITICAL)
    runner = web.AppRunner(app, access_log=None, logger=rubbish)
    await runner.setup()
    site = web.TCPSite(runner, host, port, reuse_port=False)
    await site.start()
    address = runner.addresses[0]
    return runner, int(address[1])


def _json(body: object, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=headers)
