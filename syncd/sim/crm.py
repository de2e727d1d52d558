"""A simulated CRM: it edits customers, applies commands, and tells of each change by an event.

Kafka: commands are applied once each, by command id, and answered by a ``changed`` event that names
the command. REST: the same over HTTP. Below ``/_sim`` edit as a CRM user would.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson
from aiohttp import web
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from syncd.sim.ion import serve_app
from syncd.sim.people import make_customer

FIELDS = ("company", "email", "country", "phone", "address", "contact", "title", "language", "status")
BATCH, PAUSE_SECONDS, PATIENCE_MS = 500, 0.02, 5_000


@dataclass(frozen=True, slots=True)
class CrmOptions:
    customers: int = 0
    seed: int = 1
    bootstrap_servers: str | None = None
    events_topic: str = "crm.customers"
    commands_topic: str = "syncd.crm.commands"


@dataclass(slots=True)
class Crm:
    """The CRM's own table, and the events that have not gone out yet."""

    options: CrmOptions
    clock: Callable[[], float] = time.time
    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    done: dict[str, str] = field(default_factory=dict)
    """Command id to the customer it was applied to."""
    events: list[tuple[str, bytes]] = field(default_factory=list)
    next_id: int = 1
    commands: int = 0
    notices: list[dict[str, Any]] = field(default_factory=list)
    created_for: dict[str, list[str]] = field(default_factory=dict)
    """ION id to the customers that were created for it by command: more than one is a double."""

    def __post_init__(self) -> None:
        rng = Random(self.options.seed)
        for number in range(self.options.customers):
            self.change(self.new_id(), make_customer(rng, number))

    def now(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="milliseconds")

    def new_id(self) -> str:
        crm_id = f"C{self.next_id:05d}"
        self.next_id += 1
        return crm_id

    def change(
        self, crm_id: str, changes: dict[str, Any], caused_by: str | None = None, ion_id: str | None = None
    ) -> dict[str, Any]:
        """Change a customer and tell of it."""
        customer = self.customers.setdefault(crm_id, {})
        customer.update({name: value for name, value in changes.items() if name in FIELDS})
        version = self.versions[crm_id] = self.versions.get(crm_id, 0) + 1
        event: dict[str, Any] = {
            "type": "changed",
            "id": crm_id,
            "time": self.now(),
            "version": version,
            "customer": {name: changes[name] for name in changes if name in FIELDS},
        }
        if caused_by:
            event["caused_by"] = caused_by
        if ion_id:
            event["ion_id"] = ion_id
        self.events.append((crm_id, orjson.dumps(event)))
        return customer

    def delete(self, crm_id: str) -> None:
        self.customers.pop(crm_id)
        version = self.versions[crm_id] = self.versions.get(crm_id, 0) + 1
        event = {"type": "deleted", "id": crm_id, "time": self.now(), "version": version}
        self.events.append((crm_id, orjson.dumps(event)))

    def apply(self, command: dict[str, Any]) -> None:
        """Do what a command asks, once; refuse it where a value is not what it expected."""
        command_id, kind, data = command["id"], command["type"], command["data"]
        if command_id in self.done:
            return
        self.commands += 1
        if kind == "syncd.customer.notice":
            self.notices.append(command)
            return
        if kind == "syncd.customer.create":
            crm_id = self.new_id()
            self.created_for.setdefault(data["ion_id"], []).append(crm_id)
        else:
            crm_id = data["crm_id"]
            moved = self._moved(crm_id, data.get("expect") or {})
            if moved:
                self._reject(crm_id, command_id, f"{', '.join(moved)} changed meanwhile")
                return
        self.done[command_id] = crm_id
        self.change(crm_id, data["set"], caused_by=command_id, ion_id=data.get("ion_id"))

    def would_take(self, command: dict[str, Any]) -> bool:
        """An update whose expectations hold."""
        return not self._moved(command["data"]["crm_id"], command["data"].get("expect") or {})

    def _moved(self, crm_id: str, expect: dict[str, Any]) -> list[str]:
        customer = self.customers.get(crm_id, {})
        return [name for name, value in expect.items() if (customer.get(name) or None) != (value or None)]

    def _reject(self, crm_id: str, command_id: str, reason: str) -> None:
        event = {
            "type": "command-rejected",
            "id": crm_id,
            "time": self.now(),
            "caused_by": command_id,
            "customer": {"reason": reason},
        }
        self.events.append((crm_id, orjson.dumps(event)))


class CrmServer:
    def __init__(self, crm: Crm) -> None:
        self.crm = crm

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/customers", self.list_customers),
                web.post("/customers", self.create),
                web.get("/customers/{customer}", self.get),
                web.patch("/customers/{customer}", self.patch),
                web.post("/_sim/customers", self.add),
                web.patch("/_sim/customers/{customer}", self.edit),
                web.delete("/_sim/customers/{customer}", self.remove),
                web.get("/_sim/state", self.state),
            ]
        )
        return app

    async def list_customers(self, _: web.Request) -> web.Response:
        return _json([{"id": crm_id, **values} for crm_id, values in self.crm.customers.items()])

    async def get(self, request: web.Request) -> web.Response:
        crm_id = request.match_info["customer"]
        if crm_id not in self.crm.customers:
            return _json({"error": "no such customer"}, 404)
        return _json({"id": crm_id, **self.crm.customers[crm_id]})

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        command = request.headers.get("Idempotency-Key")
        crm_id = self.crm.done.get(command or "") or self.crm.new_id()
        if command is None or command not in self.crm.done:
            self.crm.change(crm_id, body, caused_by=command, ion_id=body.get("ion_id"))
            self.crm.done[command or crm_id] = crm_id
        return _json({"id": crm_id, **self.crm.customers[crm_id]}, 201)

    async def patch(self, request: web.Request) -> web.Response:
        crm_id, command = request.match_info["customer"], request.headers.get("Idempotency-Key")
        if crm_id not in self.crm.customers:
            return _json({"error": "no such customer"}, 404)
        if command is None or command not in self.crm.done:
            self.crm.change(crm_id, await request.json(), caused_by=command)
            self.crm.done[command or crm_id] = crm_id
        return _json({"id": crm_id, **self.crm.customers[crm_id]})

    async def add(self, request: web.Request) -> web.Response:
        crm_id = self.crm.new_id()
        return _json({"id": crm_id, **self.crm.change(crm_id, await request.json())}, 201)

    async def edit(self, request: web.Request) -> web.Response:
        crm_id = request.match_info["customer"]
        return _json({"id": crm_id, **self.crm.change(crm_id, await request.json())})

    async def remove(self, request: web.Request) -> web.Response:
        self.crm.delete(request.match_info["customer"])
        return _json({})

    async def state(self, _: web.Request) -> web.Response:
        crm = self.crm
        return _json({"customers": len(crm.customers), "commands": crm.commands, "waiting_events": len(crm.events)})


@contextlib.asynccontextmanager
async def on_kafka(crm: Crm) -> AsyncIterator[None]:
    """Speak to the brokers for as long as the block lasts."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_send_events(crm)), tasks.create_task(_read_commands(crm))]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


async def _send_events(crm: Crm) -> None:
    """In order, each until the brokers have it; what they took without saying so is told again."""
    producer = Producer({**_client(crm), "max.in.flight": 1, "message.timeout.ms": PATIENCE_MS})
    while True:
        if crm.events:
            del crm.events[: await asyncio.to_thread(_send, producer, crm.options.events_topic, crm.events[:BATCH])]
        await asyncio.sleep(PAUSE_SECONDS)


def _send(producer: Producer, topic: str, events: list[tuple[str, bytes]]) -> int:
    """How many of them, from the first on, the brokers have now."""
    refused = set[int]()
    for number, (key, value) in enumerate(events):

        def told(error: KafkaError | None, _: Message, number: int = number) -> None:
            if error is not None:
                refused.add(number)

        producer.produce(topic, key=key.encode(), value=value, on_delivery=told)
    producer.flush()
    return min(refused, default=len(events))


async def _read_commands(crm: Crm) -> None:
    """From the first on at each start: the CRM knows which it has done."""
    consumer = Consumer(
        {**_client(crm), "group.id": "crm", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    try:
        places: list[TopicPartition] = []
        while not places:
            await asyncio.sleep(PAUSE_SECONDS)
            places = await asyncio.to_thread(_partitions, consumer, crm.options.commands_topic)
        consumer.assign(places)
        while True:
            for record in await asyncio.to_thread(consumer.consume, BATCH, PAUSE_SECONDS):
                value = record.value()
                if record.error() is None and value is not None:
                    crm.apply(orjson.loads(value))
    finally:
        consumer.close()


def _partitions(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """Empty while there is no such topic, or no broker to ask."""
    try:
        known = consumer.list_topics(topic, timeout=PATIENCE_MS / 1_000).topics[topic].partitions
    except KafkaException:
        return []
    return [TopicPartition(topic, number, OFFSET_BEGINNING) for number in known]


def _client(crm: Crm) -> dict[str, str | int | bool]:
    return {"bootstrap.servers": crm.options.bootstrap_servers or "", "log_level": 0}


async def serve_crm(options: CrmOptions, port: int) -> None:
    """Serve until cancelled; says where it listens."""
    crm = Crm(options)
    runner, bound = await serve_app(CrmServer(crm).app(), port)
    print(f"the CRM listens at http://127.0.0.1:{bound}", flush=True)
    try:
        async with on_kafka(crm) if options.bootstrap_servers else contextlib.nullcontext():
            await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
