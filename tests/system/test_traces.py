"""One trace from the CRM's event through the decision to ION's call; another from a sweep to the CRM's command."""

from __future__ import annotations

from typing import Any

from tests.parts.collector import Span, collector
from tests.parts.world import World, eventually
from tests.system.conftest import MakeWorld
from tests.system.test_day import asked_of_crm, customer, linked_world

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALUES = ("A Traced Title", "traced@acme.example")


def traced_world(make_world: MakeWorld, url: str) -> tuple[World, str]:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start(SYNCD_TRACES__URL=url)
    world.topics.edit("C1", **customer())
    return world, world.linked("C1")


def commands(world: World) -> list[tuple[Any, dict[str, str]]]:
    return [(value, headers) for _, value, headers in world.topics.read_with_headers(world.topics.commands)]


def test_a_trace_that_the_crm_began_goes_on_to_ion(make_world: MakeWorld) -> None:
    with collector() as found:
        world, ion_id = traced_world(make_world, found.url)
        world.wait_until_idle()
        event = {"type": "changed", "id": "C1", "customer": {"title": VALUES[0]}}
        world.topics.send("C1", event, [("traceparent", f"00-{TRACE}-{PARENT}-01".encode())])
        world.topics.flush()
        eventually(lambda: world.ion.customers()[ion_id]["title"] == VALUES[0], "the edit is in ION")
        world.ion.edit(ion_id, email=VALUES[1])
        eventually(lambda: asked_of_crm(world, email=VALUES[1]), "the CRM is asked")
        [headers] = [told for value, told in commands(world) if VALUES[1] in str(value)]
        world.stop()  # which sends the last spans

        mine = {span.name: span for span in found.spans if span.trace == TRACE}
        assert mine.keys() >= {"event", "decide", "call", "ION update"}
        assert mine["event"].parent == PARENT
        assert mine["decide"].parent == mine["call"].parent == mine["event"].id
        assert mine["ION update"].parent == mine["call"].id
        assert mine["call"].about["syncd.customer"] == "crm:C1"
        assert mine["ION update"].about == {"syncd.lane": "write", "syncd.status": "200"}

        [command] = [span for span in found.spans if span.name == "command" and span.id in headers["traceparent"]]
        assert _root_of(command, found.spans).name == "sweep"
        assert headers["traceparent"].startswith(f"00-{command.trace}-{command.id}-")
        for value in VALUES:
            assert not any(value.encode() in raw for raw in found.raw), "no span holds what a customer holds"


def _root_of(span: Span, spans: list[Span]) -> Span:
    by_id = {each.id: each for each in spans}
    while span.parent:
        span = by_id[span.parent]
    return span


def test_without_a_collector_nothing_is_traced(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.ion.edit(ion_id, email=VALUES[1])
    eventually(lambda: asked_of_crm(world, email=VALUES[1]), "the CRM is asked")
    assert all("traceparent" not in headers for _, headers in commands(world))


def test_a_collector_that_is_away_holds_nothing_up(make_world: MakeWorld) -> None:
    world, ion_id = traced_world(make_world, "http://127.0.0.1:9/v1/traces")
    world.topics.edit("C1", title=VALUES[0])
    eventually(lambda: world.ion.customers()[ion_id]["title"] == VALUES[0], "the edit is in ION")
    assert world.stop() == 0
