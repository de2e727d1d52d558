"""Why a customer is as it is, and a value that lost put back (S4, S16)."""

from __future__ import annotations

from typing import Any

from tests.parts.world import World, eventually
from tests.system.conftest import MakeWorld
from tests.system.test_day import asked_of_crm, edited_on_both_sides_while_down, moment


def contested_world(make_world: MakeWorld, dialect: str) -> tuple[World, str]:
    """The edit in ION has lost."""
    world, ion_id = edited_on_both_sides_while_down(make_world, dialect)
    world.start()
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "From the CRM", "the winner in ION")
    world.wait_until_idle()
    return world, ion_id


def carry_out(world: World, command: dict[str, Any]) -> None:
    """As the CRM does: it changes its customer and says what made it."""
    data = command["data"]
    event = {"type": "changed", "id": data["crm_id"], "customer": data["set"], "caused_by": command["id"]}
    world.topics.send(data["crm_id"], event)
    world.topics.flush()


def test_a_value_that_lost_is_put_back_on_both_sides_and_the_other_is_kept(
    make_world: MakeWorld, dialect: str
) -> None:
    world, ion_id = contested_world(make_world, dialect)
    done = world.syncd("undo", "C1", "company")
    assert (done.returncode, "'From ION' again as company of C1" in done.stdout) == (0, True), done
    [command] = eventually(lambda: asked_of_crm(world, company="From ION"), "the CRM is asked")
    assert command["type"] == "syncd.customer.update"
    assert command["data"]["expect"] == {"company": "From the CRM"}
    twice = world.syncd("undo", "C1", "company")
    assert (twice.returncode, "being put back already" in twice.stderr) == (1, True), twice
    carry_out(world, command)
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "From ION", "it is in ION again")
    world.wait_until_idle()
    kept, first = world.json("conflicts")
    assert (kept["rule"], kept["winner"], kept["losing"]) == ("undo", "ion", "From the CRM")
    assert (first["winner"], first["losing"]) == ("crm", "From ION")

    story = world.json("explain", "C1", "company")
    steps = [(step["what"], step["call"] and step["call"]["state"]) for step in story["story"]]
    assert ("undo-decided", "confirmed") in steps
    assert story["fields"]["company"]["crm"][0]["value"] == "From ION"
    assert story["fields"]["company"]["now"]["rule"] == "agree"

    assert world.syncd("undo", kept["id"]).returncode == 0, "an undo can be undone"
    [again] = eventually(lambda: asked_of_crm(world, company="From the CRM"), "the CRM is asked")
    carry_out(world, again)
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "From the CRM", "the first winner again")


def test_somebody_who_edits_meanwhile_is_not_overruled(make_world: MakeWorld) -> None:
    world, ion_id = contested_world(make_world, "live")
    assert world.syncd("undo", "C1", "company").returncode == 0
    eventually(lambda: asked_of_crm(world, company="From ION"), "the CRM is asked")
    world.topics.edit("C1", company="Newer still")
    world.topics.flush()
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Newer still", "the newer edit in ION")
    world.wait_until_idle()
    assert fate_of_undo(world)["state"] == "rejected"
    assert "edited meanwhile" in fate_of_undo(world)["answer"]


def test_an_edit_in_ion_meanwhile_is_not_overruled_either(make_world: MakeWorld) -> None:
    world, ion_id = contested_world(make_world, "live")
    assert world.syncd("undo", "C1", "company").returncode == 0
    eventually(lambda: asked_of_crm(world, company="From ION"), "the CRM is asked")
    world.ion.edit(ion_id, company="Newer still")
    eventually(lambda: fate_of_undo(world)["state"] == "rejected", "the undo is given up")
    assert "ION's value was edited meanwhile" in fate_of_undo(world)["answer"]
    eventually(lambda: asked_of_crm(world, company="Newer still"), "the newer edit for the CRM")


def test_a_crm_that_keeps_its_value_is_not_asked_again(make_world: MakeWorld) -> None:
    world, _ = contested_world(make_world, "live")
    assert world.syncd("undo", "C1", "company").returncode == 0
    [command] = eventually(lambda: asked_of_crm(world, company="From ION"), "the CRM is asked")
    command["data"]["set"] = {"company": "From the CRM"}
    carry_out(world, command)
    eventually(lambda: fate_of_undo(world)["state"] == "rejected", "the undo is given up")
    assert "the CRM kept company" in fate_of_undo(world)["answer"]
    assert [c["rule"] for c in world.json("conflicts")] == ["later-edit"], "nothing was displaced"


def fate_of_undo(world: World) -> dict[str, Any]:
    [undone] = [step for step in world.json("explain", "C1")["story"] if step["what"] == "undo-decided"]
    return dict(undone["call"])


def test_the_story_of_a_conflict_names_who_won_and_why_and_what_was_put_aside(make_world: MakeWorld) -> None:
    world, ion_id = contested_world(make_world, "live")
    story = world.json("explain", f"ion:{ion_id}", "company")
    assert (story["crm_id"], story["ion_id"], story["state"]) == ("C1", ion_id, "linked")
    [decided] = [step for step in story["story"] if step["put_aside"]]
    assert decided["why"]["company"]["rule"] == "later-edit"
    assert decided["why"]["company"]["winner"] == "crm"
    assert decided["why"]["company"]["crm"] > decided["why"]["company"]["ion"]
    assert decided["set"] == {"company": "From the CRM"}
    assert decided["call"]["state"] == "confirmed"
    assert decided["put_aside"][0]["losing"] == "From ION"
    journal = [entry for entry in world.ion.journal("update") if entry["customer"] == ion_id]
    assert journal[-1]["sent"]["company"] == "From the CRM", "the call that carried it"
    told = world.syncd("explain", "C1").stdout
    for words in ("later-edit", "From ION put aside", "confirmed"):
        assert words in told, told


def test_what_can_not_be_put_back_is_said(make_world: MakeWorld) -> None:
    world, _ = contested_world(make_world, "live")
    for arguments, words in (
        (("undo", "nonsense"), "there is no conflict nonsense"),
        (("undo", "C1", "phone"), "no value of C1.phone was put aside"),
        (("undo", "C1", "shoe-size"), "there is no field shoe-size"),
        (("explain", "C9"), "nothing is known of C9"),
        (("explain", "C1", "shoe-size"), "there is no field shoe-size"),
    ):
        done = world.syncd(*arguments)
        assert (done.returncode, words in done.stderr) == (1, True), done
    world.topics.edit("C1", at=moment(), company="From ION")
    world.topics.flush()
    eventually(
        lambda: world.look("customers/C1?field=company")["fields"]["company"]["crm"][0]["value"] == "From ION", "it"
    )
    done = world.syncd("undo", "C1", "company")
    assert (done.returncode, "holds that value" in done.stderr) == (1, True), done
