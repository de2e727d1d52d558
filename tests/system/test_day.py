"""The day's work: edits, conflicts and creates crossing both ways, on real Kafka and PostgreSQL.

The daemon runs as a process; the ION is simulated, in each dialect; the CRM is the test.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.parts.world import World, eventually
from tests.system.conftest import MakeWorld

ADDRESS = {"street": "1 Main Street", "suite": "", "city": "Tampa", "state": "FL", "zip": "33602"}


def customer(name: str = "Acme Ltd", **more: Any) -> dict[str, Any]:
    return {
        "company": name,
        "email": f"ann@{name.lower().replace(' ', '')}.example",
        "country": "US",
        "phone": "+18135550142",
        "address": ADDRESS,
        "contact": "Ann Archer",
        "title": "CEO",
        "language": "EN",
        "status": "active",
        **more,
    }


def moment(seconds: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def linked_world(make_world: MakeWorld, dialect: str, **options: Any) -> tuple[World, str]:
    """A world with one customer, created through the CRM and linked."""
    world = make_world(dialect=dialect, customers=0, calls_per_minute=600, **options)
    world.start()
    world.topics.edit("C1", **customer())
    return world, world.linked("C1")


def edited_on_both_sides_while_down(make_world: MakeWorld, dialect: str) -> tuple[World, str]:
    """C1's company was edited on both sides, in the CRM last, and no daemon saw it."""
    world, ion_id = linked_world(make_world, dialect)
    world.wait_until_idle()
    world.stop()
    time.sleep(1.1)  # ION dates by the second: an edit in that of our own write can't be told from it
    world.ion.edit(ion_id, company="From ION")
    time.sleep(3)
    world.topics.edit("C1", at=moment(), company="From the CRM")
    return world, ion_id


def asked_of_crm(world: World, **wanted: Any) -> list[dict[str, Any]]:
    return [c for c in world.commands() if all(c["data"]["set"].get(name) == value for name, value in wanted.items())]


def test_edits_arrive_on_the_other_side(make_world: MakeWorld, dialect: str) -> None:
    world, ion_id = linked_world(make_world, dialect)
    world.topics.edit("C1", company="Acme Holding")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Acme Holding", "the CRM's edit in ION")
    world.ion.edit(ion_id, email="new@acme.example")
    [command] = eventually(lambda: asked_of_crm(world, email="new@acme.example"), "ION's edit asked of the CRM")
    assert command["type"] == "syncd.customer.update"
    assert command["data"]["crm_id"] == "C1"
    assert command["data"]["expect"] == {"email": "ann@acmeltd.example"}


def test_edits_of_different_fields_on_both_sides_merge(make_world: MakeWorld, dialect: str) -> None:
    world, ion_id = linked_world(make_world, dialect)
    world.ion.edit(ion_id, email="ion@acme.example")
    world.topics.edit("C1", company="Acme from the CRM")
    eventually(lambda: asked_of_crm(world, email="ion@acme.example"), "ION's field in the CRM")
    held = eventually(
        lambda: (c := world.ion.customers()[ion_id])["company"] == "Acme from the CRM" and c, "the CRM's field in ION"
    )
    assert held["email"] == "ion@acme.example"
    assert world.json("conflicts") == []


@pytest.mark.parametrize(
    ("dialect", "winner", "rule"),
    [
        pytest.param("live", "crm", "later-edit", id="live: the CRM's edit is later"),
        pytest.param("live", "ion", "later-edit", id="live: ION's edit is later"),
        pytest.param("seed", "crm", "tie", id="seed: nobody can know, and the policy says the CRM"),
    ],
)
def test_of_two_edits_of_one_field_one_wins_and_the_loser_is_kept(
    make_world: MakeWorld, dialect: str, winner: str, rule: str
) -> None:
    """Both are made while the daemon is down, three seconds apart."""
    world, ion_id = linked_world(make_world, dialect)
    world.wait_until_idle()
    world.stop()
    edits = [
        lambda: world.topics.edit("C1", at=moment(), company="From the CRM"),
        lambda: world.ion.edit(ion_id, company="From ION"),
    ]
    for edit in edits if winner == "ion" else reversed(edits):
        time.sleep(3)
        edit()
    world.start()
    [conflict] = eventually(lambda: world.look("conflicts"), "the conflict is listed")
    kept, lost = ("From the CRM", "From ION") if winner == "crm" else ("From ION", "From the CRM")
    assert (conflict["winner"], conflict["winning"], conflict["losing"]) == (winner, kept, lost)
    assert conflict["rule"] == rule
    assert conflict["crm_stamp"]
    assert conflict["ion_stamp"]
    if winner == "crm":
        eventually(lambda: world.ion.customers()[ion_id]["company"] == kept, "the winner in ION")
    else:
        eventually(lambda: asked_of_crm(world, company=kept), "the winner in the CRM")


def test_an_ion_edit_after_the_crms_wins_by_readings_alone(make_world: MakeWorld) -> None:
    """The seed dialect has no modification time: an edit lies between two readings, all of them later."""
    world, ion_id = linked_world(make_world, "seed")
    world.wait_until_idle()
    world.ion.fault("status", "update", count=50, code=503)  # the CRM's edit waits on its way to ION
    world.topics.edit("C1", at=moment(), company="From the CRM")
    time.sleep(5)
    world.ion.edit(ion_id, company="From ION")
    eventually(lambda: asked_of_crm(world, company="From ION"), "the later edit in the CRM")
    [conflict] = world.json("conflicts")
    assert (conflict["winner"], conflict["losing"], conflict["rule"]) == ("ion", "From the CRM", "later-edit")


def test_fifty_quick_edits_cost_at_most_two_writes(make_world: MakeWorld, dialect: str) -> None:
    world, ion_id = linked_world(make_world, dialect)
    world.wait_until_idle()
    time.sleep(11)  # past the distance kept between two writes to one customer
    before = len(world.ion.journal("update"))
    for number in range(50):
        world.topics.edit("C1", company=f"Acme {number}")
        time.sleep(0.05)
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Acme 49", "the last edit in ION")
    world.wait_until_idle()
    assert len(world.ion.journal("update")) - before <= 2


def test_a_customer_new_in_ion_appears_in_the_crm_once(make_world: MakeWorld, dialect: str) -> None:
    world = make_world(dialect=dialect, customers=0, calls_per_minute=600)
    world.start()
    ion_id = world.ion.add(**customer("Brand New"))
    [command] = eventually(world.commands, "the create is asked of the CRM")
    assert command["type"] == "syncd.customer.create"
    assert command["data"]["ion_id"] == ion_id
    event = {"type": "changed", "id": "C7", "caused_by": command["id"], "customer": command["data"]["set"]}
    world.topics.send("C7", event)
    world.topics.flush()
    assert world.linked("C7") == ion_id
    world.wait_until_idle()
    assert len(world.commands()) == 1
    assert world.ion.journal("create") == []


def test_phone_and_address_are_written_once_and_never_flap(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "seed")
    assert world.ion.customers()[ion_id]["phone"] == "+18135550142"
    moved = {**ADDRESS, "street": "2 Side Street"}
    world.topics.edit("C1", phone="+18135550199", address=moved)
    eventually(lambda: world.ion.customers()[ion_id]["phone"] == "+18135550199", "the phone in ION", 40)
    assert world.ion.customers()[ion_id]["address"] == moved
    writes = len(world.ion.journal("update"))
    sweeps = len(world.ion.journal("list"))
    eventually(lambda: len(world.ion.journal("list")) >= sweeps + 5, "five more sweeps")
    assert len(world.ion.journal("update")) == writes


def test_another_field_keeps_what_ion_never_shows(make_world: MakeWorld) -> None:
    """A PUT replaces the whole record: what the seed dialect hides has to go along."""
    world, ion_id = linked_world(make_world, "seed")
    world.topics.edit("C1", company="Acme Moved")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Acme Moved", "the edit in ION", 40)
    held = world.ion.customers()[ion_id]
    assert held["phone"] == "+18135550142"
    assert held["address"] == ADDRESS


def test_fields_that_syncd_does_not_know_survive_a_write(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    ion_id = world.ion.add(**customer(), extra={"customerDomain": "acme.example"})
    world.start()
    world.topics.edit("C1", **customer())
    assert world.linked("C1") == ion_id
    world.topics.edit("C1", title="CTO")
    eventually(lambda: world.ion.customers()[ion_id]["title"] == "CTO", "the edit in ION")
    assert world.ion.customers()[ion_id]["extra"] == {"customerDomain": "acme.example"}


def test_ions_own_spelling_is_one_write_not_a_loop(make_world: MakeWorld, dialect: str) -> None:
    world, ion_id = linked_world(make_world, dialect)
    world.wait_until_idle()
    world.ion.fault("respell", "update")
    world.topics.edit("C1", company="Acme Shout")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "ACME SHOUT", "the respelt value", 40)
    sweeps, writes = len(world.ion.journal("list")), len(world.ion.journal("update"))
    eventually(lambda: len(world.ion.journal("list")) >= sweeps + 4, "more sweeps")
    assert len(world.ion.journal("update")) == writes
    assert asked_of_crm(world, company="ACME SHOUT") == []


def test_links_are_told_to_their_topic(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    key, record = eventually(lambda: world.topics.read(world.topics.links), "the link record")[-1]
    assert key == b"C1"
    assert (record["crm_id"], record["ion_id"], record["state"], record["how"]) == (
        "C1",
        ion_id,
        "linked",
        "created-in-ion",
    )
    assert set(record["agreed"]) >= {"company", "email", "phone"}
    assert "Acme" not in str(record)


def test_a_customer_that_lacks_what_ion_requires_waits_and_goes_when_it_comes(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start()
    world.topics.edit("C1", company="Acme Ltd", email="a@acme.example", country="US")
    shown = eventually(
        lambda: (
            (found := world.syncd("links", "show", "C1")).returncode == 0
            and "incomplete" in found.stdout
            and found.stdout
        ),
        "it is shown as incomplete",
    )
    assert all(name in shown for name in ("address", "contact", "language"))
    assert world.ion.journal("create") == []
    world.topics.edit("C1", address=ADDRESS, contact="Ann Archer", language="EN")
    world.linked("C1")


def test_of_a_crm_that_writes_in_transactions_only_what_was_committed_counts(make_world: MakeWorld) -> None:
    """Each transaction ends with a marker, which is no event: nobody may wait for it (S7)."""
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    for name, is_committed in (("Never Ltd", False), ("Acme Ltd", True)):
        event = {"type": "changed", "id": "C1", "customer": customer(name)}
        world.topics.send_in_transaction("C1", event, is_committed=is_committed)
    world.start()
    ion_id = world.linked("C1")
    assert world.ion.customers()[ion_id]["company"] == "Acme Ltd"
    assert len(world.ion.journal("create")) == 1
    lag = f'syncd_kafka_lag_records{{partition="%s",topic="{world.topics.events}"}} 0.0'
    assert all(lag % number in world.metrics() for number in range(3))
