"""Commands to the CRM over its REST API: JSON merge patch, idempotent by command id.

``POST /customers``, ``PATCH /customers/{id}``, ``GET`` both. What the CRM answers is taken as what
it holds now; 409 and 412 mean that it moved on, and are decided again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from yarl import URL

from syncd.core.errors import DecideAgain, Rejected, SideUnavailable, Transient
from syncd.core.intent import Intent, Kind
from syncd.core.record import PRESENCE, PRESENT
from syncd.core.values import Millis, Value, Values, value_to_json
from syncd.engine import spans
from syncd.engine.ports import Clock, Command, CrmAnswer
from syncd.mapping import CrmMapping, WrongValue


class RestSink:
    def __init__(self, url: str, token: str | None, mapping: CrmMapping, clock: Clock, timeout: float) -> None:
        self._customers = URL(url.rstrip("/")) / "customers"
        self._token = token
        self._mapping = mapping
        self._clock = clock
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> RestSink:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        self._session = aiohttp.ClientSession(headers=headers, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def deliver(self, command: Command) -> CrmAnswer | None:
        intent = command.intent
        asked = self._clock.now()  # an edit made while the answer travels must still count as newer
        body = self._body(intent.set)
        if intent.kind is Kind.CREATE:
            body = {**body, "ion_id": intent.ion_id}
            data = await self._send("POST", self._customers, intent.id, "application/json", body)
        else:
            target = self._customers / (intent.crm_id or "")
            if intent.kind is Kind.UNDO:
                await self._expect(intent, target, asked)
            try:
                data = await self._send("PATCH", target, intent.id, "application/merge-patch+json", body)
            except DecideAgain as error:
                data = await self._send("GET", target, "", "application/json", None)
                raise DecideAgain(error.sentence, answer=self._answer(intent.crm_id, data, asked)) from None
        return self._answer(intent.crm_id, data, asked)

    async def _expect(self, intent: Intent, target: URL, asked: Millis) -> None:
        """A PATCH has no condition, and what a person put back must not overrule a later edit."""
        answer = self._answer(intent.crm_id, await self._send("GET", target, "", "application/json", None), asked)
        if answer is not None and any(
            answer.values.get(name) not in (was, intent.set[name]) for name, was in intent.expect.items()
        ):
            raise DecideAgain("the CRM's value was edited meanwhile", answer=answer)

    async def read(self, crm_id: str) -> CrmAnswer | None:
        """What the CRM holds of a customer now; ``None`` where it shows none."""
        asked = self._clock.now()
        try:
            data = await self._send("GET", self._customers / crm_id, "", "application/json", None)
        except Rejected:
            return None
        return self._answer(crm_id, data, asked)

    async def probe(self) -> int:
        """How many customers the CRM lists on its first page; raises a ``SideError`` otherwise."""
        data = await self._send("GET", self._customers, "", "application/json", None)
        items = data.get("customers", data.get("items", [])) if isinstance(data, Mapping) else data
        return len(items) if isinstance(items, list) else 0

    def _body(self, values: Values) -> dict[str, Any]:
        """The fields at their paths in the CRM's customer."""
        body: dict[str, Any] = {}
        for name, value in values.items():
            *parents, last = self._mapping.crm_path(name).split(".")
            node = body
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value_to_json(self._mapping.write(name, value))
        return body

    def _answer(self, crm_id: str | None, data: object, asked: Millis) -> CrmAnswer | None:
        if not isinstance(data, Mapping):
            return None
        known = crm_id or (str(data["id"]) if data.get("id") is not None else None)
        if known is None:
            raise Transient("the CRM answered a create without the new customer's id")
        customer = data.get("customer", data)
        try:
            read = self._mapping.read(customer) if isinstance(customer, Mapping) else {}
        except WrongValue as wrong:
            raise Transient(f"the CRM's answer can't be read: {wrong}") from None
        values: dict[str, Value] = {PRESENCE: PRESENT, **read}
        return CrmAnswer(known, values, asked)

    async def _send(
        self, method: str, url: URL, command_id: str, content_type: str, body: Mapping[str, Any] | None
    ) -> Any:
        if self._session is None:
            raise RuntimeError("the CRM client is used outside its context")
        headers = {"Content-Type": content_type, "Idempotency-Key": command_id} if body is not None else {}
        if trace := spans.current():
            headers[spans.HEADER] = trace
        data = orjson.dumps(body) if body is not None else None
        try:
            async with self._session.request(method, url, data=data, headers=headers) as response:
                content = await response.read()
                status = response.status
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            raise SideUnavailable(f"the CRM can't be reached: {type(error).__name__}") from None
        if status in (409, 412):
            raise DecideAgain(f"the CRM answered {method} with {status}: it has moved on")
        if 400 <= status < 500 and status not in (401, 403, 408, 429):
            raise Rejected(f"the CRM answered {method} with {status}")
        if status >= 300:
            raise SideUnavailable(f"the CRM answered {method} with {status}")
        try:
            return orjson.loads(content) if content.strip() else None
        except orjson.JSONDecodeError:
            raise Transient(f"the CRM answered {method} with something that is not JSON") from None
