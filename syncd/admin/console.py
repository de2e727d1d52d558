"""The console: pages for people, rendered here, that work without JavaScript (contract 7).

``PAGES`` shows, ``ACTIONS`` does. A page takes the desk and the query and gives what its template needs;
an action takes the desk, the form and who asks, and says in a sentence what it did. Every form carries the
session's CSRF token; every value is escaped by the templates.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp_jinja2
import jinja2
import structlog
from aiohttp import web
from pydantic import ValidationError

from syncd import __version__
from syncd.admin import api, views
from syncd.admin.access import COOKIE, LOCAL, Access, Session, is_of_session
from syncd.core.decide import Rule
from syncd.core.errors import NotFound, StoreAway, UserError
from syncd.core.guard import GuardState
from syncd.core.instants import ago, instant
from syncd.core.link import LinkState
from syncd.core.order import OrderState
from syncd.core.values import Millis, Side
from syncd.core.work import HoldKind
from syncd.engine.desk import KNOWN_LINK, NEW_LINK, Desk
from syncd.engine.tries import insist

log = structlog.get_logger()

HERE = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
SAID = "syncd_said"
"""The cookie that carries what an action did to the next page, signed, once."""
LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x7e]*")
ROWS = 50
CASES = 10
"""Rows, and cases to review, on one page."""
FRESH_SECONDS = 10


class Probed(Protocol):
    desk: Desk | None

    async def problems(self) -> dict[str, str]: ...


Query = Mapping[str, str]
Show = Callable[[Desk, Query], Awaitable[dict[str, Any]]]
Do = Callable[[Desk, Any, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class PageOf:
    path: str
    template: str
    title: str
    show: Show
    key: str = ""
    """With Alt, where the browser has access keys; also the page's place in the navigation."""


# -- pages


async def show_overview(desk: Desk, _: Query) -> dict[str, Any]:
    return {
        "status": views.Status.of(await desk.status()),
        "divergences": views.many(views.Divergence, (await desk.divergences())[:ROWS]),
        **await _put_aside(desk, None, None, 5),
    }


async def _put_aside(desk: Desk, customer: str | None, before: Millis | None, rows: int) -> dict[str, Any]:
    found = await desk.conflicts(customer, before, rows)
    return {"conflicts": views.many(views.Conflict, found), "put_back": await desk.put_back(found)}


async def show_customers(desk: Desk, query: Query) -> dict[str, Any]:
    if find := query.get("find", "").strip():
        return await _found(desk, find)
    state = LinkState(query["state"]) if query.get("state") in list(LinkState) else None
    links = await desk.links(state, query.get("after", ""), ROWS)
    companies = await desk.companies([link.crm_id for link in links])
    return {"links": views.many(views.Link, links), "companies": companies, "state": state, "find": ""}


async def _found(desk: Desk, find: str) -> dict[str, Any]:
    """Who is meant, or who may be: a linked pair is found by its CRM's side."""
    asked = api.Find.model_validate({"find": find[:200]}).find
    found = views.many(views.Found, await desk.find(asked.removeprefix("ion:"), ROWS))
    met = {one.customer for one in found}
    found = [one for one in found if one.side is Side.CRM or one.crm_id not in met]
    if asked in met or len(found) == 1:
        only = asked if asked in met else found[0].customer
        raise web.HTTPSeeOther(f"/customers/{quote(only, safe=':')}")
    return {"found": found, "find": find, "state": None}


async def show_customer(desk: Desk, query: Query) -> dict[str, Any]:
    found = views.Explanation.of(await desk.explain(query["customer"]))
    aside = await _put_aside(desk, found.crm_id, None, ROWS) if found.crm_id else {"conflicts": [], "put_back": set()}
    company = next((seen[0].value for seen in _shown_by(found, "company")), "")
    return {"customer": found, "name": query["customer"], "company": company, **aside}


def _shown_by(found: views.Explanation, field: str) -> list[list[views.Seen]]:
    told = found.fields.get(field)
    return [] if told is None else [side for side in (told.crm, told.ion) if side]


async def show_import(desk: Desk, _: Query) -> dict[str, Any]:
    return {"csv": None}


async def show_review(desk: Desk, query: Query) -> dict[str, Any]:
    found = views.many(views.Case, await desk.cases(query.get("after", ""), CASES))
    return {"cases": list(_each_pair_once(found)), "last": found[-1].subject if len(found) >= CASES else None}


def _each_pair_once(cases: Iterable[views.Case]) -> Iterator[views.Case]:
    """Two who may be one both wait: whoever settles it from one side need not see the other's."""
    shown = set[tuple[str, str]]()
    for case in cases:
        pairs = {(each.crm_id, each.ion_id) for each in case.candidates}
        if not pairs or not pairs <= shown:
            yield case
        shown |= pairs


async def show_conflicts(desk: Desk, query: Query) -> dict[str, Any]:
    before = instant(query["before"]) if query.get("before") else None
    return await _put_aside(desk, None, before, ROWS)


async def show_plan(desk: Desk, _: Query) -> dict[str, Any]:
    return {
        "plan": views.Plan.of(await desk.plan(), 200),
        "status": views.Status.of(await desk.status()),
        "steered": views.many(views.Step, await desk.steered(10)),
    }


async def show_quarantine(desk: Desk, query: Query) -> dict[str, Any]:
    holds = await desk.holds(tuple(HoldKind), query.get("after", ""), ROWS)
    return {"holds": views.many(views.Hold, holds)}


async def show_letters(desk: Desk, query: Query) -> dict[str, Any]:
    before = _number(query["before"]) if query.get("before") else None
    return {"letters": views.many(views.DeadLetter, await desk.letters(before, ROWS))}


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise NotFound(f"there is no dead letter {text}")
    return int(text)


async def show_letter(desk: Desk, query: Query) -> dict[str, Any]:
    return {"letter": views.DeadLetter.of(await desk.letter(_number(query["letter"])))}


async def show_orders(desk: Desk, query: Query) -> dict[str, Any]:
    state = OrderState(query["state"]) if query.get("state") in list(OrderState) else None
    found = await desk.orders(state, query.get("after", ""), ROWS)
    return {"orders": views.many(views.Order, found), "state": state, "states": list(OrderState)}


async def show_licences(desk: Desk, _: Query) -> dict[str, Any]:
    found = await desk.licences()
    return {"licences": None if found is None else views.Licences.of(found)}


PAGES = (
    PageOf("/", "overview.html", "Overview", show_overview, "1"),
    PageOf("/customers", "customers.html", "Customers", show_customers, "2"),
    PageOf("/review", "review.html", "Review", show_review, "3"),
    PageOf("/conflicts", "conflicts.html", "Conflicts", show_conflicts, "4"),
    PageOf("/plan", "plan.html", "Plan", show_plan, "5"),
    PageOf("/quarantine", "quarantine.html", "Quarantine", show_quarantine, "6"),
    PageOf("/dead-letters", "letters.html", "Dead letters", show_letters, "7"),
    PageOf("/orders", "orders.html", "Orders", show_orders, "8"),
    PageOf("/licences", "licences.html", "Licences", show_licences, "9"),
    PageOf("/links/import", "import.html", "Links from a file", show_import),
    PageOf("/customers/{customer}", "customer.html", "Customer", show_customer),
    PageOf("/dead-letters/{letter}", "letter.html", "Dead letter", show_letter),
)


# -- actions


async def accept(desk: Desk, ask: api.Pair, by: str) -> str:
    await desk.accept(ask.crm_id, ask.ion_id, by)
    return f"{ask.crm_id} and {ask.ion_id} are linked."


async def reject(desk: Desk, ask: api.Pair, by: str) -> str:
    await desk.reject(ask.crm_id, ask.ion_id, by)
    return f"{ask.crm_id} and {ask.ion_id} are not one. Who has no other candidate is created on the other side."


async def link(desk: Desk, ask: api.Pair, by: str) -> str:
    unknown = await desk.link(ask.crm_id, ask.ion_id, by)
    told = f" Nothing is known of {', '.join(unknown)} yet." if unknown else ""
    return f"{ask.crm_id} and {ask.ion_id} are linked.{told}"


async def part(desk: Desk, ask: api.Link, by: str) -> str:
    was = await desk.part(ask.crm_id, by)
    return f"{was.crm_id} and {was.ion_id} are two."


async def undo(desk: Desk, ask: api.Conflict, by: str) -> str:
    intent = await desk.undo(ask.conflict, None, by)
    said = f"The CRM is asked to hold the other {' and '.join(intent.set)} of {intent.crm_id} again"
    is_paused = (await desk.guard_state()).paused_since is not None
    return f"{said}, once writes go on." if is_paused else f"{said}; from there it goes to ION."


async def approve(desk: Desk, ask: api.Approve, by: str) -> str:
    return f"{await desk.approve(ask.digest, by)} changes may go now."


async def pause(desk: Desk, _: api.Nothing, by: str) -> str:
    return "Writes are stopped; reading goes on." if await desk.pause(by) else "Writes were stopped already."


async def resume(desk: Desk, _: api.Nothing, by: str) -> str:
    return "Writes go on." if await desk.resume(by) else "Writes were not stopped."


async def release(desk: Desk, ask: api.Customer, by: str) -> str:
    await desk.release(ask.customer, by)
    return f"{ask.customer} is tried again now."


async def release_order(desk: Desk, ask: api.Order, by: str) -> str:
    await desk.release_order(ask.order, by)
    return f"Order {ask.order} goes to ION now."


async def drop_order(desk: Desk, ask: api.Order, by: str) -> str:
    await desk.drop_order(ask.order, by)
    return f"Order {ask.order} is dropped, and the CRM is told."


async def redrive(desk: Desk, ask: api.Letter, by: str) -> str:
    return _redriven(await desk.redrive([ask.letter], by))


async def redrive_all(desk: Desk, _: api.Nothing, by: str) -> str:
    return _redriven(await desk.redrive(None, by))


def _redriven(told: Mapping[int, str | None]) -> str:
    wrong = [f"{number}: {why}" for number, why in told.items() if why]
    said = f"{len(told) - len(wrong)} of {len(told)} events are stored now."
    return f"{said} Still unusable: {'; '.join(wrong[:3])}" if wrong else said


async def erase(desk: Desk, ask: api.Customer, by: str) -> str:
    gone = await desk.erase(ask.customer, by)
    return f"Erased: the detail of {gone.entries} entries of the log, {gone.conflicts} values put aside."


async def import_links(desk: Desk, ask: api.LinkFile, by: str) -> str:
    done = await api.import_links(desk, ask.model_copy(update={"apply": True}), by)
    return f"{sum(line.what == NEW_LINK for line in done.lines)} links were made."


async def paste_token(desk: Desk, ask: api.NewToken, by: str) -> str:
    await api.paste_token(desk, ask, by)
    return "The token is stored: syncd uses it at its next call."


ACTIONS: Mapping[str, tuple[type[api.Question], Do]] = {
    "accept": (api.Pair, accept),
    "reject": (api.Pair, reject),
    "link": (api.Pair, link),
    "part": (api.Link, part),
    "import": (api.LinkFile, import_links),
    "token": (api.NewToken, paste_token),
    "undo": (api.Conflict, undo),
    "approve": (api.Approve, approve),
    "pause": (api.Nothing, pause),
    "resume": (api.Nothing, resume),
    "release": (api.Customer, release),
    "release-order": (api.Order, release_order),
    "drop-order": (api.Order, drop_order),
    "redrive": (api.Letter, redrive),
    "redrive-all": (api.Nothing, redrive_all),
    "erase": (api.Customer, erase),
}


# -- how values look


def shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(str(part) for part in value.values() if part)
    return "" if value is None else str(value)


def moment(at: str) -> str:
    """An instant without what is the same everywhere."""
    return at[:19].replace("T", " ")


def because(rule: str) -> str:
    return BECAUSE.get(rule, rule)


BECAUSE = {
    Rule.LATER_EDIT: "it was edited later",
    Rule.TIE: "nobody can tell which was later",
    Rule.FIRST_LINK: "it was so when the two were linked",
    "undo": "a person put it back",
}
FILTERS: Mapping[str, Callable[..., str]] = {"shown": shown, "ago": ago, "moment": moment, "because": because}


# -- serving them


def add_pages(app: web.Application, probed: Probed, access: Access) -> None:
    aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        filters=FILTERS,
    )
    app.router.add_static("/static", HERE / "static")
    door = Door(probed, access)
    for page in PAGES:
        app.router.add_get(page.path, door.page(page))
    app.router.add_get("/login", door.ask_in)
    app.router.add_post("/login", door.let_in)
    app.router.add_post("/logout", door.let_out)
    app.router.add_post("/do/{action}", door.act)
    app.router.add_post("/links/import", door.preview)


class Door:
    """Between a request and a page: the session, the headers, and what went wrong, said on a page."""

    def __init__(self, probed: Probed, access: Access) -> None:
        self._probed = probed
        self._access = access

    def page(self, page: PageOf) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            session = self._session(request)
            if session is None:
                return self._see("/login")
            try:
                if self._probed.desk is None:
                    raise StoreAway("The database does not answer yet.")
                query = {**request.query, **request.match_info}
                found = await insist(partial(page.show, self._probed.desk, query))
                guard = await insist(self._probed.desk.guard_state)
                found = {"title": page.title, "page": page, "guard": guard, **found}
                return self._render(request, session, page.template, found)
            except UserError as error:
                return self._problem(request, session, error)
            except web.HTTPException:
                raise
            except Exception as error:
                return await self._failure(request, session, error)

        return handle

    async def ask_in(self, request: web.Request) -> web.Response:
        return self._render(request, None, "login.html", {"title": "Sign in", "wrong": ""})

    async def let_in(self, request: web.Request) -> web.Response:
        form, wrong = await _form(request), ""
        if wait := self._access.wait_seconds(request):
            wrong = f"Too many wrong tokens: wait {wait} seconds."
        elif not _is_from_here(request) or not self._access.is_called_by_name(request):
            wrong = "That form came from somewhere else."
        elif not self._access.is_token(request, form.get("token", "")):
            wrong = "That is not the token: it is the value of SYNCD_ADMIN__TOKEN."
        if wrong:
            page = {"title": "Sign in", "wrong": wrong}
            return self._render(request, None, "login.html", page, 429 if wait else 403)
        name = "".join(c for c in form.get("name", "") if c.isprintable()).strip()[:60] or "somebody"
        log.info("signed_in", name=name)
        answer = self._see("/")
        self._set(request, answer, COOKIE, self._access.cookie_of(self._access.begin(name)))
        return answer

    async def let_out(self, request: web.Request) -> web.Response:
        answer = self._see("/login")
        session = self._session(request)
        if session is not None and is_of_session(session, (await _form(request)).get("csrf")):
            answer.del_cookie(COOKIE)
        return answer

    async def act(self, request: web.Request) -> web.Response:
        async def do(session: Session, desk: Desk, form: dict[str, str]) -> web.Response:
            back, name = _local(form.pop("back", "/")), request.match_info["action"]
            if name not in ACTIONS:
                raise NotFound("There is no such action.")
            question, action = ACTIONS[name]
            ask = question.model_validate(form)
            said = await insist(partial(action, desk, ask, f"{session.name} in the console"))
            answer = self._see(back)
            self._set(request, answer, SAID, self._access.seal("said", said), 30)
            return answer

        return await self._with_form(request, do)

    async def preview(self, request: web.Request) -> web.Response:
        """What a file of links would do, before anybody means it."""

        async def show(session: Session, desk: Desk, form: dict[str, str]) -> web.Response:
            csv = await _uploaded(request, "file")
            told = await api.import_links(desk, api.LinkFile(csv=csv), session.name)
            new = [line for line in told.lines if line.what == NEW_LINK]
            wrong = [line for line in told.lines if line.what not in (NEW_LINK, KNOWN_LINK)]
            counts = {"new": len(new), "wrong": len(wrong), "known": len(told.lines) - len(new) - len(wrong)}
            found = {"title": "Links from a file", "csv": csv, "counts": counts, "lines": wrong + new}
            return self._render(request, session, "import.html", found)

        return await self._with_form(request, show)

    async def _with_form(
        self, request: web.Request, work: Callable[[Session, Desk, dict[str, str]], Awaitable[web.Response]]
    ) -> web.Response:
        """Do what a form asks for, once it is known to come from this session's own page."""
        session = self._session(request)
        if session is None:
            return self._see("/login")
        form = await _form(request)
        back = _local(form.get("back", "/"))
        if not is_of_session(session, form.pop("csrf", None)) or not _is_from_here(request):
            sorry = UserError("That form was not of this session: go back, load the page anew, and try again.")
            return self._problem(request, session, sorry, 403, back)
        try:
            if self._probed.desk is None:
                raise StoreAway("The database does not answer yet.")
            return await work(session, self._probed.desk, form)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return self._problem(request, session, UserError(f"That can't be: {wrong}."), 400, back)
        except UserError as error:
            return self._problem(request, session, error, back=back)
        except Exception as error:
            return await self._failure(request, session, error)

    def _session(self, request: web.Request) -> Session | None:
        """``None``: this browser has to sign in first."""
        if not self._access.is_called_by_name(request):
            return None
        session = self._access.session_of(request)
        if session is None and self._access.is_open:
            session = self._access.begin(LOCAL)
        return session

    async def _failure(self, request: web.Request, session: Session, error: Exception) -> web.Response:
        away = (await self._probed.problems()).get("database")
        if away is not None:
            return self._problem(request, session, StoreAway(f"{away}. Try again in a moment."))
        log.error("page_failed", kind=type(error).__name__, exc_info=error)
        return self._problem(request, session, UserError("Something went wrong: the log has it."), 500)

    def _problem(
        self, request: web.Request, session: Session, error: UserError, status: int = 0, back: str = "/"
    ) -> web.Response:
        known = {NotFound: 404, StoreAway: 503}
        found = {"title": "That did not work", "error": error, "back": back}
        return self._render(request, session, "problem.html", found, status or known.get(type(error), 409))

    def _render(
        self,
        request: web.Request,
        session: Session | None,
        template: str,
        found: Mapping[str, Any],
        status: int = 200,
    ) -> web.Response:
        told = self._access.unseal("said", request.cookies.get(SAID, ""))
        context = {
            "pages": [page for page in PAGES if page.key],
            "session": session,
            "is_open": self._access.is_open,
            "said": told or "",
            "here": request.rel_url.raw_path_qs,
            "version": __version__,
            "page": None,
            "guard": GuardState(),
            "rows": ROWS,
            "fresh_seconds": 0 if "fresh" in request.query else FRESH_SECONDS,
            "other_pace": request.rel_url.without_query_params("fresh").raw_path_qs
            if "fresh" in request.query
            else request.rel_url.extend_query(fresh="").raw_path_qs,
            **found,
        }
        answer = aiohttp_jinja2.render_template(template, request, context, status=status)
        answer.headers.update(HEADERS)
        if "fresh" in request.query:
            answer.headers["Refresh"] = str(FRESH_SECONDS)
        if told:
            answer.del_cookie(SAID)
        if session is not None and self._access.is_open and self._access.session_of(request) is None:
            self._set(request, answer, COOKIE, self._access.cookie_of(session))
        return answer

    def _see(self, where: str) -> web.Response:
        return web.Response(status=303, headers={"Location": where, **HEADERS})

    def _set(
        self, request: web.Request, answer: web.Response, name: str, value: str, seconds: int | None = None
    ) -> None:
        is_secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        answer.set_cookie(name, value, max_age=seconds, httponly=True, samesite="Strict", secure=is_secure)


def _is_from_here(request: web.Request) -> bool:
    """Browsers say where a form came from; who says nothing is no browser, and has no cookie by accident."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")


def _local(where: str) -> str:
    """Only to a page of our own."""
    return where if LOCAL_PATH.fullmatch(where) else "/"


async def _form(request: web.Request) -> dict[str, str]:
    """The fields, without stray blanks; what is no form has none."""
    try:
        return {name: value.strip() for name, value in (await request.post()).items() if isinstance(value, str)}
    except (ValueError, LookupError):  # bytes that are no text, or of a charset that nobody knows
        return {}


async def _uploaded(request: web.Request, name: str) -> str:
    """A file of the form, which has to be text."""
    given = (await request.post()).get(name)
    if not isinstance(given, web.FileField):
        raise UserError("Choose a file first.")
    try:
        return given.file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{given.filename} can't be read as CSV in UTF-8: {error.reason}.") from None
