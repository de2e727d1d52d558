"""Bad input at the running daemon: one clear sentence each, and nothing lost."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.parts.world import Process, World, eventually, http
from tests.system.conftest import MakeWorld
from tests.system.test_day import customer, linked_world


def test_a_topic_full_of_garbage_holds_up_nobody(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    garbage = [
        b"\xff\xfe\x00",
        b"{",
        b"[]",
        b"",
        json.dumps({"type": "changed", "id": "other", "customer": {}}).encode(),
        json.dumps({"type": "changed", "id": "C1", "time": "2999-01-01T00:00:00Z", "customer": {}}).encode(),
        json.dumps({"type": "changed", "id": "C1", "customer": {"company": "x" * 5000}}).encode(),
        json.dumps({"type": "changed", "id": "C1", "customer": {"company": {"a": 1}}}).encode(),
    ]
    for bad in garbage:
        for key in ("C1", "C2"):
            world.topics.send(key, bad)
    world.topics.edit("C1", **customer())
    world.start()
    world.linked("C1")
    letters = eventually(lambda: (found := world.look("dead-letters")) and len(found) >= 16 and found, "16 letters")
    reasons = {letter["reason"] for letter in letters}
    assert reasons == {"undecodable", "wrong-type", "key-mismatch", "far-future", "over-long"}
    told = world.topics.read(world.topics.dead_letters)
    eventually(lambda: len(world.topics.read(world.topics.dead_letters)) == 16, "all 16 on their topic")
    assert all({"reason", "topic", "partition", "offset"} <= set(letter) for _, letter in told)
    shown = world.syncd("dead-letters", "show", str(letters[0]["id"]))
    assert letters[0]["detail"] in shown.stdout
    assert world.syncd("dead-letters", "show", "9999").returncode == 1


def test_a_customer_that_ion_refuses_is_set_aside_and_tried_when_it_changes(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.ion.add(**customer("Somebody Else", email="taken@x.example", country="DE"))
    world.start(SYNCD_SYNC__CREATE_IN_CRM="false")
    world.topics.edit("C1", **customer("Taken Ltd", email="taken@x.example"))
    world.topics.edit("C2", **customer("Odd Ltd", language="12"))
    world.topics.edit("C3", **customer("Fine Ltd"))
    world.linked("C3")
    shown = eventually(lambda: (s := _waits(world, "C2")) and s, "C2 is set aside")
    assert "quarantine" in shown
    assert "language" in shown
    assert "review" in eventually(lambda: _waits(world, "C1"), "C1 waits in review")
    time.sleep(2)
    assert len([c for c in world.ion.journal("create") if c["status"] == 412]) == 1, "refused once, not asked again"
    world.topics.edit("C2", language="EN")
    world.linked("C2")


def _waits(world: World, crm_id: str) -> str:
    found = world.syncd("links", "show", crm_id, "--json")
    holds = json.loads(found.stdout)["waits_for"] if found.returncode == 0 else []
    return "; ".join(f"{hold['kind']}: {hold['reason']} {hold['fields']}" for hold in holds)


@pytest.mark.parametrize("fault", ["html", "half-json", "page-twice", "page-missing", "unauthorised", "status"])
def test_a_broken_sweep_changes_nothing_and_the_next_one_goes_on(
    make_world: MakeWorld, dialect: str, fault: str
) -> None:
    world = make_world(dialect=dialect, customers=30, calls_per_minute=2000)
    world.start(SYNCD_ION__PAGE_SIZE="10", SYNCD_SYNC__CREATE_IN_CRM="false")
    eventually(lambda: world.look("status")["last_sweep"], "a sweep")
    before = len(world.ion.journal("list"))
    world.ion.fault(fault, "list", skip=1, count=3, code=429)
    eventually(lambda: len(world.ion.journal("list")) > before + 12, "more sweeps", 60)
    status = eventually(
        lambda: (s := world.look("status"))["last_sweep"]["outcome"] == "complete" and s, "a complete sweep again", 60
    )
    assert status["last_sweep"]["customers"] == 30
    assert status["holds"]["review"] == 30
    assert world.ion.journal("update") == world.ion.journal("create") == []


@pytest.mark.parametrize("retry_after", ["2", None])
def test_429_slows_down_and_loses_nothing(make_world: MakeWorld, retry_after: str | None) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    world.ion.fault("status", "update", code=429, retry_after=retry_after)
    world.topics.edit("C1", company="After the throttle")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "After the throttle", "the edit in ION", 60)
    assert world.json("status")["budget_rate"] < 600


def test_a_dead_refresh_token_is_said_at_once_and_mended_by_pasting_one(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.environ["SYNCD_ION__REFRESH_TOKEN"] = "dead-and-gone"
    daemon = world.start()
    line = daemon.wait_for("token_refused")
    assert "syncd token set" in line
    assert "dead-and-gone" not in daemon.said()
    assert world.syncd("token", "status").returncode == 1
    world.topics.edit("C1", **customer())
    pasted = Process(
        ["token", "set", "--file", str(_file(world, "initial-refresh-token"))],
        world.environ,
        world.folder / "set.log",
    )
    assert pasted.wait(20) == 0
    world.linked("C1")
    assert "initial-refresh-token" not in daemon.said()


def _file(world: World, text: str) -> Path:
    path = world.folder / "pasted"
    path.write_text(text + "\n")
    return path


def test_a_second_daemon_on_one_sqlite_file_is_refused(make_world: MakeWorld, sqlite_url: str) -> None:
    world = make_world(database_url=sqlite_url, dialect="live", customers=0)
    world.start()
    second = world.syncd("run")
    assert second.returncode == 2
    assert "another daemon" in second.stderr
    assert "Traceback" not in second.stderr
    world.stop(signal.SIGKILL)
    world.start()


def test_a_database_newer_than_the_code_is_refused(make_world: MakeWorld, sqlite_url: str) -> None:
    world = make_world(database_url=sqlite_url, dialect="live", customers=0)
    assert world.syncd("db", "upgrade").returncode == 0
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    refused = world.syncd("run")
    assert refused.returncode == 2
    assert "newer" in refused.stderr
    assert world.syncd("db", "current").returncode == 1


def test_the_check_says_what_is_wrong_with_each_part(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=7)
    world.start()
    eventually(lambda: world.look("status")["last_sweep"], "a sweep")
    fine = world.syncd("check")
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert "Connected to TD SYNNEX ION: 7 customers visible" in fine.stdout
    world.environ["SYNCD_ION__ACCOUNT_ID"] = "666"
    wrong = world.syncd("check")
    assert wrong.returncode == 1
    assert "SYNCD_ION__ACCOUNT_ID" in wrong.stdout
    world.environ["SYNCD_KAFKA__BOOTSTRAP_SERVERS"] = "127.0.0.1:9"
    assert "no broker answers" in world.syncd("check").stdout


def test_a_deletion_in_the_crm_stops_the_pair_and_touches_ion_never(make_world: MakeWorld, dialect: str) -> None:
    world, ion_id = linked_world(make_world, dialect)
    world.wait_until_idle()
    calls = len(world.ion.journal("update"))
    world.topics.send("C1", None)
    world.topics.flush()
    eventually(lambda: world.look("links?state=deleted-in-crm"), "the link's state")
    world.ion.edit(ion_id, company="Edited after the deletion")
    sweeps = len(world.ion.journal("list"))
    eventually(lambda: len(world.ion.journal("list")) > sweeps + 3, "more sweeps")
    assert len(world.ion.journal("update")) == calls
    assert ion_id in world.ion.customers()
    assert [c for c in world.commands() if c["data"]["set"].get("company") == "Edited after the deletion"] == []


def test_a_command_that_the_crm_refuses_is_shown_and_not_repeated(make_world: MakeWorld) -> None:
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    world.ion.edit(ion_id, title="Chief")
    [command] = eventually(world.commands, "the command")
    event = {
        "type": "command-rejected",
        "id": "C1",
        "caused_by": command["id"],
        "customer": {"reason": "title is locked"},
    }
    world.topics.send("C1", event)
    world.topics.flush()
    assert "title is locked" in (eventually(lambda: _waits(world, "C1"), "it is set aside") or "")
    time.sleep(3)
    assert len(world.commands()) == 1


def test_bad_configuration_is_one_line_a_problem(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0)
    for name in ("SYNCD_KAFKA__BOOTSTRAP_SERVERS", "SYNCD_ION__ACCOUNT_ID"):
        del world.environ[name]
    bare = world.syncd("run")
    assert bare.returncode == 2
    assert len(bare.stderr.strip().splitlines()) == 2
    world.environ |= {"SYNCD_SYNC__TYE": "crm", "SYNCD_ION__CALLS_PER_MINUTE": "many"}
    wrong = world.syncd("run")
    assert wrong.returncode == 2
    assert "SYNCD_SYNC__TIE" in wrong.stderr
    assert "SYNCD_ION__CALLS_PER_MINUTE" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_nothing_listens_and_the_daemon_waits_patiently(make_world: MakeWorld) -> None:
    """ION away at the start: said, not fatal; work begins when it comes."""
    world = make_world(dialect="live", customers=2, calls_per_minute=600)
    there = world.environ["SYNCD_ION__URL"]
    world.environ["SYNCD_ION__URL"] = "http://127.0.0.1:9"
    daemon = world.start()
    assert "can't be reached" in daemon.wait_for("sweep_failed")
    assert http("GET", f"{world.address}/livez") == {"alive": True}
    world.stop()
    world.environ["SYNCD_ION__URL"] = there
    world.start()
    eventually(lambda: len(world.commands()) == 2, "both customers are asked of the CRM")


def test_a_difference_that_may_not_be_written_is_kept_and_counted(make_world: MakeWorld) -> None:
    """ION's status can't be set: the CRM's stays as it is, and the metrics say so."""
    world, ion_id = linked_world(make_world, "live")
    world.wait_until_idle()
    world.topics.edit("C1", status="inactive")
    counted = 'syncd_conflicts_total{field="status",rule="kept",winner="nobody"}'
    eventually(lambda: counted in world.metrics(), "the difference is counted")
    assert world.ion.customers()[ion_id]["status"] == "active"
    assert world.ion.journal("update") == []
