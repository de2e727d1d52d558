"""The calls to ION: each inside a slot of the budget, each answer classified.

What leaves this file has been stripped of what nobody may see: a create's answer carries the
password of a portal user that ION makes by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import urlencode

import orjson
import structlog
from yarl import URL

from syncd.core.batches import batched
from syncd.core.budget import Lane
from syncd.core.errors import OutcomeUnknown, SideUnavailable, Throttled, Transient
from syncd.core.policy import Dialect
from syncd.core.record import Reading
from syncd.core.redact import redacted, without_secrets
from syncd.core.values import Millis, Values
from syncd.engine import spans
from syncd.engine.ports import Clock, Page, Slots, Store
from syncd.ion import live, seed
from syncd.ion.answers import Answer, data_of, error_of, json_of
from syncd.ion.gate import BudgetGate
from syncd.ion.oauth import Credentials, Custody
from syncd.ion.operations import Request
from syncd.ion.wire import Wire

DIALECTS: Mapping[Dialect, ModuleType] = {Dialect.LIVE: live, Dialect.SEED: seed}
PAGE_SIZES = (1000, 500, 200, 100, 50, 10)
"""Tried from the largest; the first that the server takes is remembered."""
AT_ONCE = 100
"""So many customers of a page are read in one go: while they are, nothing else is done."""
SECRET_KEYS = frozenset({"password", "user"})

log = structlog.get_logger()


class Calls(Protocol):
    """Where call counts and times go; the daemon passes its metrics."""

    def called(self, lane: Lane, operation: str, status: str, seconds: float) -> None:
        """One call to ION has ended."""


class Uncounted:
    """For commands, which have no metrics page."""

    def called(self, lane: Lane, operation: str, status: str, seconds: float) -> None:
        """Counted nowhere."""


class IonClient:
    def __init__(
        self,
        *,
        url: str,
        account: str,
        credentials: Credentials,
        wire: Wire,
        store: Store,
        gate: BudgetGate,
        clock: Clock,
        owner: str,
        dialect: Dialect | None,
        page_size: int | None,
        calls: Calls | None = None,
    ) -> None:
        self.account = account
        self._root = URL(url.rstrip("/"))
        self._customers = self._root / "api/v3/accounts" / account / "customers"
        self._store = store
        self._gate = gate
        self._clock = clock
        self._dialect = dialect
        self._page_size = page_size
        self._wire = wire
        self._calls = calls if calls is not None else Uncounted()
        self.has_listed = False
        """ION has answered a page of customers, so it is there and takes our credentials."""
        self.custody = Custody(store, gate, clock, self._post_form, credentials, owner)

    # -- the port

    async def known_dialect(self) -> Dialect | None:
        """The dialect as configured, or as an earlier list answer showed it."""
        if self._dialect is None:
            async with self._store.begin() as unit:
                remembered = await unit.note("ion_dialect")
            self._dialect = Dialect(remembered) if remembered else None
        return self._dialect

    async def dialect(self) -> Dialect:
        """The dialect ION speaks; asks for a page where nobody knows it yet."""
        if await self.known_dialect() is None:
            async with self._gate.slots(Lane.SWEEP) as slots:
                await self._list_page(None, slots)
        return self._dialect or Dialect.LIVE

    async def list_customers(self, lane: Lane) -> AsyncGenerator[Page]:
        """All pages, one call each. Raises where a page can't be read: the listing is not complete."""
        cursor, read, seen = None, 0, set[str]()
        await self.known_dialect()
        while True:
            async with self._gate.slots(lane) as slots:
                body, asked, answered = await self._list_page(cursor, slots)
            speech = DIALECTS[self._dialect or Dialect.LIVE]
            raws = speech.customers(body)
            read += len(raws)
            readings = list[Reading]()
            for some in batched(raws, AT_ONCE):
                readings += [r for raw in some if (r := self._reading(raw, asked, answered)) is not None]
                await asyncio.sleep(0)
            if len(readings) != len(raws):
                log.warning("listed_customer_without_id", count=len(raws) - len(readings))
            following = speech.next_cursor(body, cursor, read)
            is_repeated = following is not None and following in seen
            is_last = following is None or is_repeated
            yield Page(readings, speech.announced(body), is_repeated, is_last)
            if following is None or is_repeated:
                return
            seen.add(following)
            cursor = following

    async def get(self, ion_id: str, slots: Slots) -> Reading | None:
        asked = self._clock.now()
        answer = await self._send("get", "GET", self._customers / ion_id, slots)
        if answer.status == 404:
            return None
        raw = data_of(answer, writes=False, what="a customer's record")
        reading = self._reading(raw, asked, answer.answered)
        if reading is None or reading.ion_id != ion_id:
            raise Transient("ION answered a customer's record with something else")
        return reading

    async def find_by_email(self, email: str, slots: Slots) -> list[Reading] | None:
        speech = DIALECTS[await self.dialect()]
        if not speech.CAN_LOOK_UP_EMAIL:
            return None
        asked = self._clock.now()
        answer = await self._send("find", "GET", self._customers, slots, query=speech.email_query(email))
        raws = speech.customers(data_of(answer, writes=False, what="a look-up by e-mail"))
        readings = [reading for raw in raws if (reading := self._reading(raw, asked, answer.answered))]
        wanted = email.casefold()  # the filter may match in part, or not be heeded at all
        return [r for r in readings if str(speech.values(r.raw).get("email") or "").casefold() == wanted]

    async def create(self, values: Values, slots: Slots, not_after: Millis) -> Reading:
        speech = DIALECTS[await self.dialect()]
        asked = self._clock.now()
        body = speech.create_body(values)
        answer = await self._send("create", "POST", self._customers, slots, body=body, not_after=not_after)
        raw = data_of(answer, writes=True, what="a create")
        reading = self._reading(raw, asked, answer.answered)
        if reading is None:
            raise OutcomeUnknown("ION answered a create without the new customer's id")
        return reading

    async def update(self, reading: Reading, changes: Values, slots: Slots, not_after: Millis) -> Reading:
        speech = DIALECTS[await self.dialect()]
        body = speech.update_body(reading.raw, changes)
        asked = self._clock.now()
        url = self._customers / reading.ion_id
        answer = await self._send("update", "PUT", url, slots, body=body, not_after=not_after)
        raw = data_of(answer, writes=True, what="an update")
        if not any(key in raw for key in speech.TEXTS.values()):
            # No record in the answer: what was sent stands in for it, field by field.
            return Reading(reading.ion_id, {}, asked, answer.answered, None, {})
        return Reading(
            reading.ion_id, speech.shown_values(raw), asked, answer.answered, speech.modified(raw), _clean(raw)
        )

    @asynccontextmanager
    async def slots(self, lane: Lane, count: int) -> AsyncIterator[Slots]:
        """Slots for calls that belong together."""
        async with self._gate.slots(lane, count) as slots:
            yield slots

    async def ask(self, operation: str, request: Request, slots: Slots, not_after: Millis | None = None) -> Any:
        """One call beside customer sync; its answer, or its error, without the secrets in it."""
        url, label = self._root / "api/v3" / request.path, operation.replace(" ", "-")
        query = request.query or None
        answer = await self._send(
            label, request.method, url, slots, query=query, body=request.body, not_after=not_after
        )
        if answer.status >= 400:  # ION may repeat what was sent
            said = without_secrets(answer.body.decode(errors="replace"), request.body)
            answer = answer._replace(body=said.encode())
        return redacted(json_of(answer, writes=request.writes, what=f"`{operation}`"))

    # -- one page, one reading

    async def _list_page(self, cursor: str | None, slots: Slots) -> tuple[Mapping[str, Any], Millis, Millis]:
        size = self._page_size or await self._remembered_size()
        while True:
            speech = DIALECTS[self._dialect or Dialect.LIVE]
            query = speech.list_query(size, cursor)
            if self._dialect is None:  # a question that both dialects understand
                query = {"pageSize": str(size), "page": "1"}
            asked = self._clock.now()
            answer = await self._send("list", "GET", self._customers, slots, query=query)
            smaller = next((known for known in PAGE_SIZES if known < size), None)
            if answer.status in (400, 413) and cursor is None and self._page_size is None and smaller:
                size = smaller
                continue
            body = data_of(answer, writes=False, what="a list of customers")
            if not _is_listing(body):
                raise Transient("ION answered a list of customers with something else")
            if self._dialect is not None and body and not speech.is_mine(body):
                raise Transient(f"ION does not speak the {self._dialect} dialect: check SYNCD_ION__DIALECT")
            await self._remember(size, body)
            self.has_listed = True
            return body, asked, answer.answered

    async def _remembered_size(self) -> int:
        async with self._store.begin() as unit:
            return int(await unit.note("ion_page_size") or PAGE_SIZES[0])

    async def _remember(self, size: int, body: Mapping[str, Any]) -> None:
        """Page size and dialect, found out once and kept over restarts."""
        found = next((name for name, speech in DIALECTS.items() if speech.is_mine(body)), None)
        async with self._store.begin() as unit:
            if self._page_size is None and await unit.note("ion_page_size") != str(size):
                await unit.save_note("ion_page_size", str(size))
            if self._dialect is None and found is not None:
                await unit.save_note("ion_dialect", found.value)
        if self._dialect is None:
            self._dialect = found
            if found is not None:
                log.info("dialect_found", dialect=found.value)

    def _reading(self, raw: Mapping[str, Any], asked: Millis, answered: Millis) -> Reading | None:
        speech = DIALECTS[self._dialect or Dialect.LIVE]
        ion_id = speech.ion_id(raw)
        if ion_id is None:
            return None
        times = speech.modified(raw), _clean(raw), speech.created(raw)
        return Reading(ion_id, speech.values(raw), asked, answered, *times)

    # -- the wire

    async def _send(
        self,
        operation: str,
        method: str,
        url: URL,
        slots: Slots,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        not_after: Millis | None = None,
    ) -> Answer:
        """One call with a good token; after a 401 once more with a new one."""
        with spans.span(f"ION {operation}", lane=slots.lane.value):
            token = await self.custody.bearer(slots)
            answer = await self._call(operation, method, url, slots, token, query, body, not_after)
            if answer.status == 401:
                token = await self.custody.renew(token, slots)
                answer = await self._call(operation, method, url, slots, token, query, body, not_after)
            if answer.status == 429:
                error = error_of(answer, writes=False, what=operation)
                await self._gate.throttled(error.wait_ms if isinstance(error, Throttled) else None)
            spans.note(status=answer.status)
        return answer

    async def _call(
        self,
        operation: str,
        method: str,
        url: URL,
        slots: Slots,
        token: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        not_after: Millis | None,
    ) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = orjson.dumps(body), "application/json"
        async with slots.call():
            if not_after is not None and self._clock.now() > not_after:
                raise Transient(f"it was too late to send the {operation}: this process was stopped for a while")
            return await self._exchange(slots.lane, operation, method, url, headers, query, data)

    async def _post_form(self, path: str, form: dict[str, str]) -> Answer:
        """For the tokens; the slot is the caller's."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        data = urlencode(form).encode()
        return await self._exchange(
            Lane.OPERATOR, "token", "POST", self._root / path.lstrip("/"), headers, None, data
        )

    async def _exchange(
        self,
        lane: Lane,
        operation: str,
        method: str,
        url: URL,
        headers: dict[str, str],
        query: Mapping[str, str] | None,
        data: bytes | None,
    ) -> Answer:
        started = self._clock.now()
        status, is_write = "failed", method != "GET"
        try:
            reply = await self._wire.exchange(method, url, headers, query, data)
        except ConnectionRefusedError as error:
            self._gate.unavailable()
            raise SideUnavailable(f"ION can't be reached: {error}") from None
        except (TimeoutError, OSError) as error:
            self._gate.unavailable()
            problem = f"the answer to a {operation} was lost: {_cause(error)}"
            raise (OutcomeUnknown(problem) if is_write else Transient(problem)) from None
        else:
            status = str(reply.status)
            self._gate.answered(reply.status)
            return Answer(*reply, self._clock.now())
        finally:
            self._calls.called(lane, operation, status, (self._clock.now() - started) / 1000)


def _is_listing(body: Mapping[str, Any]) -> bool:
    """Empty accounts may answer ``{}``; anything else must look like a list in one of the dialects."""
    if not body:
        return True
    found = [speech for speech in DIALECTS.values() if speech.is_mine(body)]
    return bool(found) and all(isinstance(body.get(speech.LIST_KEY, []), list) for speech in found)


def _clean(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in SECRET_KEYS}


def _cause(error: BaseException) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
