"""S8: candidates that a person decides on, and links made and taken apart by hand. The daemon as a process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.parts.world import World, eventually
from tests.system.conftest import MakeWorld
from tests.system.test_day import customer, linked_world
from tests.system.test_rough import by_company

BRANCH = {"street": "9 Bay Road", "suite": "", "city": "Austin", "state": "TX", "zip": "73301"}


def cases(world: World) -> dict[str, dict[str, Any]]:
    return {case["subject"]: case for case in world.json("links", "review")}


def plan(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.syncd("plan", "--json").stdout)
    return found


def doubtful_world(make_world: MakeWorld, dialect: str) -> tuple[World, str]:
    """A CRM customer, and an ION customer of the same name and domain in another town."""
    world = make_world(dialect=dialect, customers=0, calls_per_minute=600)
    ion_id = world.ion.add(**customer("Acme Ltd", email="austin@acmeltd.example", address=BRANCH))
    world.topics.edit("C1", **customer("Acme Ltd"))
    world.start(SYNCD_POLL__INTERVAL_SECONDS="2")
    eventually(lambda: "crm:C1" in cases(world), "the CRM customer in review")
    return world, ion_id


def test_a_candidate_that_is_accepted_is_linked_and_synced(make_world: MakeWorld) -> None:
    world, ion_id = doubtful_world(make_world, "live")
    [candidate] = cases(world)["crm:C1"]["candidates"]
    assert (candidate["crm_id"], candidate["ion_id"]) == ("C1", ion_id)
    assert "another place" in candidate["evidence"]
    assert candidate["fields"]["email"] == "austin@acmeltd.example"
    shown = world.syncd("links", "review").stdout
    assert "another place" in shown
    assert f"links accept C1 {ion_id}" in shown
    assert world.syncd("links", "accept", "C1", ion_id).returncode == 0
    assert world.links() == {"C1": ion_id}
    eventually(lambda: world.ion.customers()[ion_id]["email"] == "ann@acmeltd.example", "the CRM's e-mail in ION")
    assert cases(world) == {}


def test_a_candidate_that_is_rejected_is_not_suggested_again(make_world: MakeWorld) -> None:
    world, ion_id = doubtful_world(make_world, "live")
    assert world.syncd("links", "reject", "C1", ion_id).returncode == 0
    eventually(lambda: len(world.ion.customers()) == 2, "a customer of its own in ION")
    assert world.linked("C1") != ion_id
    eventually(lambda: [c for c in world.commands() if c["type"] == "syncd.customer.create"], "the other in the CRM")
    assert cases(world) == {}


def test_a_link_is_taken_apart_and_put_together_again(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    assert world.syncd("pause").returncode == 0
    assert world.syncd("links", "remove", "C1", "--yes").returncode == 0
    assert world.links() == {}
    eventually(lambda: plan(world)["total"] == 2, "a create on either side, held by the pause")
    again = world.syncd("links", "remove", "C1", "--yes")
    assert (again.returncode, "has no link" in again.stderr) == (1, True)
    assert world.syncd("links", "add", "C1", ion_id).returncode == 0
    assert world.syncd("resume").returncode == 0
    world.wait_until_idle()
    assert world.links() == {"C1": ion_id}
    assert len(world.ion.customers()) == 1
    records = dict(world.topics.read(world.topics.links))
    assert records[b"C1"]["how"] == "person"


def test_what_can_not_be_linked_is_said(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "live")
    taken = world.syncd("links", "add", "C2", ion_id)
    assert (taken.returncode, f"C1 and {ion_id} are linked already" in taken.stderr) == (1, True)
    unasked = world.syncd("links", "accept", "C8", "999")
    assert (unasked.returncode, "nobody suggested" in unasked.stderr) == (1, True)
    linked = world.syncd("links", "reject", "C1", ion_id)
    assert (linked.returncode, "links remove C1" in linked.stderr) == (1, True)


def test_links_come_from_a_file_once_they_were_looked_at(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    theirs = [world.ion.add(**customer(f"Other {number}")) for number in range(3)]
    for number in range(3):
        world.topics.edit(f"C{number}", **customer(f"Mine {number}"))
    file = tmp_path / "links.csv"
    file.write_text(
        "\n".join(
            ("crm_id,ion_id", f"C0,{theirs[0]}", f"C1,{theirs[1]}", f"C1,{theirs[2]}", f"C2,{theirs[0]}", "C2,")
        ),
        encoding="utf-8",
    )
    assert world.syncd("db", "upgrade").returncode == 0
    preview = world.syncd("links", "import", str(file), "--json")
    assert preview.returncode == 3
    said = [line["what"] for line in json.loads(preview.stdout)["lines"]]
    assert said == ["new", "new", f"C1 is linked to {theirs[1]}", f"{theirs[0]} is linked to C0", "an id is missing"]
    assert world.links() == {}
    assert world.syncd("links", "import", str(file), "--apply").returncode == 3
    assert world.links() == {"C0": theirs[0], "C1": theirs[1]}
    world.start(SYNCD_POLL__INTERVAL_SECONDS="2")
    eventually(lambda: {"Mine 0", "Mine 1"} <= set(by_company(world)), "the CRM's values in ION")
    again = json.loads(world.syncd("links", "import", str(file), "--json").stdout)
    assert [line["what"] for line in again["lines"]][:2] == ["known already"] * 2


def test_a_file_that_is_no_csv_is_said_to_be_none(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(dialect="live", customers=0)
    assert world.syncd("db", "upgrade").returncode == 0
    for content in (b"", b"a,b\n1,2\n", b"\xff\xfe\x00crm"):
        (tmp_path / "bad.csv").write_bytes(content)
        done = world.syncd("links", "import", str(tmp_path / "bad.csv"))
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert "bad.csv" in done.stderr


def note_another(world: World, **values: str) -> None:
    world.topics.send("C1", {"type": "changed", "id": "C1", "ion_id": "somebody-else", "customer": values})
    world.topics.flush()


def test_a_linked_pair_that_drifts_apart_is_asked_about(make_world: MakeWorld) -> None:
    """The CRM says of its linked customer that it belongs to another one in ION."""
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    note_another(world, title="Synced all the same")
    eventually(lambda: world.ion.customers()[ion_id]["title"] == "Synced all the same", "the edit in ION")
    case = eventually(lambda: cases(world).get("crm:C1"), "the pair in review") or {}
    assert "notes ION customer somebody-else" in case["reason"]
    assert [c["ion_id"] for c in case["candidates"]] == [ion_id]
    assert world.syncd("pause").returncode == 0
    world.topics.edit("C1", title="Synced again")
    eventually(lambda: plan(world)["total"] == 1, "the edit waits")
    assert "crm:C1" in cases(world), "and the question stays"
    assert world.syncd("links", "accept", "C1", ion_id).returncode == 0
    again = world.syncd("links", "add", "C1", ion_id)
    assert (again.returncode, "are linked already" in again.stderr) == (1, True)
    assert world.syncd("resume").returncode == 0
    eventually(lambda: world.ion.customers()[ion_id]["title"] == "Synced again", "the edit in ION")
    rescored(world)
    assert (cases(world), world.links()) == ({}, {"C1": ion_id}), "a person said so"


def rescored(world: World) -> None:
    """Start anew, and wait until all were looked at again, twice."""
    world.stop()
    world.start(SYNCD_RESCORE__INTERVAL_SECONDS="1")
    eventually(lambda: world.daemons["daemon"].said().count('"rescored"') > 1, "all were looked at again")


def test_who_was_refused_for_its_email_is_not_sent_again(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "seed")
    email = world.ion.customers()[ion_id]["email"]
    world.topics.edit("C2", **customer("Somebody Else", email=email))
    eventually(lambda: "crm:C2" in cases(world), "the other in review")
    world.wait_until_idle()
    creates = len(world.ion.journal("create"))
    rescored(world)
    assert "crm:C2" in cases(world)
    assert len(world.ion.journal("create")) == creates


def test_an_old_link_is_looked_at_again_and_taken_apart_where_a_person_says_so(make_world: MakeWorld) -> None:
    """A link that an older syncd made and this one would not."""
    world, ion_id = linked_world(make_world, "live")
    note_another(world)
    eventually(lambda: "crm:C1" in cases(world), "the pair in review")
    world.wait_until_idle()
    world.stop()
    world.sql("DELETE FROM holds")
    assert cases(world) == {}
    world.start(SYNCD_RESCORE__INTERVAL_SECONDS="1")
    eventually(lambda: "crm:C1" in cases(world), "the pair in review again")
    assert world.links() == {"C1": ion_id}, "it stands until somebody says otherwise"
    assert world.syncd("pause").returncode == 0
    assert world.syncd("links", "reject", "C1", ion_id).returncode == 0
    assert world.links() == {}
