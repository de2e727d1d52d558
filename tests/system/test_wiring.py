"""docs/wiring.md, word by word: what stands there is sent, and what it says comes of it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.parts.world import World, eventually
from tests.system.conftest import MakeWorld
from tests.system.test_day import asked_of_crm

PAGE = (Path(__file__).parent.parent.parent / "docs" / "wiring.md").read_text()


def examples(form: str, customer: str) -> list[str]:
    return re.findall(rf"^```{form} {customer}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def events(customer: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in examples("json", customer)]


def send(world: World, customer: str, event: dict[str, Any]) -> None:
    world.topics.send(customer, event)
    world.topics.flush()


def test_every_example_is_one_that_is_sent_here() -> None:
    assert len(re.findall(r"^```(?:json|http) ", PAGE, re.MULTILINE)) == sum(
        len(examples(form, customer)) for form in ("json", "http") for customer in ("C-100", "C-200", "C-300")
    )
    assert [len(events(customer)) for customer in ("C-100", "C-200", "C-300")] == [3, 2, 1]


def test_cloud_events(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start()
    snapshot, changed, answer = events("C-100")
    send(world, "C-100", snapshot)
    ion_id = world.linked("C-100")
    assert world.ion.customers()[ion_id]["address"] == snapshot["data"]["address"]
    send(world, "C-100", changed)
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Harbour Lights Dental Group", "the edit in ION")
    world.wait_until_idle()
    time.sleep(1.1)  # ION dates by the second: an edit in that of our own write can't be told from it
    world.ion.edit(ion_id, email=answer["data"]["email"])
    [command] = eventually(lambda: asked_of_crm(world, email=answer["data"]["email"]), "the CRM is asked")
    send(world, "C-100", {**answer, "causedby": command["id"]})
    eventually(lambda: world.look("status")["commands_open"] == 0, "the answer is understood")


def test_debezium(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start()
    created, updated = events("C-200")
    send(world, "C-200", created)
    ion_id = world.linked("C-200")
    assert world.ion.customers()[ion_id]["address"]["city"] == "Seattle"
    send(world, "C-200", updated)
    eventually(lambda: world.ion.customers()[ion_id]["title"] == "Finance Director", "the edit in ION")
    world.topics.send(json.dumps({"id": "C-200"}), {**updated, "after": {**updated["after"], "title": "CFO"}})
    world.topics.flush()
    eventually(lambda: world.ion.customers()[ion_id]["title"] == "CFO", "a key as Debezium writes it")


class Asked(NamedTuple):
    line: str
    headers: dict[str, str]
    body: Any


@contextmanager
def rest_crm() -> Iterator[tuple[str, list[Asked]]]:
    """A CRM that takes everything and answers with what it holds."""
    asked = list[Asked]()

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(Asked(f"PATCH {self.path}", dict(self.headers), body))
            self._answer({"id": self.path.rpartition("/")[2], **body})

        def do_GET(self) -> None:
            self._answer([])

        def _answer(self, told: Any) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.timeout(120)
def test_http(make_world: MakeWorld) -> None:
    [example] = examples("http", "C-300")
    head, _, body = example.partition("\n\n")
    line, content_type = head.splitlines()
    with rest_crm() as (url, asked):
        world = make_world(dialect="live", customers=0, calls_per_minute=600)
        world.start(SYNCD_CRM__SINK="http", SYNCD_CRM__URL=url, SYNCD_CRM__TOKEN="the-crm's-token")
        [snapshot] = events("C-300")
        send(world, "C-300", snapshot)
        ion_id = world.linked("C-300")
        world.wait_until_idle()
        time.sleep(1.1)
        world.ion.edit(ion_id, **json.loads(body))
        [request] = eventually(lambda: [each for each in asked if each.line == line], "the CRM is asked")
        assert request.body == json.loads(body)
        assert f"Content-Type: {request.headers['Content-Type']}" == content_type
        assert request.headers["Authorization"] == "Bearer the-crm's-token"
        assert re.fullmatch(r"[0-9a-f]{32}", request.headers["Idempotency-Key"])
        world.stop()
