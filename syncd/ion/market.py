"""The rest of ION: products, orders, subscriptions, carts, reports, and customers by hand.

Each call goes through the client, so through the one budget; each answer has lost its secrets by then.
Nothing is repeated here that may have been done: whose answer is lost is for the caller to look up.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from multidict import MultiDict

from syncd.core.budget import Lane
from syncd.core.errors import NotFound, OutcomeUnknown, Rejected, Transient, UserError
from syncd.core.policy import Dialect
from syncd.core.values import Side, Values, subject_of
from syncd.engine.ports import Slots, Store
from syncd.ion import live, seed
from syncd.ion.client import DIALECTS, IonClient
from syncd.ion.operations import OPERATIONS, Body, Call, Pages, Request, check_seats, request_of, update_order

PAGE_SIZES = (1_000, 200, 50, 10)
"""Tried from the largest; the first that the server takes is remembered for each list."""
TOO_LARGE = (400, 413)
BESIDE_ROWS = {
    "nextPageToken",
    "totalCount",
    "page",
    "pageSize",
    "paginationResponse",
    "categories",
    "verticals",
    "charges",
}
"""What a list without rows may say all the same; anything else is no list."""
NOTHING: Mapping[str, str] = {}
ADDRESS = "customerAddress"


AskFirst = Callable[[str, str | None], Awaitable[None]]
"""Told the method and path of each write, and the customer that it is about, before it is sent; may refuse it."""


async def _ask_nobody(what: str, customer: str | None) -> None:
    """Whoever only reads has nobody to ask."""


class Market:
    def __init__(
        self, ion: IonClient, store: Store, ask_first: AskFirst = _ask_nobody, lane: Lane = Lane.OPERATOR
    ) -> None:
        self._ion = ion
        self._store = store
        self._ask_first = ask_first
        self._lane = lane
        self.calls = 0
        """So many were made so far."""

    async def dialect(self) -> Dialect:
        return await self._ion.dialect()

    async def do(self, name: str, named: Mapping[str, str] = NOTHING, body: Body | None = None) -> Any:
        """One operation that is one call; what ION answered."""
        call = await self._call(name)
        return await self._ask(name, request_of(call, self._ion.account, named, body), named.get("customer"))

    async def check(self, name: str, named: Mapping[str, str], body: Body) -> None:
        """Raises what ``do`` would before it sends anything."""
        request_of(await self._call(name), self._ion.account, named, body)

    async def pages(
        self, name: str, named: Mapping[str, str] = NOTHING, most: int | None = None, *, is_whole: bool = False
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        """The rows of a list, page by page, one call each; ``most``: no more than so many are wanted.

        ``is_whole``: what is not in it is taken as absent, so a list that ends before it should is ``Transient``.
        """
        call = await self._call(name)
        request = request_of(call, self._ion.account, named, None)
        sift = {name: key for name, key in call.sift.items() if name in named}
        size, answer = await self._first_page(call, name, request, most)
        paging: dict[str, str] | None = _first(call.pages, size)
        read, announced, before, seen, is_first = 0, 0, None, set[str](), True
        while paging is not None:
            if not is_first:
                answer = await self._ask(name, request._replace(query={**request.query, **paging}))
            is_first, rows = False, _rows(call, name, answer)
            announced = max(announced, _announced(answer) or 0)
            if rows and rows == before:
                if call.pages is Pages.NUMBERED:  # a server that knows no pages gives all of them each time
                    break
                raise Transient(f"ION gave the same page of `{name}` twice: try again")
            sifted = [row for row in rows if all(str(row.get(key)) == named[n] for n, key in sift.items())]
            if sifted:
                yield sifted
            before, read = rows, read + len(rows)
            asked, paging = paging, _next(call.pages, answer, rows, read, paging, size)
            if is_whole and paging is None and answer.get("nextPageToken") not in (None, ""):
                raise Transient(f"ION leads nowhere after {read} rows of `{name}`, asked with {asked}: try again")
            if paging is not None and str(paging) in seen:
                raise Transient(f"ION leads in a circle through the pages of `{name}`: try again")
            seen.add(str(paging))
        if is_whole and read < announced:
            raise Transient(f"ION gave {read} of {announced} rows of `{name}`: try again")

    async def _first_page(self, call: Call, name: str, request: Request, most: int | None) -> tuple[int, Any]:
        """The size that the server takes, and what it answered."""
        note = f"ion_page_size {name}"
        async with self._store.begin() as unit:
            known = int(await unit.note(note) or PAGE_SIZES[0])
        wanted = min(known, most or known)
        for size in [wanted, *(smaller for smaller in PAGE_SIZES if smaller < wanted)]:
            try:
                query = {**request.query, **_first(call.pages, size)}
                answer = await self._ask(name, request._replace(query=query))
            except Rejected as error:
                if call.pages is None or error.status not in TOO_LARGE or size <= PAGE_SIZES[-1]:
                    raise
                continue
            if size != wanted:
                async with self._store.begin() as unit:
                    await unit.save_note(note, str(size))
            return size, answer
        raise AssertionError("the last size is answered or raised")

    async def update_customer(self, customer: str, changes: Body) -> Any:
        """ION replaces a record whole: the changes go over what it holds now, and over what it holds and never
        shows, as far as syncd knows that.

        Raises a ``UserError`` where something would be cleared unseen, or syncd is at the same customer.
        """
        speech = DIALECTS[await self.dialect()]
        call = await self._call("customers update")
        request_of(call, self._ion.account, {"customer": customer}, changes)  # an id that is none is said first
        async with self._ion.slots(self._lane, 2) as slots:
            self.calls += 1
            reading = await self._ion.get(customer, slots)
            if reading is None:
                raise NotFound(f"ION has no customer {customer}")
            body = speech.update_body(reading.raw, await self._hidden(customer, speech.HIDDEN))
            unseen = sorted(speech.HIDDEN - body.keys() - changes.keys())
            if unseen:
                raise UserError(
                    f"this dialect of ION never shows {' and '.join(unseen)}, and an update replaces them: say in"
                    " --data what they should be"
                )
            address = changes.get(ADDRESS)
            if isinstance(address, Mapping) and isinstance(body.get(ADDRESS), Mapping):
                changes = {**changes, ADDRESS: {**body[ADDRESS], **address}}
            request = request_of(call, self._ion.account, {"customer": customer}, {**body, **changes})
            return await self._ask("customers update", request, customer, slots)

    async def _hidden(self, customer: str, keys: frozenset[str]) -> Values:
        """What the CRM and ION agreed on of what ION never shows; nobody else may be writing to this customer."""
        async with self._store.begin() as unit:
            link = (await unit.links(Side.ION, [customer])).get(customer)
            if link is None:
                return {}
            subject = subject_of(Side.CRM, link.crm_id)
            if await unit.is_queued(subject) or await unit.open_intents(subject):
                raise UserError(
                    f"syncd is at customer {link.crm_id} = ion:{customer} right now: try again in a moment"
                )
        return {name: value for name, value in link.base.items() if name in keys}

    async def update_subscription(self, customer: str, subscription: str, changes: Body) -> Any:
        """Seats, and in the seed dialect state and renewal. In the live dialect it is an order, which is answered."""
        check_seats(changes)
        names = {"customer": customer, "subscription": subscription}
        if await self.dialect() is Dialect.LIVE:
            held = await self.do("subscriptions get", names)
            return await self.do("subscriptions update", names, update_order(held, changes))
        return await self.do("subscriptions update", names, changes)

    async def request(self, method: str, path: str, body: Body | None) -> Any:
        """Any call below ``/api/v3``."""
        try:
            parts = urlsplit(path)
        except ValueError:
            parts = urlsplit("//")
        if parts.scheme or parts.netloc or not parts.path or ".." in parts.path.split("/"):
            raise UserError(f"{path!r} must be a path below /api/v3, such as accounts/{self._ion.account}/customers")
        place = parts.path.strip("/").removeprefix("api/v3/")
        query = MultiDict(parse_qsl(parts.query, keep_blank_values=True))
        return await self._ask("request", Request(method, place, query, body, method != "GET"))

    async def _ask(self, name: str, request: Request, customer: str | None = None, slots: Slots | None = None) -> Any:
        if request.writes:
            await self._ask_first(f"{request.method} {request.path}", customer)
        self.calls += 1
        try:
            if slots is not None:
                return await self._ion.ask(name, request, slots)
            async with self._ion.slots(self._lane, 1) as slot:
                return await self._ion.ask(name, request, slot)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                f"{error.sentence}: it may have been done; look with `syncd ion` before you try again"
            ) from None

    async def _call(self, name: str) -> Call:
        return OPERATIONS[name].call(await self._ion.dialect())


def _first(pages: Pages | None, size: int) -> dict[str, str]:
    match pages:
        case Pages.CURSOR:
            return live.list_query(size, None)
        case Pages.NUMBERED:
            return seed.list_query(size, None)
        case Pages.OFFSET:
            return {"pagination.limit": str(size), "pagination.offset": "0"}
        case _:
            return {}


def _next(
    pages: Pages | None, answer: Body, rows: list[dict[str, Any]], read: int, paging: Mapping[str, str], size: int
) -> dict[str, str] | None:
    match pages:
        case Pages.CURSOR:
            token = live.next_cursor(answer, None, read)
            return None if token is None or token == paging.get("pageToken") else live.list_query(size, token)
        case Pages.NUMBERED:
            page = seed.next_cursor(answer, paging["page"], read)
            return None if page is None else seed.list_query(size, page)
        case Pages.OFFSET:  # until a page is empty: the total is not always there
            return None if not rows else {**paging, "pagination.offset": str(read)}
        case _:
            return None


def _announced(answer: Any) -> int | None:
    """How many rows there are in all, where the last page says so."""
    if not isinstance(answer, Mapping):
        return None
    response = answer.get("paginationResponse")
    told = response.get("totalSize") if isinstance(response, Mapping) else answer.get("totalCount")
    text = str(told)
    return int(text) if text.isdecimal() else None


def _rows(call: Call, name: str, answer: Any) -> list[dict[str, Any]]:
    """``rows`` is where they are; with ``""`` the answer itself is the list. Empty ones may be left out."""
    is_listing = isinstance(answer, Mapping) if call.rows else isinstance(answer, list)
    found = (answer.get(call.rows) or [] if call.rows else answer) if is_listing else None
    if call.rows and isinstance(answer, Mapping) and call.rows not in answer and answer.keys() - BESIDE_ROWS:
        found = None
    if isinstance(found, list) and all(isinstance(row, dict) for row in found):
        return found
    shown = orjson.dumps(answer)[:40].decode(errors="replace")
    raise Transient(f"ION answered `{name}` with something that is no list: {shown}")
