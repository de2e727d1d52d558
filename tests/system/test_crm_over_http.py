"""The CRM behind its REST API: commands by HTTP, events by Kafka, the simulated CRM as a process."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.parts.world import Process, eventually, http
from tests.system.conftest import MakeWorld
from tests.system.test_day import customer


def test_edits_whose_events_were_lost_are_asked_of_the_crm(make_world: MakeWorld, tmp_path: Path) -> None:
    """The topic keeps events for too short a time, and syncd was away for longer."""
    world = make_world(dialect="live", customers=3, calls_per_minute=600)
    environ = {
        name: world.environ[name]
        for name in ("SYNCD_KAFKA__BOOTSTRAP_SERVERS", "SYNCD_KAFKA__EVENTS_TOPIC", "SYNCD_KAFKA__COMMANDS_TOPIC")
    }
    crm = Process(["sim", "crm", "--port", "0"], environ, tmp_path / "crm.log")
    try:
        url = crm.wait_for("listens at").rsplit(" ", 1)[-1]
        world.environ |= {"SYNCD_CRM__SINK": "http", "SYNCD_CRM__URL": url}
        world.start()
        eventually(lambda: world.count_linked() == 3, "all are linked")
        world.wait_until_idle()
        world.stop()
        for crm_id in world.links():
            http("PATCH", f"{url}/_sim/customers/{crm_id}", {"title": f"Unheard of {crm_id}"})
        time.sleep(1)  # until Kafka has the events that are to be lost
        world.topics.forget_all()
        world.start()
        wanted = {f"Unheard of {crm_id}" for crm_id in world.links()}
        eventually(lambda: {c["title"] for c in world.ion.customers().values()} == wanted, "they are in ION", 60)
        world.wait_until_idle()
        assert {http("GET", f"{url}/customers/{crm_id}")["title"] for crm_id in world.links()} == wanted
    finally:
        crm.stop()


@pytest.mark.parametrize("sink", ["http", "kafka"])
def test_both_sides_meet(make_world: MakeWorld, sink: str, tmp_path: Path) -> None:
    world = make_world(dialect="live", customers=2, calls_per_minute=600)
    environ = {
        name: world.environ[name]
        for name in ("SYNCD_KAFKA__BOOTSTRAP_SERVERS", "SYNCD_KAFKA__EVENTS_TOPIC", "SYNCD_KAFKA__COMMANDS_TOPIC")
    }
    crm = Process(["sim", "crm", "--port", "0"], environ, tmp_path / "crm.log")
    try:
        url = crm.wait_for("listens at").rsplit(" ", 1)[-1]
        if sink == "http":
            world.environ |= {"SYNCD_CRM__SINK": "http", "SYNCD_CRM__URL": url}
        world.start()
        eventually(lambda: len(http("GET", f"{url}/customers")) == 2, "ION's customers in the CRM")
        crm_id = http("POST", f"{url}/_sim/customers", customer())["id"]
        ion_id = world.linked(crm_id)
        world.ion.edit(ion_id, title="Chair")
        eventually(lambda: http("GET", f"{url}/customers/{crm_id}")["title"] == "Chair", "ION's edit in the CRM")
        http("PATCH", f"{url}/_sim/customers/{crm_id}", {"phone": "+18135550100"})
        eventually(lambda: world.ion.customers()[ion_id]["phone"] == "+18135550100", "the CRM's edit in ION", 40)
        world.wait_until_idle()
        assert len(world.ion.customers()) == len(http("GET", f"{url}/customers")) == 3
        assert world.json("conflicts") == []
        eventually(lambda: world.look("status")["commands_open"] == 0, "no command waits for an answer", 20)
    finally:
        crm.stop()
