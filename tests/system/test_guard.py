"""S6, S9, S10, S14: what is held, what stands still, what is set aside, and how a person lets it go."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.parts.world import World, eventually
from tests.system.conftest import MakeWorld
from tests.system.test_day import customer, linked_world, moment
from tests.system.test_rough import by_company, hold_customers

COUNT = 500


def metric(world: World, name: str) -> float:
    """The value of one line of the metrics page; 0 where there is none."""
    lines = world.metrics().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


def linked_crowd(make_world: MakeWorld, dialect: str, count: int, **changes: str) -> World:
    world = make_world(dialect=dialect, customers=0, calls_per_minute=3_000)
    hold_customers(world, count)
    world.start(**{"SYNCD_POLL__INTERVAL_SECONDS": "2", **changes})
    eventually(lambda: world.count_linked() == count, "all are linked", 90)
    world.wait_until_idle()
    return world


def writes(world: World) -> int:
    operations = world.ion.state()["operations"]
    return int(operations.get("update", 0)) + int(operations.get("create", 0))


def held_plan(world: World, total: int | None = None) -> dict[str, Any]:
    """The plan once it is held and stays the same, and has so many changes."""
    last: dict[str, Any] = {}

    def settled() -> bool:
        nonlocal last
        before, last = last, world.look("plan?limit=10000")
        time.sleep(0.3)
        return last["held"] and total in (None, last["total"]) and last == before

    try:
        eventually(settled, "a held plan", 60)
    except AssertionError as error:
        told = {name: value for name, value in last.items() if name != "changes"}
        raise AssertionError(f"{error}; the plan at the end: {told}; writes in ION: {writes(world)}") from None
    return last


def test_five_hundred_wrong_edits_are_held_before_the_first_call(make_world: MakeWorld, dialect: str) -> None:
    world = linked_crowd(make_world, dialect, COUNT, SYNCD_POLL__INTERVAL_SECONDS="10")
    before = writes(world)
    with world.standing_still():  # who comes first would be a lone edit, for as long as the others are on their way
        for number in range(COUNT):
            event = {"type": "changed", "id": f"C{number}", "customer": {"company": f"Oops {number}"}}
            world.topics.send(f"C{number}", event)
        world.topics.flush()
    plan = held_plan(world, COUNT)
    assert plan["reason"] == f"{COUNT} updates in an hour, and the limit is {COUNT * 30 // 100}", "it is judged whole"
    assert world.syncd("plan").returncode == 3, "something waits for a person"
    assert plan["counts"] == {"creates": 0, "updates": COUNT, "cleared_fields": 0, "link_changes": 0}
    assert {c["set"]["company"] for c in plan["changes"]} == {f"Oops {number}" for number in range(COUNT)}  # type: ignore[attr-defined]
    assert writes(world) == before, "not one call was made"
    assert metric(world, "syncd_held_changes") == COUNT
    assert metric(world, 'syncd_guard_closed{why="held"}') == 1
    refused = world.syncd("approve", "0123456789abcdef")
    assert refused.returncode == 1
    assert "another one by now" in refused.stderr
    world.topics.edit("C0", company="Right again")  # the plan is another one now: the old digest lets nothing go
    eventually(lambda: held_plan(world)["digest"] != plan["digest"], "another digest")
    assert world.syncd("approve", str(plan["digest"])).returncode == 1
    assert writes(world) == before
    fresh = held_plan(world)
    assert world.syncd("approve", str(fresh["digest"])).returncode == 0
    wanted = {f"Oops {number}" for number in range(1, COUNT)} | {"Right again"}
    eventually(lambda: wanted <= set(by_company(world)), "exactly these arrive", 120)
    assert writes(world) - before == COUNT
    world.topics.edit("C1", company="After")
    eventually(lambda: "After" in by_company(world), "a lone edit flows on afterwards")


def test_what_was_held_may_come_to_nothing_and_the_guard_opens_again(make_world: MakeWorld) -> None:
    world = linked_crowd(make_world, "live", 60)
    before = writes(world)
    for value in ("Oops", "Company"):
        for number in range(60):
            event = {"type": "changed", "id": f"C{number}", "customer": {"company": f"{value} {number}"}}
            world.topics.send(f"C{number}", event)
        world.topics.flush()
        if value == "Oops":
            held_plan(world)
    eventually(lambda: world.look("status")["held_reason"] == "", "the guard is open")
    assert writes(world) == before
    world.topics.edit("C1", company="After")
    eventually(lambda: "After" in by_company(world), "a lone edit flows on")


def test_a_burst_of_edits_in_ion_is_held_before_the_first_command(make_world: MakeWorld) -> None:
    world = linked_crowd(make_world, "live", 60)
    with world.standing_still():  # a listing must not find a part of them, which would be few enough to go
        for number, ion_id in enumerate(world.ion.customers()):
            world.ion.edit(ion_id, company=f"Oops {number}")
    plan = held_plan(world, 60)
    assert world.commands() == []
    assert world.syncd("approve", str(plan["digest"])).returncode == 0
    eventually(lambda: len(world.commands()) == 60, "the commands")


def test_cleared_fields_have_a_limit_of_their_own(make_world: MakeWorld) -> None:
    world = linked_crowd(make_world, "live", 30, SYNCD_GUARD__MAX_CLEARED_FIELDS="5")
    for number in range(30):
        world.topics.send(f"C{number}", {"type": "changed", "id": f"C{number}", "customer": {"title": None}})
    world.topics.flush()
    assert "cleared fields" in str(held_plan(world)["reason"])


def test_a_changed_mapping_holds_until_its_plan_is_approved(make_world: MakeWorld, tmp_path: Path) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    world.stop()
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("fields:\n  title:\n    direction: ion-to-crm\n")
    world.start(SYNCD_MAPPING_FILE=str(mapping))
    plan = held_plan(world)
    assert "mapping" in str(plan["reason"])
    before = writes(world)
    world.topics.edit("C1", company="Waits for the mapping")
    eventually(lambda: held_plan(world)["total"] == 1, "the edit in the plan")
    assert writes(world) == before
    world.stop()
    world.start()
    assert "mapping" in str(held_plan(world)["reason"]), "a restart is no approval"
    assert world.syncd("approve", str(held_plan(world)["digest"])).returncode == 0
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Waits for the mapping", "the edit")
    world.stop()
    world.start()
    world.topics.edit("C1", company="Flows")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Flows", "approved once and for all")


def test_a_pause_stops_writes_and_not_reading(make_world: MakeWorld, dialect: str) -> None:
    world, ion_id = linked_world(make_world, dialect)
    world.wait_until_idle()
    assert world.syncd("pause").returncode == 0
    before = writes(world)
    world.topics.edit("C1", company="While paused")
    eventually(lambda: world.look("plan")["total"] == 1, "it waits")
    sweeps = len(world.ion.journal("list"))
    eventually(lambda: len(world.ion.journal("list")) > sweeps + 2, "sweeps go on")
    assert writes(world) == before
    world.stop()
    world.start()
    time.sleep(2)
    assert writes(world) == before, "it lasts over a restart"
    assert world.json("status")["is_paused"]
    assert world.syncd("resume").returncode == 0
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "While paused", "the edit")


def test_a_customer_gone_from_ion_is_noticed_and_nothing_is_deleted(make_world: MakeWorld, dialect: str) -> None:
    world, ion_id = linked_world(make_world, dialect)
    for number in range(12):
        world.ion.add(**customer(f"Bystander {number}"))
    eventually(lambda: len(world.commands()) == 12, "the bystanders are told of")
    world.wait_until_idle()
    gone = world.ion.customers()[ion_id]
    world.ion.remove(ion_id)
    eventually(lambda: world.look("links?state=missing-in-ion"), "the link's state", 60)
    [notice] = [c for c in world.commands() if c["type"] == "syncd.customer.notice"]
    assert notice["data"]["crm_id"] == "C1"
    before = len(world.commands()), writes(world)
    world.topics.edit("C1", company="Edited while gone")
    eventually(lambda: any("gone from ION" in str(hold) for hold in holds(world)), "the edit is seen to be kept")
    assert (len(world.commands()), writes(world)) == before
    back = world.ion.add(**{name: gone[name] for name in customer()})
    assert back != ion_id, "the simulator gives a new id"


def holds(world: World) -> list[dict[str, object]]:
    found = world.json("quarantine", "list", "--all")
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("fault", ["lists-half", "lists-nobody"])
def test_a_listing_that_lost_customers_changes_nothing_and_is_counted(
    make_world: MakeWorld, dialect: str, fault: str
) -> None:
    world = linked_crowd(make_world, dialect, 40)
    before, commands = writes(world), len(world.commands())
    world.ion.fault(fault, "list", count=12)
    shrunk = 'syncd_sweeps_total{outcome="shrunk"}'
    eventually(lambda: metric(world, shrunk) >= 3, "the alert metric", 60)
    wait_for_sweeps(world, 8)
    assert world.json("status")["links"] == {"linked": 40}
    assert (writes(world), len(world.commands())) == (before, commands)
    world.ion.heal()
    world.topics.edit("C1", company="After")
    eventually(lambda: "After" in by_company(world), "and everything flows on", 60)
    assert len(world.ion.customers()) == 40


def wait_for_sweeps(world: World, count: int) -> None:
    seen = len(world.ion.journal("list"))
    eventually(lambda: len(world.ion.journal("list")) >= seen + count, "more sweeps", 60)


def test_a_field_that_keeps_being_changed_is_frozen_and_the_rest_flows_on(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    for number in range(6):  # somebody's script answers each of our commands with another value
        world.ion.edit(ion_id, title=f"Round {number}")
        command = eventually(
            lambda number=number: (
                next(  # type: ignore[misc]
                    (c for c in world.commands() if c["data"]["set"].get("title") == f"Round {number}"), None
                )
                or any(hold["kind"] == "frozen" for hold in holds(world))
            ),
            "a command, or the freeze",
        )
        if command is True:
            break
        world.topics.send(
            "C1",
            {
                "type": "changed",
                "id": "C1",
                "time": moment(),
                "caused_by": command["id"],
                "customer": command["data"]["set"],
            },
        )
        world.topics.flush()
    eventually(
        lambda: [h for h in holds(world) if h["kind"] == "frozen" and h["fields"] == ["title"]], "it is frozen"
    )
    sent = len(world.commands())
    world.topics.edit("C1", company="The rest")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "The rest", "other fields flow on", 60)
    assert len(world.commands()) == sent
    story = world.json("quarantine", "show", "C1")
    assert {seen["side"] for seen in story["seen"] if seen["field"] == "title"} == {"crm", "ion"}
    assert world.syncd("quarantine", "release", "C1").returncode == 0
    eventually(lambda: len(world.commands()) > sent, "released, it is asked for")
    assert holds(world) == []


def test_a_refused_customer_is_tried_again_when_a_person_releases_it(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    world.ion.fault("status", "update", code=400)
    world.topics.edit("C1", title="Refused once")
    eventually(lambda: [h for h in holds(world) if h["kind"] == "quarantine"], "it is set aside")
    assert world.syncd("quarantine", "release", "C1").returncode == 0
    eventually(lambda: world.ion.customers()[ion_id]["title"] == "Refused once", "it is tried again", 60)
    refused = world.syncd("quarantine", "release", "C1")
    assert (refused.returncode, "is not set aside" in refused.stderr) == (1, True)


def test_an_event_set_aside_is_driven_again_once_it_can_be_used(make_world: MakeWorld, tmp_path: Path) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.topics.send("C1", {"type": "changed", "id": "C1", "customer": {"title": {"text": "Chief"}}})
    world.topics.send("C1", {"type": "changed", "id": "C2", "customer": {}})
    world.topics.flush()
    letters = eventually(lambda: (found := world.look("dead-letters")) and len(found) == 2 and found, "both")
    ids = {letter["reason"]: str(letter["id"]) for letter in letters}
    still = world.syncd("dead-letters", "redrive", "--all")
    assert (still.returncode, "0 of 2" in still.stdout) == (1, True)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("fields:\n  title:\n    crm: title.text\n")
    world.environ["SYNCD_MAPPING_FILE"] = str(mapping)
    told = world.syncd("dead-letters", "redrive", "--all", "--json")
    assert told.returncode == 1
    assert len(json.loads(told.stdout)["redriven"]) == 1  # type: ignore[arg-type]
    assert len(world.json("dead-letters", "list")) == 1
    assert len(ids) == 2
    eventually(lambda: world.ion.customers()[ion_id]["title"] == "Chief", "the event's effect")


def test_while_ion_is_away_it_is_probed_and_nobody_is_set_aside(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    world.ion.fault("status", code=503, count=1_000)
    before = len(world.ion.journal())
    for number in range(10):
        world.topics.edit("C1", company=f"Try {number}")
    time.sleep(10)
    assert len(world.ion.journal()) - before <= 12, "probes, not a storm"
    assert holds(world) == []
    world.ion.heal()
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Try 9", "it goes on by itself", 90)
