"""Events of the past taken in again, and proof that both sides are equal."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from tests.parts.world import SYNCD, Process, World, eventually
from tests.system.conftest import MakeWorld
from tests.system.test_day import customer, linked_world, moment
from tests.system.test_guard import writes

MANY = int(os.environ.get("SYNCD_REPLAYED", "4000"))
"""Events on the topic."""


def synced_world(make_world: MakeWorld, events: int) -> World:
    """Forty linked customers, who were edited until the topic holds so many events."""
    world = make_world(dialect="live", customers=0, calls_per_minute=6_000)
    world.start(SYNCD_GUARD__MAX_UPDATES="0", SYNCD_GUARD__MAX_PERCENT="0")
    for number in range(40):
        world.topics.send(
            f"C{number}", {"type": "changed", "id": f"C{number}", "customer": customer(f"Old {number}")}
        )
    world.topics.flush()
    eventually(lambda: world.count_linked() == 40, "all are linked", 90)
    for number in range(events - 40):
        who = f"C{number % 40}"
        world.topics.send(who, {"type": "changed", "id": who, "time": moment(), "customer": {"title": f"T{number}"}})
    world.topics.flush()
    last = {f"T{number}" for number in range(events - 80, events - 40)}
    eventually(lambda: {c["title"] for c in world.ion.customers().values()} == last, "the last edits are in ION", 120)
    world.wait_until_idle()
    return world


def test_a_whole_topic_replayed_over_equal_sides_writes_nothing(make_world: MakeWorld) -> None:
    world = synced_world(make_world, MANY)
    before = (writes(world), len(world.commands()))
    rehearsed = world.json("replay", "--dry-run")
    assert (rehearsed["events"], rehearsed["told_anew"], rehearsed["writes"]) == (MANY, 0, [])
    replayed = world.json("replay")
    assert replayed == {"events": MANY, "changed": 0, "unusable": 0, "told": []}
    world.topics.edit("C1", title="Beside it")
    eventually(lambda: "Beside it" in {c["title"] for c in world.ion.customers().values()}, "live traffic flows on")
    world.wait_until_idle()
    assert (writes(world), len(world.commands())) == (before[0] + 1, before[1])
    proven = world.json("verify")
    assert (proven["customers"], proven["equal"], proven["differences"]) == (40, 40, [])


def test_a_replay_that_was_killed_goes_on_where_it_was(make_world: MakeWorld, tmp_path: Path) -> None:
    world = synced_world(make_world, 400)
    world.stop()
    slow = tmp_path / "slow.jsonl"
    told = {"type": "changed", "id": "C1", "time": "2020-01-01T00:00:00Z", "customer": {"title": "Long ago"}}
    slow.write_text(f"{json.dumps(told)}\n" * 60_000)
    replay = Process(["replay", "--file", str(slow)], world.environ, tmp_path / "replay.log", (SYNCD,))
    eventually(lambda: world.sql("SELECT 1 FROM notes WHERE name = 'replay'"), "some of it is taken in")
    replay.stop(signal.SIGKILL)
    done = world.syncd("replay", "--file", str(slow), "--json")
    assert done.returncode == 0, done
    left = int(done.stderr.split("broken off: ")[1].split()[0])
    assert 0 < left < 60_000
    assert json.loads(done.stdout)["events"] == left
    assert "broken off" not in world.syncd("replay", "--file", str(slow)).stderr, "the next one begins anew"


def test_what_a_replay_would_change_is_told_before_and_done_after(make_world: MakeWorld, tmp_path: Path) -> None:
    """Events that the CRM sent elsewhere while syncd was away, kept in a file."""
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    missed = tmp_path / "missed.jsonl"
    lines = [
        {"type": "changed", "id": "C1", "time": moment(), "customer": {"title": "Missed"}},
        {"type": "changed", "id": "C1", "customer": {"title": "No time"}},
        {"topic": "crm.customers", "partition": 0, "offset": 9, "ts": int(time.time() * 1000), "key": "C2",
         "payload": json.dumps({"type": "changed", "id": "C2", "customer": {"company": "Only here"}})},
    ]  # fmt: skip
    missed.write_text("\n".join([*map(json.dumps, lines), "rubbish", ""]))
    told = world.json("replay", "--file", str(missed), "--dry-run")
    assert (told["told_anew"], told["unlinked"]) == (2, 1)
    [write] = told["writes"]
    assert (write["crm_id"], write["field"], write["to"], write["set"]) == ("C1", "title", "ion", "Missed")
    assert world.ion.customers()[ion_id]["title"] == "CEO", "a dry run writes nothing"
    done = world.syncd("replay", "--file", str(missed), "--customer", "C1")
    assert done.returncode == 0, done
    eventually(lambda: world.ion.customers()[ion_id]["title"] == "Missed", "it goes its usual way")
    done = world.syncd("replay", "--file", str(missed))
    assert done.returncode == 1
    for place in ("missed.jsonl line 2 can't be used (no-time)", "missed.jsonl line 4 can't be used (undecodable)"):
        assert place in done.stdout, done.stdout
    assert eventually(lambda: world.syncd("explain", "C2").returncode == 0, "the record of the file is known")


def test_a_replay_chooses_by_offset_time_and_customer(make_world: MakeWorld) -> None:
    world = synced_world(make_world, 120)
    for number in range(3):
        found = world.json("replay", "--from", f"{number}:0", "--to", f"{number}:2")
        assert found["events"] == 2
    assert world.json("replay", "--customer", "C7")["events"] == 3
    assert world.json("replay", "--since", "2100-01-01T00:00:00Z")["events"] == 0
    assert world.json("replay", "--until", "2020-01-01T00:00:00Z")["events"] == 0
    assert world.json("replay", "--since", "2020-01-01T00:00:00Z")["events"] == 120
    for wrong, sentence in (
        (("--from", "9:0"), "has no partition 9"),
        (("--from", "zero"), "is no place in a topic"),
        (("--since", "yesterday"), "is no time"),
        (("--file", __file__, "--since", "2020-01-01T00:00:00Z"), "leave them out with --file"),
    ):
        done = world.syncd("replay", *wrong)
        assert (done.returncode, sentence in done.stderr) == (1, True), done


def test_verify_finds_what_the_merge_does_not_see(make_world: MakeWorld) -> None:
    """A record that says what nobody said: the events and ION tell otherwise."""
    world = synced_world(make_world, 80)
    world.stop()
    assert world.syncd("verify").returncode == 0

    world.sql(
        "UPDATE records SET registers = replace(registers, 'Old 7', 'Spoilt')"
        " WHERE side = 'crm' AND customer_id = 'C7'"
    )
    done = world.syncd("verify", "--stored")
    assert done.returncode == 4, done
    assert "Spoilt" in done.stdout
    assert world.syncd("verify").returncode == 0, "the events say otherwise than the spoilt record"
    world.syncd("verify", "--stored")
    status = world.json("status")
    assert status["divergent"] == 1
    assert status["oldest_unverified_seconds"] > 0
    told = world.syncd("status").stdout
    assert "1 customers differ" in told


def test_the_background_verifier_tells_the_metrics(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=3, calls_per_minute=600)
    world.start(SYNCD_VERIFY__INTERVAL_SECONDS="2")
    from tests.system.test_guard import metric

    eventually(lambda: metric(world, "syncd_divergent_customers") == 0, "who differs is told")
    assert metric(world, "syncd_oldest_unverified_seconds") >= 0
    assert [call for call in world.ion.journal("list") if call], "by listings of its own"
