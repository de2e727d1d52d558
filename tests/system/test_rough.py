"""The rougher days: floods, restarts, kills, lost answers, first contact. The daemon as a process."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request

import pytest

from tests.parts.kafka import Kafka
from tests.parts.world import World, eventually, http
from tests.system.conftest import MakeWorld
from tests.system.test_day import asked_of_crm, customer, edited_on_both_sides_while_down, linked_world


def hold_customers(world: World, count: int) -> list[str]:
    """Customers on both sides, alike, linked by their e-mail and company."""
    ids = []
    for number in range(count):
        values = customer(f"Company {number}")
        world.ion.add(**values)
        world.topics.send(f"C{number}", {"type": "snapshot", "id": f"C{number}", "customer": values})
        ids.append(f"C{number}")
    world.topics.flush()
    return ids


def by_company(world: World) -> dict[str, dict[str, object]]:
    return {str(row["company"]): row for row in world.ion.customers().values()}


def test_three_hundred_edits_drain_within_the_budget(make_world: MakeWorld, dialect: str) -> None:
    world = make_world(dialect=dialect, customers=0, calls_per_minute=300)
    ids = hold_customers(world, 300)
    world.start(
        SYNCD_POLL__INTERVAL_SECONDS="5", SYNCD_GUARD__MAX_PERCENT="0"
    )  # all customers edited at once, on purpose
    eventually(lambda: world.count_linked() == 300, "all are linked", 60)
    for crm_id in ids:
        world.topics.send(crm_id, {"type": "changed", "id": crm_id, "customer": {"company": f"Edited {crm_id}"}})
    world.topics.flush()
    eventually(
        lambda: sum(str(row["company"]).startswith("Edited") for row in world.ion.customers().values()) == 300,
        "all 300 edits in ION",
        200,
    )
    state = world.ion.state()
    assert state["busiest_minute"] <= 300
    assert "429" not in state["statuses"]
    assert state["operations"]["update"] == 300


def test_a_restart_loses_nothing(make_world: MakeWorld, dialect: str) -> None:
    world, ion_id = linked_world(make_world, dialect)
    assert world.stop() == 0
    world.topics.edit("C1", company="While it was down")
    world.start()
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "While it was down", "the edit in ION")
    assert len(world.links()) == 1


def test_a_stop_in_the_middle_of_a_flood_loses_nothing(make_world: MakeWorld, dialect: str) -> None:
    world = make_world(dialect=dialect, customers=0, calls_per_minute=2000)
    ids = hold_customers(world, 60)
    world.start(SYNCD_GUARD__MAX_PERCENT="0")  # a flood on purpose
    eventually(lambda: world.count_linked() == 60, "all are linked", 60)
    for round_ in range(4):
        for crm_id in ids:
            event = {"type": "changed", "id": crm_id, "customer": {"phone": f"+1813555010{round_}"}}
            world.topics.send(crm_id, event)
        world.topics.flush()
        time.sleep(0.3)
        assert world.stop() == 0
        world.start()
    eventually(
        lambda: all(row["phone"] == "+18135550103" for row in world.ion.customers().values()),
        "the last edits in ION",
        90,
    )
    assert len(world.ion.customers()) == 60


def test_kill_dash_nine_between_batches_loses_nothing_and_creates_nothing_twice(
    make_world: MakeWorld, dialect: str
) -> None:
    world = make_world(dialect=dialect, customers=0, calls_per_minute=5000)
    world.start(SYNCD_ION__TIMEOUT_SECONDS="2")
    # A kill between the token call and its answer takes the token with it: that needs a person (`test_chaos`).
    world.daemons["daemon"].wait_for("token_refreshed")
    for round_ in range(5):
        for number in range(40):
            values = customer(f"Killed {number}", phone=f"+1813555010{round_}")
            world.topics.send(f"C{number}", {"type": "changed", "id": f"C{number}", "customer": values})
        world.topics.flush()
        time.sleep(0.2 + 0.3 * round_)
        world.stop(signal.SIGKILL)
        world.start()

    def settled() -> bool:
        rows = world.ion.customers().values()
        return len(rows) >= 40 and all(row["phone"] == "+18135550104" for row in rows)

    eventually(settled, "every customer once, with its last edit", 120)
    world.wait_until_idle()
    assert len(world.ion.customers()) == 40
    assert len(world.links()) == 40
    assert world.ion.state()["busiest_minute"] <= 5000


def test_the_token_rotates_and_survives_a_restart(make_world: MakeWorld, dialect: str) -> None:
    world, ion_id = linked_world(make_world, dialect)
    assert world.ion.state()["refreshes"] == 1
    http("POST", f"{world.ion.url}/_sim/tokens/expire-access")
    world.topics.edit("C1", company="After a new token")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "After a new token", "the edit in ION")
    assert world.ion.state()["refreshes"] == 2
    world.stop()
    http("POST", f"{world.ion.url}/_sim/tokens/expire-access")
    world.start()
    world.topics.edit("C1", company="After a restart")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "After a restart", "the edit in ION", 40)
    assert world.ion.state()["refreshes"] == 3
    assert world.json("token", "status")["refused"] is None


def test_nothing_is_written_in_the_two_minutes_after_both_sides_are_equal(
    make_world: MakeWorld, sqlite_url: str
) -> None:
    """In both dialects, side by side, since most of it is waiting."""
    worlds = {
        "live": make_world(dialect="live", customers=0, calls_per_minute=600),
        "seed": make_world(database_url=sqlite_url, dialect="seed", customers=0, calls_per_minute=600),
    }
    before = {dialect: edited_on_both_sides(world) for dialect, world in worlds.items()}
    time.sleep(120)
    assert {dialect: written(world) for dialect, world in worlds.items()} == before


def written(world: World) -> tuple[int, int, int]:
    return len(world.ion.journal("update")), len(world.ion.journal("create")), len(world.commands())


def edited_on_both_sides(world: World) -> tuple[int, int, int]:
    """What was written by the time that both sides were equal."""
    world.start()
    world.topics.edit("C1", **customer())
    ion_id = world.linked("C1")
    world.topics.edit("C1", company="Acme Edited", phone="+18135550177")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Acme Edited", "the edit in ION", 40)
    world.ion.edit(ion_id, email="ion@acme.example")
    [command] = eventually(world.commands, "ION's edit asked of the CRM")
    world.topics.send(
        "C1", {"type": "changed", "id": "C1", "caused_by": command["id"], "customer": command["data"]["set"]}
    )
    world.topics.flush()
    eventually(lambda: world.look("status")["commands_open"] == 0, "the answer is taken")
    world.wait_until_idle()
    return written(world)


@pytest.mark.parametrize("fault", ["reset-after", "half-json", "timeout-after"])
def test_a_create_whose_answer_is_lost_happens_once(make_world: MakeWorld, dialect: str, fault: str) -> None:
    world = make_world(dialect=dialect, customers=3, calls_per_minute=600)
    world.start(SYNCD_ION__TIMEOUT_SECONDS="2", SYNCD_SYNC__CREATE_IN_CRM="false")
    world.ion.fault(fault, "create")
    world.topics.edit("C1", **customer())
    ion_id = world.linked("C1", 60)
    world.wait_until_idle()
    assert len(world.ion.journal("create")) == 1
    assert [i for i, row in world.ion.customers().items() if row["company"] == "Acme Ltd"] == [ion_id]


def test_a_create_that_never_arrived_is_tried_again_once_its_absence_is_proven(
    make_world: MakeWorld, dialect: str
) -> None:
    world = make_world(dialect=dialect, customers=3, calls_per_minute=600)
    world.start(SYNCD_ION__TIMEOUT_SECONDS="2")
    world.ion.fault("reset-before", "create")
    world.topics.edit("C1", **customer())
    world.linked("C1", 60)
    assert sum(row["company"] == "Acme Ltd" for row in world.ion.customers().values()) == 1


def test_nothing_is_decided_before_the_events_that_waited_are_read(
    make_world: MakeWorld, kafka: Kafka, dialect: str
) -> None:
    """Both sides were edited while nobody looked; at the start ION answers at once, and Kafka takes its time."""
    world, ion_id = edited_on_both_sides_while_down(make_world, dialect)
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        world.start(until="sweep_ended")
        time.sleep(2)
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "From the CRM", "the later edit in ION")
    world.wait_until_idle()
    assert asked_of_crm(world, company="From ION") == []


def test_first_contact_links_by_listing_alone_and_writes_only_what_differs(
    make_world: MakeWorld, dialect: str
) -> None:
    """2,000 customers on either side, 1,500 of them the same, 20 of those with another title or company."""
    world = make_world(dialect=dialect, customers=2000, calls_per_minute=600, seed=5)
    rows = sorted(world.ion.customers().items())
    fields = ("company", "email", "country", "phone", "address", "contact", "title", "language", "status")
    for number, (_, row) in enumerate(rows[:1500]):
        values = {name: row[name] for name in fields}
        if number < 20:
            values["email"] = f"other-{number}@elsewhere.example"
        world.topics.send(f"C{number}", {"type": "snapshot", "id": f"C{number}", "customer": values})
    for number in range(1500, 2000):
        values = customer(f"Only in the CRM {number}")
        world.topics.send(f"C{number}", {"type": "snapshot", "id": f"C{number}", "customer": values})
    world.topics.flush()
    world.start(
        SYNCD_SYNC__CREATE_IN_ION="false", SYNCD_SYNC__CREATE_IN_CRM="false", SYNCD_POLL__INTERVAL_SECONDS="5"
    )
    eventually(lambda: world.count_linked() >= 1500, "the links", 240)
    world.wait_until_idle(120)
    state = world.ion.state()
    assert world.json("status")["links"] == {"linked": 1500}
    assert state["operations"].get("update", 0) == 20, "only what differs is written"
    assert set(state["operations"]) <= {"token", "list", "get", "update"}
    assert state["operations"].get("get", 0) <= 20
    assert world.commands() == []
    assert world.json("status")["holds"]["review"] == 1000


def test_probes_and_metrics_answer(make_world: MakeWorld) -> None:
    world, _ = linked_world(make_world, "live")
    assert http("GET", f"{world.address}/livez") == {"alive": True}
    eventually(lambda: _ready(world), "ready")
    page = world.metrics()
    assert page.endswith("# EOF\n")
    for name in ("syncd_ion_calls_total", "syncd_sync_lag_seconds_bucket", 'syncd_links{state="linked"} 1.0'):
        assert name in page
    assert "Acme" not in page


def test_it_is_ready_while_the_first_listing_still_goes_on(make_world: MakeWorld) -> None:
    """A long one takes hours within the budget."""
    world = make_world(customers=40, max_page_size=10, calls_per_minute=3)
    world.start(SYNCD_ION__PAGE_SIZE="10")
    eventually(lambda: _ready(world), "ready", 20)
    assert world.json("status")["complete_sweep_age_seconds"] is None
    assert world.ion.state()["operations"]["list"] < 4


def _ready(world: World) -> bool:
    try:
        return bool(http("GET", f"{world.address}/readyz")["ready"])
    except urllib.error.HTTPError as refused:
        return not json.loads(refused.read())["problems"]
