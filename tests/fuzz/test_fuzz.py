"""Rubbish from every side: each input is handled, or set aside with a reason; nothing crashes or hangs.

``make fuzz`` plays a million of them; the test tier a part. The seed of a failing input is in its message.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from yarl import URL

from syncd.core.budget import Lane
from syncd.core.errors import BadConfiguration, SideError, SyncdError
from syncd.core.record import Reading, Record, new_record, observe, observe_reading
from syncd.core.values import Field, Millis, Side, Value
from syncd.crm.events import EventDecoder
from syncd.engine.ingest import Refusal, Told, Unusable
from syncd.engine.intake import SavedEvent
from syncd.ion import live, seed
from syncd.ion.answers import Answer, data_of, error_of
from syncd.ion.client import IonClient
from syncd.ion.gate import BudgetGate
from syncd.ion.oauth import Credentials
from syncd.ion.wire import Reply
from syncd.mapping import load_mapping
from syncd.settings import load
from syncd.store import codec
from syncd.store.memory import MemoryStore
from tests.fuzz.mutate import mutated

COUNT = int(os.environ.get("SYNCD_FUZZ", "40000"))
NOW = Millis(1_767_225_600_000)
CUSTOMER = {
    "company": "Acme Ltd",
    "email": "ann@acme.example",
    "country": "US",
    "phone": "+18135550142",
    "address": {"street": "1 Main", "suite": "", "city": "Tampa", "state": "FL", "zip": "33602"},
    "contact": "Ann",
    "title": "CEO",
    "language": "EN",
    "status": "active",
}
PLAIN = {"type": "changed", "id": "C1", "time": "2025-12-31T23:59:00Z", "version": 7, "caused_by": "i", "ion_id": "9"}
EVENTS: list[Any] = [
    {**PLAIN, "customer": CUSTOMER},
    {**PLAIN, "type": "snapshot", "customer": CUSTOMER},
    {**PLAIN, "type": "deleted"},
    {**PLAIN, "type": "command-rejected", "customer": {"reason": "no"}},
    {
        "specversion": "1.0",
        "id": "e",
        "source": "s",
        "type": "crm.customer.changed",
        "subject": "C1",
        "time": "2025-12-31T23:59:00Z",
        "data": CUSTOMER,
    },
    {"op": "u", "before": None, "after": {"id": "C1", **CUSTOMER}, "source": {"ts_ms": NOW - 5}},
    {"schema": {}, "payload": {"op": "d", "before": {"id": 5}, "after": None, "ts_ms": NOW}},
]
LIVE = {
    "name": "accounts/1/customers/7",
    "customerOrganization": "Acme",
    "customerEmail": "a@b.example",
    "customerName": "Ann",
    "customerAddress": {"street": "1 Main", "city": "Tampa", "state": "FL", "zip": "33602", "country": "US"},
    "createTime": "2025-12-31T23:59:00Z",
    "updateTime": "2025-12-31T23:59:00Z",
    "languageCode": "EN",
    "customerStatus": "ACTIVE",
}
SEED = {
    "customerId": "7",
    "companyName": "Acme",
    "email": "a@b.example",
    "country": "US",
    "status": "active",
    "createdAt": "2025-12-31T23:59:00Z",
}
BODIES: list[Any] = [
    {"customers": [LIVE, {**LIVE, "name": "accounts/1/customers/8"}], "nextPageToken": "c2"},
    {"items": [SEED], "totalCount": 1, "page": 1, "pageSize": 50},
    LIVE,
    SEED,
    {"error": "NOT_FOUND", "message": "no", "code": 404, "details": [{"code": "CUS-CR-001"}]},
    {"access_token": "a", "refresh_token": "r", "expires_in": 7200},
]
MAPPING = """
id: customer_no
fields:
  title: {crm: profile.title, direction: both, tie: ion, convert: {trim: true}}
  phone: {direction: crm-to-ion, convert: {phone: US}, lossy: true}
  country: {convert: {country: true, values: {Germania: DE}}}
  status: {direction: ion-to-crm}
"""
STATUSES = (200, 201, 204, 301, 400, 401, 403, 404, 409, 412, 418, 429, 500, 502, 503, 999)
DECODER = EventDecoder(load_mapping(None), 2_000)
LAST: dict[str, Value] = {}
"""What an event told before, of whomever."""

Outcome = str
Try = Callable[[Random], Outcome]


def dumped(documents: list[Any]) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]


EVENT_BYTES, BODY_BYTES = dumped(EVENTS), dumped(BODIES)


def storable(record: Record) -> None:
    """What was taken in can be stored in both databases, and comes out as it went in."""
    row = codec.record_to_row(record)
    for value in (*row.values(), *(str(sighting.value) for r in record.registers.values() for sighting in r)):
        if isinstance(value, str):
            value.encode()
            assert "\x00" not in value, "PostgreSQL takes no zero byte"
        elif isinstance(value, int):
            assert abs(value) < 2**63
    assert codec.record_from_row(SimpleNamespace(**row)).registers == record.registers


def named(error: SyncdError) -> str:
    """Every refusal has a sentence for people."""
    assert error.sentence.strip()
    return type(error).__name__


def try_event(rng: Random) -> Outcome:
    key = rng.choice((b"C1", None, b"", mutated(rng, b'{"id": "C1"}', EVENT_BYTES)))
    headers: list[tuple[str, bytes]] = []
    if rng.random() < 0.2:
        attributes = ("ce_specversion", "ce_type", "ce_time", "ce_subject", "content-type")
        headers = [(name, mutated(rng, b"crm.customer.changed", EVENT_BYTES)[:500]) for name in attributes]
    value = mutated(rng, rng.choice(EVENT_BYTES), EVENT_BYTES)
    event = SavedEvent("t", 0, 5, Millis(rng.choice((0, NOW, -1, 2**62))), key, value, tuple(headers))
    told = DECODER.decode(event, NOW)
    if isinstance(told, Unusable):
        assert told.reason
        assert told.detail
        return f"event set aside: {told.reason}"
    if isinstance(told, Refusal):
        told.reason.encode()
        assert "\x00" not in told.reason + told.command_id
        return "event handled: refusal"
    assert isinstance(told, Told)
    seen = told.observation
    known = {name: value for name, value in (*seen.values.items(), *LAST.items()) if rng.random() < 0.7}
    assert DECODER.decode(event, NOW, lambda _: known) == told, "what is known changes nothing"
    LAST.update(seen.values)
    storable(observe(new_record(Side.CRM, told.observation.customer_id), [told.observation]))
    return "event handled"


def try_answer(rng: Random) -> Outcome:
    """One answer of ION, read as every kind of thing that it may be the answer to."""
    body = mutated(rng, rng.choice(BODY_BYTES), BODY_BYTES)
    retry = mutated(rng, b"Wed, 21 Oct 2026 07:28:00 GMT", [b"5", b"-1", b"9" * 40]).decode(errors="replace")
    answer = Answer(rng.choice(STATUSES), {"Retry-After": retry}, body, NOW)
    writes = rng.random() < 0.5
    try:
        data = data_of(answer, writes=writes, what="a fuzz")
    except SideError as error:
        return f"answer set aside: {named(error)}"
    assert isinstance(error_of(answer, writes=writes, what="a fuzz"), SideError)
    speech = rng.choice((live, seed))
    speech.next_cursor(data, "2", 3)
    speech.announced(data)
    for raw in (*speech.customers(data), data):
        ion_id = speech.ion_id(raw)
        if ion_id is not None:
            times = speech.modified(raw), raw, speech.created(raw)
            reading = Reading(ion_id, speech.values(raw), NOW, Millis(NOW + 5), *times)
            storable(observe_reading(new_record(Side.ION, ion_id), reading))
            json.dumps(speech.update_body(raw, {Field.COMPANY: "Acme"}))
    return "answer handled"


class RubbishWire:
    """Answers every call with something mutated."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    async def exchange(self, method: str, url: URL, headers: Any, query: Any, body: Any) -> Reply:
        if url.path == "/oauth/token" and self._rng.random() < 0.9:
            return Reply(200, {}, BODY_BYTES[-1])
        status = 200 if self._rng.random() < 0.7 else self._rng.choice(STATUSES)
        return Reply(status, {}, mutated(self._rng, self._rng.choice(BODY_BYTES), BODY_BYTES))


class StillClock:
    def now(self) -> Millis:
        return NOW

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def try_client(rng: Random) -> Outcome:
    """The client itself against a far side that talks rubbish: only its own errors come out."""
    store, clock = MemoryStore(rng), StillClock()
    client = IonClient(
        url="http://ion.invalid",
        account="1",
        credentials=Credentials("r"),
        wire=RubbishWire(rng),
        store=store,
        gate=BudgetGate(store, clock, 10_000, 60_000),
        clock=clock,
        owner="fuzz",
        dialect=None,
        page_size=rng.choice((None, 10)),
    )

    async def use() -> None:
        async for page in client.list_customers(Lane.SWEEP):
            for reading in page.readings:
                storable(observe_reading(new_record(Side.ION, reading.ion_id), reading))
        async with client._gate.slots(Lane.WRITE, 4) as slots:
            reading = await client.get("7", slots)
            await client.find_by_email("a@b.example", slots)
            await client.create({Field.COMPANY: "Acme", Field.EMAIL: "a@b.example"}, slots, NOW)
            if reading is not None:
                await client.update(reading, {Field.COMPANY: "New"}, slots, NOW)

    try:
        asyncio.run(asyncio.wait_for(use(), 30))
    except SideError as error:
        return f"client set aside: {named(error)}"
    return "client handled"


def try_mapping(rng: Random) -> Outcome:
    with tempfile.NamedTemporaryFile(suffix=rng.choice((".yaml", ".toml"))) as file:
        file.write(mutated(rng, MAPPING.encode(), [MAPPING.encode()])[:20_000])
        file.flush()
        try:
            load_mapping(Path(file.name))
        except BadConfiguration as error:
            return f"mapping refused: {named(error)}"
    return "mapping handled"


def try_settings(rng: Random) -> Outcome:
    name = rng.choice(("ION__URL", "ION__CALLS_PER_MINUTE", "POLL__INTERVAL_SECONDS", "SYNC__TIE", "ADMIN__PORT"))
    value = mutated(rng, b"30", [b"crm", b"http://x"])[:300].decode(errors="replace").replace("\x00", "")
    try:
        load(None, {f"SYNCD_{name}": value})
    except SyncdError as error:
        return f"settings refused: {named(error)}"
    return "settings handled"


TRIES: dict[Try, float] = {try_event: 0.6, try_answer: 0.3, try_client: 0.01, try_mapping: 0.05, try_settings: 0.04}


def play(part: tuple[int, int]) -> Counter[Outcome]:
    """Inputs ``start`` to ``end``; each from its own seed, so that one can be seen again."""
    outcomes = Counter[Outcome]()
    for number in range(*part):
        rng = Random(number)
        [attempt] = rng.choices(list(TRIES), list(TRIES.values()))
        try:
            outcomes[attempt(rng)] += 1
        except Exception as error:
            raise AssertionError(
                f"input {number} of {attempt.__name__}: {type(error).__name__}: {error}"[:2_000]
            ) from error
    return outcomes


@pytest.mark.timeout(3_600)
def test_nothing_crashes_and_nothing_is_silent() -> None:
    parts = [(start, min(start + 2_000, COUNT)) for start in range(0, COUNT, 2_000)]
    total = Counter[Outcome]()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for outcomes in pool.map(play, parts):
            total += outcomes
    assert sum(total.values()) == COUNT
    for kind in ("event handled", "answer handled", "mapping handled", "settings handled"):
        assert total[kind] > 0, "inputs that are all refused at the door test nothing behind it"
    print(f"{COUNT} inputs:", ", ".join(f"{count} {what}" for what, count in total.most_common()))
